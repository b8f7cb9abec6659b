"""`blendmask predict`."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument, JsonOption, ThreadsOption
from blendmask_edge.cli.command_group import FAILED, INTERRUPTED
from blendmask_edge.cli.output import counted, one_line, print_json, print_lines, say, tracked, warn

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
    processes: Annotated[int, typer.Option(help="Processes for images, on this machine.", min=1, max=256)] = 1,
    ray: Annotated[
        Optional[str],
        typer.Option(metavar="ADDRESS", help="Ray cluster to use for images instead: HOST:PORT, auto or local."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict instances in images, videos and cameras; write overlays and COCO JSON."""
    from blendmask_edge.cli.sources import find_sources, is_video, name_of

    files = find_sources(images)
    from blendmask_edge.arguments.prediction import check_classes
    from blendmask_edge.cli.predict_files import Options, predict_files
    from blendmask_edge.cli.predict_many import Place, predict_many
    from blendmask_edge.execution.choice import choose_executor, worker_threads
    from blendmask_edge.imaging.opencv import load_opencv
    from blendmask_edge.predictor import MaskPredictor

    executor = choose_executor(processes, ray, threads)
    for name in ["--show"] * show + [name_of(source) for source in files if is_video(source)]:
        load_opencv(name)
    with contextlib.ExitStack() as stack:
        window = stack.enter_context(_window()) if show else None
        predictor = stack.enter_context(MaskPredictor(bundle, runtime, threads, score, variant, agnostic_nms))
        options = Options(classes or None, tiled, track, window.show if window else None)
        check_classes(options.classes, predictor.manifest.classes)
        if processes > 1 or ray is not None:
            on_image = stack.enter_context(counted(len(files), "Predicting"))
            place = Place(executor, worker_threads(processes, ray, threads), on_image)
            predictions = predict_many(predictor, files, output, warn, options, place)
        else:
            predictions = predict_files(predictor, tracked(files, "Predicting"), output, warn, options)
    if predictions.image_count and as_json:
        _print_document(predictions, output)
    elif predictions.image_count:
        _say_results(predictions, predictor.score_threshold, output)
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
    if predictions.image_count and predictions.failures:
        warn(f"{_failed(predictions, files)} failed; the results cover the others.")
    if predictions.interrupted:
        warn(f"interrupted; the results cover {predictions.image_count} images")
        return INTERRUPTED
    return FAILED if predictions.failures else 0


def _failed(predictions: "Predictions", files: int) -> str:
    """Count the files and frames without result."""
    frames = predictions.failed_frames
    failed = len(predictions.failures) - frames
    counts = [f"{failed} of {files} files"] * bool(failed) + [f"{frames} frame{'s' * (frames > 1)}"] * bool(frames)
    return " and ".join(counts)


def _print_document(predictions: "Predictions", output: Path) -> None:
    """Print the COCO JSON that was written, and the files that failed."""
    from blendmask_edge.cli.predict_files import INSTANCES_NAME
    from blendmask_edge.cli.sources import name_of

    failed = [{"file_name": name_of(file), "error": message} for file, message in predictions.failures]
    document = json.loads((output / INSTANCES_NAME).read_bytes())
    print_json({"output": str(output), "failed": failed, **document})


def _say_results(predictions: "Predictions", threshold: float, output: Path) -> None:
    from blendmask_edge.cli.predict_files import INSTANCES_NAME
    from blendmask_edge.cli.sources import name_of

    print_lines(f"{name_of(source)}: {report}" for source, report in predictions.reports)
    say(_describe_counts(predictions, threshold))
    say(f"Saved overlays and {INSTANCES_NAME} to {output}")


def _describe_counts(predictions: "Predictions", threshold: float) -> str:
    """Count the instances by class, or say what to try where there are none."""
    images, count = predictions.image_count, sum(predictions.counts.values())
    where = "1 image" if images == 1 else f"{images} images"
    if count:
        what = "1 instance" if count == 1 else f"{count} instances"
        return f"{what} of score {threshold:.2g} or more in {where}: {_counts(predictions)}"
    advice = " Try a lower --score, e.g. 0.1." if threshold > _LOW else " Are they images of what it was trained for?"
    return f"No instance of score {threshold:.2g} or more in {where}.{advice}"


def _counts(predictions: "Predictions") -> str:
    names = {category["id"]: one_line(category["name"]) for category in predictions.categories}
    ordered = sorted(predictions.counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {names[category]}" for category, count in ordered)
