"""`train`: from labeled images to a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from blendmask_edge.errors import AnnotationError
from blendmask_quantize.checkpoints.adelaidet_yaml import find_config
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.runs.progress import Progress, silent
from blendmask_quantize.training import loop
from blendmask_quantize.training.data import CocoImages, ViewStream, read_coco
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.start import starting_model

Paths = str | Path | Iterable[str | Path]


def train(
    images: Paths, annotations: Paths, output: str | Path, *, config: str | Path | ModelConfig = "LITE0_RT",
    weights: str | Path | None = None, options: TrainOptions | None = None, resume: bool = False,
    progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Train a network on COCO instances.

    Args:
        images: folder of images, or several.
        annotations: COCO instances JSON, one a folder.
        output: folder of the run.
        config: a configuration, its name, or one of the reference's YAML files.
        weights: checkpoint to start from; None takes an ImageNet backbone.
        options: the schedule; None takes the defaults.
        resume: go on where a run in this folder was interrupted.
        progress: called with the name and the number of steps of each stage; returns a callable for each step.

    Returns:
        The path of the checkpoint.

    Raises:
        AnnotationError: the annotations cannot be read, or do not fit the images.
        CheckpointError: the weights do not fit, or the folder holds another run.
    """
    folders, files = _paths(images), _paths(annotations)
    if len(folders) != len(files):
        raise AnnotationError(f"{len(folders)} folders and {len(files)} annotation files: give one file a folder")
    chosen = options or TrainOptions()
    wanted = replace(find_config(config), num_classes=len(read_coco(files[0]).cats))
    model, earlier = starting_model(wanted, None if weights is None else Path(weights), chosen.seed)
    pairs = zip(folders, files, strict=True)
    sources = [CocoImages(*pair, model.config, chosen.augmentation, chosen.sampling) for pair in pairs]
    stream = ViewStream(sources, chosen.views, chosen.seed, chosen.sampling)
    on_step = (progress or silent)("training", chosen.iterations)
    return loop.train(
        model, stream, Path(output), chosen, resume=resume, on_step=lambda *_: on_step(), earlier=earlier,
    )  # fmt: skip


def _paths(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]
