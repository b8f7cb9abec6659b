"""`blendmask bench`."""

from pathlib import Path
from typing import Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument, JsonOption, ThreadsOption
from blendmask_edge.cli.output import print_json, print_lines, say, tracked


def bench(
    bundle: BundleArgument,
    images: Annotated[Path, typer.Option(help="Folder of images.", show_default=False)],
    annotations: Annotated[Path, typer.Option(help="COCO instances JSON of the images.", show_default=False)],
    baseline: Annotated[Optional[Path], typer.Option(metavar="F.json", help="Baseline to compare with.")] = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help="Write the baseline.")] = False,
    accuracy_only: Annotated[bool, typer.Option("--accuracy-only", help="Compare accuracy only.")] = False,
    runtime: Annotated[str, typer.Option(help="Runtime; auto takes the fastest.")] = "auto",
    threads: ThreadsOption = None,
    variant: Annotated[
        Optional[str], typer.Option(help="Graph of the bundle: cpu, tensorrt or float. Default: the runtime's choice.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Least number of timed frames.", min=1)] = 200,
    record: Annotated[
        Optional[Path], typer.Option(metavar="DIR", help="Append a record of this run to a folder.")
    ] = None,
    label: Annotated[str, typer.Option(help="Name of this run in the history. Default: the commit.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy and speed in one run, and compare them with a baseline.

    Exit code 3: a metric is outside its limits. Exit code 4: other processes disturbed each of three runs.
    """
    from blendmask_edge.benchmark.gate import require_within
    from blendmask_edge.benchmark.run import Request, run
    from blendmask_edge.cli import bench_report as report

    request = Request(
        bundle, images, annotations, runtime, threads, variant, frames, baseline, update_baseline, accuracy_only,
        record, label,
    )  # fmt: skip
    outcome = run(request, lambda frames: tracked(frames, "Measuring"))
    if as_json:
        print_json(report.as_document(outcome))
    else:
        print_lines(report.report_lines(outcome) + report.change_lines(outcome.changes))
    if outcome.recorded is not None and not as_json:
        say(f"Recorded as {outcome.recorded}; see the trend with: blendmask report {record}")
    if not update_baseline:
        require_within(outcome.changes, outcome.disturbances)
    if not as_json:
        print_lines(report.closing_lines(request))
