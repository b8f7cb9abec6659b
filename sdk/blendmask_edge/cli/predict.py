"""`blendmask predict`."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument, JsonOption, ThreadsOption
from blendmask_edge.cli.command_group import FAILED, INTERRUPTED
from blendmask_edge.cli.output import one_line, print_json, print_lines, say, tracked, warn

if TYPE_CHECKING:
    from blendmask_edge.cli.predict_files import Predictions
    from blendmask_edge.cli.window import Window

_LOW = 0.1


def predict(
    bundle: BundleArgument,
    images: Annotated[
        List[str],
        typer.Argument(metavar="IMAGE...", help="Images, folders of them, videos, cameras by number, or URLs."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for overlays and results.")] = Path("out"),
    score: Annotated[
        Optional[float], typer.Option(help="Least score, 0 to 1. Default: the bundle's display threshold.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="Runtime; auto takes the fastest, measured once.")] = "auto",
    threads: ThreadsOption = None,
    variant: Annotated[
        Optional[str], typer.Option(help="Graph of the bundle: cpu, tensorrt or float. Default: the runtime's choice.")
    ] = None,
    agnostic_nms: Annotated[
        bool, typer.Option("--agnostic-nms", help="Suppress overlapping instances across classes.")
    ] = False,
    classes: Annotated[
        Optional[List[str]],
        typer.Option("--class", metavar="NAME", help="Class to predict; can be repeated. Default: all."),
    ] = None,
    tiled: Annotated[
        bool, typer.Option("--tiled", help="Predict images in tiles of the network's input size, for small instances.")
    ] = False,
    track: Annotated[
        bool, typer.Option("--track", help="Give instances of videos and cameras the same id in each frame.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Show videos and cameras in a window; q or Esc ends the video.")
    ] = False,
    require_signature: Annotated[
        Optional[List[Path]],
        typer.Option(
            metavar="PUBLIC.pem", help="Refuse a bundle that this key did not sign; several are alternatives."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict instances in images, videos and cameras; write overlays and COCO JSON."""
    from blendmask_edge.cli.sources import find_sources

    files = find_sources(images)
    from blendmask_edge.cli.predict_files import INSTANCES_NAME, Options, predict_files
    from blendmask_edge.predictor import MaskPredictor
    from blendmask_edge.selection import check_classes

    with contextlib.ExitStack() as stack:
        window = stack.enter_context(_window()) if show else None
        predictor = stack.enter_context(
            MaskPredictor(bundle, runtime, threads, score, variant, agnostic_nms, require_signature or None)
        )
        options = Options(classes or None, tiled, track, window.show if window else None)
        check_classes(options.classes, predictor.manifest.classes)
        predictions = predict_files(predictor, tracked(files, "Predicting"), output, warn, options)
    if not predictions.images:
        raise typer.Exit(_exit_code(predictions, len(files)))
    document = predictions.as_coco()
    if as_json:
        failed = [{"file_name": str(file), "error": message} for file, message in predictions.failures]
        print_json({"output": str(output), "failed": failed, **document})
    else:
        print_lines(f"{source}: {report}" for source, report in predictions.reports)
        say(_found(document, predictor.score_threshold))
        say(f"Saved overlays and {INSTANCES_NAME} to {output}")
        say(f"Next: blendmask info {bundle}")
    raise typer.Exit(_exit_code(predictions, len(files)))


@contextlib.contextmanager
def _window() -> "Iterator[Window]":
    from blendmask_edge.cli.window import Window

    window = Window()
    try:
        yield window
    finally:
        window.close()


def _exit_code(predictions: "Predictions", files: int) -> int:
    """Return the exit code, and say why it is not 0 where that was not said."""
    if predictions.images and predictions.failures:
        warn(f"{len(predictions.failures)} of {files} files failed; the results cover the others.")
    if predictions.interrupted:
        warn(f"interrupted; the results cover {len(predictions.images)} images")
        return INTERRUPTED
    return FAILED if predictions.failures else 0


def _found(document: Dict[str, Any], threshold: float) -> str:
    """Say what was found, and what to try where nothing was."""
    images, count = len(document["images"]), len(document["annotations"])
    if count:
        return f"{count} instances of score {threshold:.2g} or more in {images} images{_counts(document)}"
    advice = " Try a lower --score, e.g. 0.1." if threshold > _LOW else " Are they images of what it was trained for?"
    return f"No instance of score {threshold:.2g} or more in {images} images.{advice}"


def _counts(document: Dict[str, Any]) -> str:
    names = {category["id"]: one_line(category["name"]) for category in document["categories"]}
    counts: Dict[str, int] = {}
    for annotation in document["annotations"]:
        name = names[annotation["category_id"]]
        counts[name] = counts.get(name, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ": " + ", ".join(f"{count} {name}" for name, count in ordered)
