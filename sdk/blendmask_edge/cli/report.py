"""`blendmask report`."""

from pathlib import Path
from typing import List, Optional

import typer

from blendmask_edge.cli.arguments import Annotated, ThreadsOption
from blendmask_edge.cli.output import say, tracked


def report(
    files: Annotated[
        List[str],
        typer.Argument(metavar="F...", help="Bundles (M.bmz, M.bmz:GRAPH), JSON files of bench, folders of records."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="F.html", help="Page to write, .html or .md.")
    ] = Path("report.html"),
    images: Annotated[Optional[Path], typer.Option(help="Folder of images to measure bundles on.")] = None,
    annotations: Annotated[Optional[Path], typer.Option(help="COCO instances JSON of the images.")] = None,
    runtime: Annotated[str, typer.Option(help="Runtime of bundles; auto takes the fastest.")] = "auto",
    threads: ThreadsOption = None,
    score: Annotated[
        Optional[float], typer.Option(help="Changed instances count from this score. Default: the bundle's.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Least number of timed frames.", min=1)] = 200,
) -> None:
    """Write accuracy, speed, layers, changed detections and history into one page."""
    from blendmask_edge.report.api import write_report

    written = write_report(
        files,
        output,
        images,
        annotations,
        runtime,
        threads,
        frames,
        lambda ids: tracked(ids, "Measuring"),
        score,
    )
    say(f"Saved the report to {written}")
