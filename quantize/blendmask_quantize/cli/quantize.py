"""`blendmask quantize`."""

from __future__ import annotations

from pathlib import Path

import typer

from blendmask_edge.cli.output import warn
from blendmask_quantize.cli import quantize_options as option
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


def quantize(
    checkpoint: CheckpointArgument,
    calibration: option.Calibration,
    output: option.Output,
    config: ConfigOption = None,
    classes: ClassesOption = None,
    recipe: option.Recipe = "ptq",
    annotations: option.Annotations = None,
    macs: option.Macs = None,
    parameters: option.Parameters = None,
    latency: option.Latency = None,
    runtime: option.Runtime = None,
    protect: option.Protect = None,
    prune_iterations: option.PruneIterations = None,
    iterations: option.Iterations = None,
    learning_rate: option.LearningRate = None,
    teacher: option.Teacher = None,
    resume: option.Resume = False,
    estimator: option.Estimator = None,
    steps: option.Steps = None,
    ignored: option.Ignored = None,
    max_drop: option.MaxDrop = None,
    max_float_macs: option.MaxFloatMacs = None,
    size: SizeOption = None,
    detections: option.Detections = 100,
    candidates: option.Candidates = 512,
    count: option.Count = None,
    seed: option.Seed = None,
    allow: option.Allow = None,
    eval_images: option.EvalImages = None,
    eval_annotations: option.EvalAnnotations = None,
    arithmetic: option.Arithmetic = False,
    keep_float: option.KeepFloat = False,
    torch_tensorrt: option.TorchTensorRT = None,
    license: option.License = "unspecified",
    processes: option.Processes = 1,
    ray: option.RayAddress = None,
    explain: option.Explain = False,
    as_json: JsonOption = False,
) -> None:
    """Make an INT8 bundle from a checkpoint and calibration images, and measure it."""
    from blendmask_quantize.api.quantize import explain as describe
    from blendmask_quantize.api.quantize import quantize as run
    from blendmask_quantize.cli import tables
    from blendmask_quantize.pipeline.options import QuantizeOptions

    options = QuantizeOptions(
        size=parse_size(size), detections=detections, candidates=candidates, count=count, seed=seed,
        estimator=estimator, steps=_parse_steps(steps), ignored=parse_patterns(ignored), allow=tuple(allow or ()),
        max_drop=parse_share(max_drop), max_float_macs=parse_share(max_float_macs),
        evaluation=_pair(eval_images, eval_annotations), arithmetic=arithmetic, annotations=annotations,
        iterations=iterations, learning_rate=learning_rate, teacher=teacher, macs=macs, parameters=parameters,
        latency=latency, runtime=runtime, protect=tuple(protect or ()), prune_iterations=prune_iterations,
        resume=resume, keep_float=keep_float, torch_tensorrt=torch_tensorrt, license=license,
        processes=processes, ray=ray,
    )  # fmt: skip
    if explain:
        with tables.progress() as progress:
            plan = describe(
                checkpoint, calibration, output, recipe, config=config, classes=classes, options=options,
                progress=progress,
            )  # fmt: skip
        tables.show_plan(plan, as_json=as_json)
        return
    with tables.progress() as progress:
        report = run(
            checkpoint, calibration, output, recipe, config=config, classes=classes, options=options, progress=progress
        )
    tables.show_report(report, as_json=as_json)
    if report.unmeasured:
        warn(f"accuracy could not be measured ({report.unmeasured}): {report.how_to_measure}")
    if report.not_compiled:
        warn(f"the bundle is complete, but the network could not be compiled: {report.not_compiled}")
    if report.unmeasured or report.not_compiled:
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
