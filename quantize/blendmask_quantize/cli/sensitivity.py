"""`blendmask sensitivity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_quantize.cli.arguments import (
    CheckpointArgument,
    ClassesOption,
    ConfigOption,
    JsonOption,
    SizeOption,
    parse_patterns,
    parse_size,
)


def sensitivity(
    checkpoint: CheckpointArgument,
    calibration: Annotated[Path, typer.Option(help="Folder of calibration images.", show_default=False)],
    chart: Annotated[Path | None, typer.Option(metavar="OUT.png", help="PNG file of the chart to write.")] = None,
    config: ConfigOption = None,
    classes: ClassesOption = None,
    annotations: Annotated[
        Path | None, typer.Option(help="COCO instances JSON of the calibration images, to measure mask AP too.")
    ] = None,
    images: Annotated[int, typer.Option(help="Calibration images to hold out and compare on.", min=1)] = 8,
    variant: Annotated[
        list[str] | None, typer.Option(help="Graph whose quantizers are used; can be repeated. Default: all.")
    ] = None,
    size: SizeOption = None,
    count: Annotated[int, typer.Option(help="Largest number of calibration images.", min=1)] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the calibration sample.", min=0, max=2**63 - 1)] = 0,
    estimator: Annotated[str, typer.Option(help="Range estimator: max, percentile, entropy or mse.")] = "mse",
    ignored: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Layer that stays float: name, glob, or re:PATTERN; can be repeated."),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Override the refusal with this code; can be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what changes when one layer or block alone is quantized."""
    from blendmask_quantize.api.sensitivity import VARIANTS
    from blendmask_quantize.api.sensitivity import sensitivity as run
    from blendmask_quantize.cli import tables
    from blendmask_quantize.cli.sensitivity_table import show_sensitivity

    with tables.progress() as progress:
        report = run(
            checkpoint, calibration, chart, config=config, classes=classes, annotations=annotations, images=images,
            variants=tuple(variant or VARIANTS), size=parse_size(size), count=count, seed=seed, estimator=estimator,
            ignored=parse_patterns(ignored), allow=tuple(allow or ()), progress=progress,
        )  # fmt: skip
    show_sensitivity(report, checkpoint, calibration, chart, as_json=as_json)
