"""Checks of arguments, all before torch is loaded."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from blendmask_calibration.dataset import CalibrationDataset
from blendmask_edge.errors import AnnotationError, CalibrationError, CheckpointError, ConfigError, OutputError
from blendmask_edge.instances import Labels
from blendmask_edge.storage.atomic import output_error
from blendmask_quantize.checkpoints.class_names import ClassNames, read_classes
from blendmask_quantize.pipeline.calibration_set import check_calibration_options, for_users
from blendmask_quantize.pipeline.options import PathLike, QuantizeOptions
from blendmask_quantize.pipeline.recipes import Recipe

if TYPE_CHECKING:
    from blendmask_quantize.checkpoints.checkpoint import Checkpoint
    from blendmask_quantize.model.config import ModelConfig
    from blendmask_quantize.training.options import TrainOptions

Options = TypeVar("Options", "QuantizeOptions", "TrainOptions")
AnyCheckpoint = Union[PathLike, "Checkpoint"]
AnyConfig = Union[PathLike, "ModelConfig", None]
Source = Union[PathLike, CalibrationDataset, Iterable[Any]]


def check_checkpoint(checkpoint: AnyCheckpoint) -> None:
    """See that a path leads to a file.

    Raises:
        CheckpointError: it does not.
    """
    if isinstance(checkpoint, (str, os.PathLike)) and not Path(checkpoint).is_file():
        raise CheckpointError(f"no checkpoint at {checkpoint}: give the path of a .safetensors or .pth file")


def open_checkpoint(
    checkpoint: AnyCheckpoint, config: AnyConfig, classes: ClassNames | None = None,
    annotations: Iterable[PathLike] = (),
) -> Checkpoint:  # fmt: skip
    """The loaded checkpoint.

    Args:
        checkpoint: a checkpoint, or its path.
        config: of a path.
        classes: names of the classes of a path.
        annotations: files that name the classes where nothing else does; the first one is taken.

    Raises:
        CheckpointError: it cannot be read, or does not fit the configuration.
        ConfigError: a configuration or classes are given for a checkpoint that is loaded already, or are unknown.
        AnnotationError: the names are not as many as the classes.
    """
    from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint

    if not isinstance(checkpoint, Checkpoint):
        loaded = load_checkpoint(Path(checkpoint), as_config(config), classes)
    elif config is not None or classes is not None:
        given = "configuration" if config is not None else "classes"
        raise ConfigError(f"the checkpoint is loaded already: give the {given} to load_checkpoint")
    else:
        loaded = checkpoint
    for file in annotations:
        loaded = loaded.named_by(file)
    return loaded


def check_classes(classes: ClassNames | None) -> Labels | None:
    """The labels that something names; None for None.

    Raises:
        AnnotationError: as `read_classes`.
    """
    return None if classes is None else read_classes(classes)


def as_config(config: AnyConfig) -> str | Path | ModelConfig | None:
    """A configuration, its name, or the path of its YAML file."""
    return Path(config) if isinstance(config, os.PathLike) else config


def as_dataset(source: Source) -> CalibrationDataset:
    """The calibration images as a dataset.

    Raises:
        CalibrationError: they are not a folder, a dataset or an iterable.
    """
    if isinstance(source, CalibrationDataset):
        return source
    with for_users():
        return CalibrationDataset(source)


def check_file(path: PathLike, what: str) -> None:
    """See that an annotation file is there.

    Raises:
        AnnotationError: it is not.
    """
    if not Path(path).is_file():
        raise AnnotationError(f"{path} cannot be read as COCO annotations (no such file): give {what}")


def check_pairs(images: list[Path], annotations: list[Path]) -> None:
    """See that each folder of images has its annotation file.

    Raises:
        AnnotationError: it has not.
    """
    if len(images) != len(annotations):
        raise AnnotationError(
            f"{len(images)} folders of images and {len(annotations)} annotation files are given: give one file a folder"
        )
    for folder, file in zip(images, annotations, strict=True):
        if not folder.is_dir():
            raise AnnotationError(f"{folder} is not a folder: give the folder of the annotated images")
        check_file(file, "their COCO instances JSON")


def as_paths(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """One path or several as a list."""
    return [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]


def check_output(output: Path) -> None:
    """See that a file can be written.

    Raises:
        OutputError: it cannot.
    """
    if output.is_dir():
        raise OutputError(f"the output {output} is a folder: give the path of a file, e.g. model.bmz")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise output_error(output, error) from error


def check_folder_output(output: Path) -> None:
    """See that a folder can be made or written to.

    Raises:
        OutputError: it cannot.
    """
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OutputError(f"{there}, where the run would lie, is a file: name another --output")
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise output_error(output, error) from error


def check_config(config: AnyConfig) -> None:
    """See that a configuration is known, or that its YAML file can be read.

    Raises:
        ConfigError: it is not; the nearest name is suggested.
    """
    from blendmask_quantize.checkpoints.adelaidet_yaml import find_config

    given = as_config(config)
    if given is not None:
        find_config(given)


def check_folders(folders: list[Path]) -> None:
    """See that folders of images are there.

    Raises:
        CalibrationError: one is not.
    """
    for folder in folders:
        if not folder.is_dir():
            raise CalibrationError(f"{folder} is not a folder: give a folder of images")


def changed(options: Options, changes: dict[str, Any], command: str) -> Options:
    """The options with some fields replaced.

    Args:
        options: of any kind.
        changes: new values by the name of a field.
        command: what the options are of, for the message.

    Raises:
        ConfigError: there is no such field; the nearest one is named.
    """
    known = [field.name for field in fields(options)]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"{command} has no option {name!r}: {hint}known are {', '.join(known)}")
    return replace(options, **changes)


def check_options(recipe: Recipe, options: QuantizeOptions) -> None:
    """See that options are possible and apply to a recipe.

    Raises:
        ConfigError: an option is out of range, or of no use to the recipe.
        CalibrationError: no estimator or refusal of the guard has that name.
        AnnotationError: a file is missing.
    """
    check_calibration_options(options)
    _check_ranges(options)
    if not recipe.trains and options.trains:
        raise ConfigError(
            f"{_given(options)} is of no use to recipe {recipe.name}, which does not train: use --recipe qat"
        )
    if not recipe.prunes and options.prunes:
        raise ConfigError(
            f"--macs and --prune-iterations are of no use to recipe {recipe.name}, which does not prune: use "
            "--recipe edge, or leave them out"
        )
    if recipe.prunes and options.annotations is None:
        raise ConfigError(
            f"recipe {recipe.name} prunes, which needs labels to train on: give --annotations, the COCO instances JSON "
            "of the images in the --calibration folder"
        )
    if options.annotations is not None:
        check_file(options.annotations, "an instances JSON")
    if options.evaluation is not None:
        check_file(options.evaluation[1], "an instances JSON")


def _given(options: QuantizeOptions) -> str:
    named = {
        "--annotations": options.annotations is not None, "--resume": options.resume,
        "--iterations": options.iterations is not None, "--learning-rate": options.learning_rate is not None,
    }  # fmt: skip
    return next((name for name, is_given in named.items() if is_given), "qat")


def _check_ranges(options: QuantizeOptions) -> None:
    if options.size is not None and not (_whole(*options.size) and len(options.size) == 2):
        raise ConfigError(f"the input size is {options.size!r}: give height and width in pixels, e.g. (384, 512)")
    if not _whole(options.detections) or not 1 <= options.detections <= 100:
        raise ConfigError(f"detections is {options.detections!r}: give a whole number from 1 to 100")
    if isinstance(options.ignored, str):
        raise ConfigError(f"ignored is the text {options.ignored!r}: give a tuple of names or patterns")


def _whole(*values: Any) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)
