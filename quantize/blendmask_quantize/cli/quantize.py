"""`blendmask quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blendmask_edge.cli.output import warn
from blendmask_quantize.cli.arguments import (
    CheckpointArgument,
    ClassesOption,
    ConfigOption,
    JsonOption,
    SizeOption,
    parse_patterns,
    parse_share,
    parse_size,
)

if TYPE_CHECKING:
    pass


def quantize(
    checkpoint: CheckpointArgument,
    calibration: Annotated[Path, typer.Option(help="Folder of calibration images.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="M.bmz", help="Bundle to write.", show_default=False)
    ],
    config: ConfigOption = None,
    classes: ClassesOption = None,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.yaml",
            help="ptq: calibrate. qat: train with fake quantizers. edge: prune, fine-tune, then qat. "
            "edge-sparse: the same with 2:4 sparse weights. Or a recipe file.",
        ),
    ] = "ptq",
    annotations: Annotated[
        Path | None, typer.Option(help="qat, edge, --max-drop: COCO instances JSON of the calibration images.")
    ] = None,
    macs: Annotated[
        float | None, typer.Option(help="edge: share of the multiply-accumulates to keep. Default: 0.7.")
    ] = None,
    parameters: Annotated[float | None, typer.Option(help="edge: share of the parameters to keep, instead.")] = None,
    latency: Annotated[
        float | None, typer.Option(help="edge: share of the INT8 graph's time on this machine to keep, instead.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="--latency: runtime to time, onnxruntime or openvino. Default: onnxruntime.")
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="edge: layer that is not pruned: name, glob, or re:PATTERN; repeatable."),
    ] = None,
    prune_iterations: Annotated[
        int | None, typer.Option(help="edge: fine-tuning steps after pruning. Default: 1000.", min=0)
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="qat, edge: QAT steps. Default: 400.", min=1)] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="qat, edge: peak learning rate of QAT. Default: 5e-6.", min=0)
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="qat: checkpoint to learn from, such as that before pruning. Default: CKPT.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run with this output.")] = False,
    estimator: Annotated[
        str | None,
        typer.Option(
            help="Range estimator: max, percentile, entropy, mse, or auto for the best per tensor. Default: mse."
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="A,B", help="Refinement steps, or none. Default: those of the recipe.")
    ] = None,
    ignored: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Layer that stays float: name, glob, or re:PATTERN; can be repeated."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Largest drop of mask AP, e.g. 1% or 0.01: layers go back to float until it holds on held-out images.",
        ),
    ] = None,
    max_float_macs: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Largest share of MACs in float for --max-drop. Default: 50%.")
    ] = None,
    size: SizeOption = None,
    detections: Annotated[int, typer.Option(help="Largest number of instances per image.", min=1, max=100)] = 100,
    count: Annotated[
        int | None, typer.Option(help="Largest number of calibration images. Default: 128.", min=1)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the calibration sample. Default: 0.", min=0, max=2**63 - 1)
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Override the refusal with this code; can be repeated.")
    ] = None,
    eval_images: Annotated[Path | None, typer.Option(help="Folder of images to measure accuracy on.")] = None,
    eval_annotations: Annotated[Path | None, typer.Option(help="COCO instances JSON of these images.")] = None,
    keep_float: Annotated[bool, typer.Option("--keep-float", help="Include the float graph in the bundle.")] = False,
    license: Annotated[str, typer.Option(help="SPDX name of the model's license.")] = "unspecified",
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the plan, expected work and layers left in float; do nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an INT8 bundle from a checkpoint and calibration images, and measure it."""
    from blendmask_quantize.api.quantize import explain as describe
    from blendmask_quantize.api.quantize import quantize as run
    from blendmask_quantize.cli import tables
    from blendmask_quantize.pipeline.options import QuantizeOptions

    options = QuantizeOptions(
        size=parse_size(size), detections=detections, count=count, seed=seed, estimator=estimator,
        steps=_parse_steps(steps), ignored=parse_patterns(ignored), allow=tuple(allow or ()),
        max_drop=parse_share(max_drop), max_float_macs=parse_share(max_float_macs),
        evaluation=_pair(eval_images, eval_annotations), annotations=annotations, iterations=iterations,
        learning_rate=learning_rate, teacher=teacher, macs=macs, parameters=parameters, latency=latency,
        runtime=runtime, protect=tuple(protect or ()), prune_iterations=prune_iterations, resume=resume,
        keep_float=keep_float, license=license,
    )  # fmt: skip
    if explain:
        plan = describe(checkpoint, calibration, output, recipe, config=config, classes=classes, options=options)
        tables.show_plan(plan, as_json=as_json)
        return
    with tables.progress() as progress:
        report = run(
            checkpoint, calibration, output, recipe, config=config, classes=classes, options=options, progress=progress
        )
    tables.show_report(report, as_json=as_json)
    if report.unmeasured:
        warn(f"accuracy could not be measured ({report.unmeasured}): {report.how_to_measure}")
        raise typer.Exit(1)


def _parse_steps(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(name.strip() for name in text.split(","))


def _pair(images: Path | None, annotations: Path | None) -> tuple[Path, Path] | None:
    if images is None and annotations is None:
        return None
    if images is None or annotations is None:
        raise typer.BadParameter("give both --eval-images and --eval-annotations")
    return images, annotations
