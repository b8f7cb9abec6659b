"""`visualize`: draw bases, attention and masks of an image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

from blendmask_edge.errors import OutputError
from blendmask_edge.imaging import check_image, read_image
from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    AnyConfig,
    check_checkpoint,
    check_classes,
    check_output,
    known_config,
    open_checkpoint,
)
from blendmask_quantize.api.values import as_path, check_all, number, whole
from blendmask_quantize.checkpoints.class_names import ClassNames
from blendmask_quantize.pipeline.options import PathLike

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KINDS = {"instances": whole(0), "score": number(0, 1)}
AnyImage = Union[PathLike, "NDArray[np.uint8]"]


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure of bases, attention and masks.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        shown: number of instances in the figure.
        detected: number of instances that the network detected.
    """

    pixels: NDArray[np.uint8]
    shown: int
    detected: int


def visualize(
    checkpoint: AnyCheckpoint, image: AnyImage, output: PathLike | None = None, *, config: AnyConfig = None,
    classes: ClassNames | None = None, instances: int = 6, score: float = 0.3,
) -> Figure:  # fmt: skip
    """Draw the bases of an image, and the attention and blended mask of each instance.

    Args:
        checkpoint: path of a checkpoint, or a loaded checkpoint.
        image: path of an image, or (H, W, 3) uint8 RGB.
        output: path of the PNG file to write; None writes no file.
        config: configuration of a checkpoint that does not store its own, as for `load_checkpoint`.
        classes: class names of a checkpoint that does not store its own, as for `load_checkpoint`.
        instances: largest number of instances, 0 or more; those with the highest scores are shown.
        score: least score of an instance, 0 to 1.

    Returns:
        The figure.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ImageError: the image cannot be read.
        ConfigError: an argument has a wrong type or is out of range, or the configuration is unknown.
        OutputError: the name does not end in .png, or the file cannot be written.
    """
    check_all(_KINDS, {"instances": instances, "score": score})
    check_checkpoint(checkpoint)
    known_config(checkpoint, config)
    labels = check_classes(checkpoint, classes)
    if output is not None:
        _check_figure(as_path("output", output), image)
    pixels = read_image(image) if isinstance(image, (str, os.PathLike)) else check_image(image)
    name = Path(image).name if isinstance(image, (str, os.PathLike)) else "image"
    from blendmask_quantize.figures.figure import draw_figure, write_figure
    from blendmask_quantize.figures.stages import run_stages

    loaded = open_checkpoint(checkpoint, config, labels)
    stages = run_stages(loaded, pixels)
    shown = stages.best(instances, score)
    figure = draw_figure(shown, loaded.config, name)
    if output is not None:
        write_figure(Path(output), figure)
    return Figure(figure, len(shown.instances), len(stages.instances))


def _check_figure(output: Path, image: object) -> None:
    if output.suffix.lower() != ".png":
        raise OutputError(f"the figure {output} must be a PNG file: give a name that ends in .png")
    check_output(output, "figure.png", inputs=(image,))
