"""`blendmask`: a thin table of commands, each a call into a library function."""

# No postponed annotations in this file: on Python 3.8 and 3.9 typer would not see what `Annotated` adds.
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, TypeVar

import typer

from blendmask_edge.cli.command_group import FAILED, CommandGroup

if sys.version_info >= (3, 9):
    from typing import Annotated
else:
    from typing_extensions import Annotated

app = typer.Typer(
    cls=CommandGroup,
    help="Instance masks by BlendMask on edge devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BundleArgument = Annotated[Path, typer.Argument(metavar="M.bmz", help="The bundle.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
TargetOption = Annotated[str, typer.Option(metavar="T", help="A name of `blendmask targets`.", show_default=False)]
PrecisionOption = Annotated[str, typer.Option(help="int8, fp16 or fp32.")]
Item = TypeVar("Item")


def _print_version(asked: bool) -> None:
    if asked:
        from blendmask_edge import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version


@app.command()
def predict(
    bundle: BundleArgument,
    images: Annotated[List[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("out"),
    score: Annotated[Optional[float], typer.Option(help="Least score, 0 to 1; the bundle's if left out.")] = None,
    runtime: Annotated[str, typer.Option(help="Runtime; auto takes the quickest, measured once.")] = "auto",
    threads: Annotated[Optional[int], typer.Option(help="Threads; the runtime's choice if left out.")] = None,
    variant: Annotated[Optional[str], typer.Option(help="Graph of the bundle: cpu, float.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find instances in images; write overlays and COCO JSON."""
    from blendmask_edge.cli.predict_files import INSTANCES_NAME, find_images, predict_files
    from blendmask_edge.predictor import MaskPredictor

    files = find_images(images)
    with MaskPredictor(bundle, runtime, threads, score, variant) as predictor:
        document = predict_files(predictor, _tracked(files), output)
    if as_json:
        _print_json({"output": str(output), **document})
        return
    typer.echo(f"{len(document['annotations'])} instances in {len(files)} images{_counts(document)}")
    typer.echo(f"Overlays and {INSTANCES_NAME} lie in {output}")
    typer.echo(f"Next: blendmask info {bundle}")


@app.command()
def info(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Show what a bundle holds, how it was made and how good it is."""
    from blendmask_edge.bundle.manifest import encode_manifest
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.bundle.summary import summarize

    opened = Bundle.open(bundle)
    if as_json:
        typer.echo(encode_manifest(opened.manifest).decode())
        return
    for label, text in summarize(opened):
        typer.echo(f"{label:<19}{text}")
    typer.echo(f"Next: blendmask predict {bundle} IMAGE...")


@app.command()
def bench(
    bundle: BundleArgument,
    images: Annotated[Path, typer.Option(help="Folder of the images.", show_default=False)],
    annotations: Annotated[Path, typer.Option(help="Their COCO instances JSON.", show_default=False)],
    baseline: Annotated[Optional[Path], typer.Option(metavar="F.json", help="Baseline to compare with.")] = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help="Write the baseline anew.")] = False,
    accuracy_only: Annotated[bool, typer.Option("--accuracy-only", help="Compare accuracy, not time.")] = False,
    runtime: Annotated[str, typer.Option(help="Runtime; auto chooses.")] = "auto",
    threads: Annotated[Optional[int], typer.Option(help="Threads; the runtime's choice if left out.")] = None,
    variant: Annotated[Optional[str], typer.Option(help="Graph of the bundle; the runtime's own if left out.")] = None,
    frames: Annotated[int, typer.Option(help="Least number of timed frames.", min=1)] = 200,
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy and speed in one run; fail where they left the limits of a baseline."""
    from blendmask_edge.benchmark import report
    from blendmask_edge.benchmark.gate import require_within
    from blendmask_edge.benchmark.run import Request, run

    request = Request(
        bundle, images, annotations, runtime, threads, variant, frames, baseline, update_baseline, accuracy_only
    )
    outcome = run(request, lambda frames: _tracked(frames, "Measuring"))
    if as_json:
        _print_json(report.as_document(outcome))
    else:
        _print_lines(report.report_lines(outcome) + report.change_lines(outcome.changes))
    if not update_baseline:
        require_within(outcome.changes)
    if not as_json:
        _print_lines(report.closing_lines(request))


@app.command()
def targets(
    target: Annotated[Optional[str], typer.Argument(metavar="[T]", help="One target, in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the devices that bundles can be checked against, or all that is known of one, with sources."""
    from blendmask_edge.devices import report
    from blendmask_edge.devices.table import load_table

    table = load_table()
    found = table.find(target) if target is not None else None
    if as_json:
        _print_json(table if found is None else report.target_document(table, found))
        return
    _print_lines(report.list_targets(table) if found is None else report.describe_target(table, found))
    typer.echo(f"Next: blendmask check M.bmz --target {found.name if found else 'T'}")


@app.command("check")
def check_target(
    bundle: BundleArgument,
    target: TargetOption,
    precision: PrecisionOption = "int8",
    tensorrt: Annotated[Optional[str], typer.Option(metavar="V", help="Version; the target's if left out.")] = None,
    runtime: Annotated[Optional[str], typer.Option(help="Runtime; the target's if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a bundle can run on a device, why, and which way works; 0 is yes, 1 is no."""
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.devices import report
    from blendmask_edge.devices.check import check
    from blendmask_edge.devices.verdict import as_options

    verdict = check(Bundle.open(bundle), target, as_options(precision, tensorrt, runtime))
    if as_json:
        _print_json(verdict)
    else:
        _print_lines(report.describe_verdict(verdict))
        _print_lines(report.next_steps(verdict, bundle))
    raise typer.Exit(0 if verdict.ok else FAILED)


@app.command("compile")
def compile_engine(
    bundle: BundleArgument,
    target: TargetOption,
    precision: PrecisionOption = "int8",
    workspace: Annotated[Optional[int], typer.Option(metavar="MIB", help="Most memory for one layer.", min=1)] = None,
    runtime: Annotated[str, typer.Option(help="tensorrt or torch_tensorrt.")] = "tensorrt",
    as_json: JsonOption = False,
) -> None:
    """Compile a bundle for the device that this runs on, by TensorRT or Torch-TensorRT, into the cache."""
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.compilation.arguments import CompileOptions
    from blendmask_edge.compilation.compile import compile_bundle
    from blendmask_edge.devices.verdict import as_precision

    options = CompileOptions(as_precision(precision), workspace, runtime.replace("-", "_"))
    engine = compile_bundle(Bundle.open(bundle), target, options=options)
    if as_json:
        _print_json(engine)
        return
    typer.echo(f"The engine lies in {engine.path}" + (", built before" if engine.reused else ""))
    typer.echo(f"Next: blendmask predict {bundle} IMAGE... --runtime {options.runtime}")


def main() -> None:
    """Run the command line; exits with 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""
    app(prog_name="blendmask")


def _tracked(items: Sequence[Item], doing: str = "Predicting") -> Iterable[Item]:
    """Show progress on stderr where someone watches."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, doing, console=Console(stderr=True), transient=True)


def _counts(document: Dict[str, Any]) -> str:
    from blendmask_edge.bundle.summary import plain

    names = {category["id"]: plain(category["name"]) for category in document["categories"]}
    counts: Dict[str, int] = {}
    for annotation in document["annotations"]:
        name = names[annotation["category_id"]]
        counts[name] = counts.get(name, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ": " + ", ".join(f"{count} {name}" for name, count in ordered) if ordered else ""


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _print_json(document: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(document, enc_hook=str).decode())
