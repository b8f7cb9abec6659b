"""`sensitivity`: measure what quantizing each layer or block alone changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blendmask_edge.errors import ConfigError, OutputError
from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    AnyConfig,
    Source,
    as_dataset,
    as_progress,
    check_annotations,
    check_checkpoint,
    check_classes,
    check_output,
    check_size,
    known_config,
    open_checkpoint,
)
from blendmask_quantize.api.values import PATH, PATTERN, SIZE, TEXT, as_path, check_all, each, whole
from blendmask_quantize.checkpoints.class_names import ClassNames
from blendmask_quantize.figures.sensitivity_chart import Bar, check_matplotlib, write_sensitivity_chart
from blendmask_quantize.model.input_size import input_size
from blendmask_quantize.model.patterns import Pattern
from blendmask_quantize.pipeline.calibration_set import check_calibration_settings
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.pipeline.settings import CalibrationSettings
from blendmask_quantize.runs.progress import Progress

if TYPE_CHECKING:
    from blendmask_quantize.pipeline.sensitivity import LayerSensitivity, SensitivityReport

VARIANTS = ("cpu", "tensorrt")
_KINDS = {
    "annotations": PATH.or_none(), "chart": PATH.or_none(), "size": SIZE.or_none(), "images": whole(1),
    "variants": each(TEXT, "names of variants"), "ignored": each(PATTERN, "names or patterns of layers"),
    "allow": each(TEXT, "codes of checks"), "count": whole(1), "seed": whole(0), "estimator": TEXT,
}  # fmt: skip


def sensitivity(
    checkpoint: AnyCheckpoint, calibration: Source, chart: PathLike | None = None, *, config: AnyConfig = None,
    classes: ClassNames | None = None, annotations: PathLike | None = None, images: int = 8,
    variants: Sequence[str] = VARIANTS, size: tuple[int, int] | None = None, count: int = 128, seed: int = 0,
    estimator: str = "mse", ignored: Sequence[Pattern] = (), allow: Sequence[str] = (),
    progress: Progress | None = None,
) -> SensitivityReport:  # fmt: skip
    """Measure what changes on held-out images when one layer or block alone is quantized.

    Args:
        checkpoint: path of a checkpoint, or a loaded checkpoint.
        calibration: folder of images, `CalibrationDataset`, or iterable of images, (H, W, 3) uint8 RGB.
        chart: path of the PNG file to write; None writes no file.
        config: configuration of a checkpoint that does not store its own, as for `load_checkpoint`.
        classes: class names of a checkpoint that does not store its own, as for `load_checkpoint`.
        annotations: COCO instances JSON of the calibration images, to measure mask AP too.
        images: number of calibration images to hold out, 1 or more.
        variants: graphs whose quantizers are used; changes are means over them.
        size, count, seed, estimator, ignored, allow: as in `QuantizeOptions`.
        progress: callback, as for `quantize`.

    Returns:
        The change of masks, scores and mask AP by layer and by block, most sensitive first.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        CalibrationError: a check refuses the images, or too few can be held out.
        ConfigError: an argument is invalid.
        AnnotationError: the annotations cannot be read, or do not match the images or the classes.
        DependencyError: a chart is requested and matplotlib is not installed.
        OutputError: the chart cannot be written.

    Example:
        >>> from blendmask_quantize import sensitivity
        >>> report = sensitivity("checkpoint.safetensors", "images", images=1, variants=("cpu",), allow=("few-images",))
        >>> first, last = report.layers[0].change, report.layers[-1].change
        >>> first.total >= last.total
        True
    """
    given = {
        "annotations": annotations, "chart": chart, "size": size, "images": images, "variants": variants,
        "ignored": ignored, "allow": allow, "count": count, "seed": seed, "estimator": estimator,
    }  # fmt: skip
    check_all(_KINDS, given)
    check_checkpoint(checkpoint)
    _check_variants(variants)
    settings = CalibrationSettings(count, seed, estimator)
    check_calibration_settings(settings, allow)
    check_size(known_config(checkpoint, config), size)
    labels, on_stage, dataset = check_classes(checkpoint, classes), as_progress(progress), as_dataset(calibration)
    if annotations is not None:
        check_annotations(Path(annotations), "an instances JSON of the calibration images")
    if chart is not None:
        _check_chart(as_path("chart", chart), checkpoint, config, annotations)
    from blendmask_quantize.pipeline.sensitivity import SensitivityJob, measure_sensitivity

    loaded = open_checkpoint(checkpoint, config, labels, [] if annotations is None else [annotations])
    job = SensitivityJob(
        loaded, dataset, annotations, settings, input_size(loaded.config.input, size), images, tuple(variants),
        tuple(ignored), tuple(allow), on_stage,
    )  # fmt: skip
    report = measure_sensitivity(job)
    if chart is not None:
        title = f"{loaded.config.name}: {report.images} held-out images, {' and '.join(report.variants)}"
        parts = [("blocks", _bars(report.blocks)), ("layers", _bars(report.layers))]
        write_sensitivity_chart(Path(chart), title, parts)
    return report


def _check_variants(variants: Sequence[str]) -> None:
    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown or not variants:
        raise ConfigError(f"variants is {tuple(variants)!r:.80}, expected some of {', '.join(VARIANTS)}")


def _check_chart(chart: Path, *inputs: object) -> None:
    if chart.suffix.lower() != ".png":
        raise OutputError(f"the chart {chart} must be a PNG file: give a name that ends in .png")
    check_output(chart, "sensitivity.png", inputs=inputs)
    check_matplotlib()


def _bars(entries: Sequence[LayerSensitivity]) -> list[Bar]:
    changes = [(entry, entry.change) for entry in entries]
    return [Bar(e.name, e.macs_share, change.masks, change.scores, change.spurious) for e, change in changes]
