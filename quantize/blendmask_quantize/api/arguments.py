"""Checks of checkpoints, configurations, data and outputs, all before torch is loaded."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from blendmask_calibration.dataset import CalibrationDataset
from blendmask_edge.errors import (
    AnnotationError,
    CalibrationError,
    CheckpointError,
    ConfigError,
    DependencyError,
    OutputError,
)
from blendmask_edge.labels import Labels
from blendmask_edge.storage.atomic import check_writable, output_error
from blendmask_quantize.api.values import CALLABLE, PATH, as_path
from blendmask_quantize.checkpoints.adelaidet_yaml import find_config
from blendmask_quantize.checkpoints.class_names import ClassNames, read_classes
from blendmask_quantize.checkpoints.record import check_no_bundle, stored_config
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.input_size import input_size
from blendmask_quantize.pipeline.calibration_set import for_users
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.runs.progress import Progress, silent
from blendmask_quantize.training.backbone_file import find_backbone_weights
from blendmask_quantize.training.options import DEFAULT_CONFIG

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from blendmask_quantize.checkpoints.checkpoint import Checkpoint

Options = TypeVar("Options", bound="DataclassInstance")
AnyCheckpoint = Union[PathLike, "Checkpoint"]
AnyConfig = Union[PathLike, ModelConfig, None]
Source = Union[PathLike, CalibrationDataset, Iterable[Any]]


def check_checkpoint(checkpoint: AnyCheckpoint, name: str = "checkpoint") -> None:
    """See that an argument is a checkpoint, or the path of a file.

    Args:
        checkpoint: the argument.
        name: what it is called.

    Raises:
        ConfigError: it is something else.
        CheckpointError: there is no such file, or it is a bundle.
    """
    if _is_checkpoint(checkpoint):
        return
    if not PATH.fits(checkpoint):
        raise ConfigError(f"{name} is {checkpoint!r:.80}, expected a path, or the result of load_checkpoint")
    if not os.path.isfile(str(checkpoint)):
        raise CheckpointError(f"no checkpoint at {checkpoint}: give the path of a .safetensors or .pth file")
    check_no_bundle(Path(str(checkpoint)))


def _is_checkpoint(value: object) -> bool:
    """Whether a value is a `Checkpoint`, which is none as long as torch is not loaded."""
    module = sys.modules.get("blendmask_quantize.checkpoints.checkpoint")
    return module is not None and isinstance(value, module.Checkpoint)


def check_config(config: AnyConfig) -> ModelConfig | None:
    """The configuration of a name or a YAML file; None for None.

    Raises:
        ConfigError: the argument is none, no configuration has this name, or a YAML file cannot be read.
    """
    if not (config is None or isinstance(config, ModelConfig) or PATH.fits(config)):
        raise ConfigError(f"config is {config!r:.80}, expected a name, the path of a YAML file, or a ModelConfig")
    given = as_config(config)
    return None if given is None else find_config(given)


def known_config(checkpoint: AnyCheckpoint, config: AnyConfig) -> ModelConfig | None:
    """The configuration of a checkpoint as far as it can be told without torch; None where it cannot.

    Args:
        checkpoint: a checkpoint, or its path.
        config: that the user gives.

    Raises:
        ConfigError: as `check_config`; or one is given for a checkpoint that is loaded already.
    """
    named = check_config(config)
    if not _is_checkpoint(checkpoint):
        return named or stored_config(Path(str(checkpoint)))
    if named is not None:
        raise ConfigError("the checkpoint is loaded already: give the configuration to load_checkpoint")
    return checkpoint.config  # type: ignore[union-attr]


def check_size(config: ModelConfig | None, size: tuple[int, int] | None) -> None:
    """See that a network can take an input size, as far as the network is known.

    Raises:
        ConfigError: it cannot; the message names the nearest size that it can.
    """
    if config is not None:
        input_size(config.input, size)


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
        AnnotationError: the names are not as many as the classes.
    """
    from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint

    loaded = checkpoint
    if not isinstance(loaded, Checkpoint):
        loaded = load_checkpoint(Path(loaded), as_config(config), classes)
    for file in annotations:
        loaded = loaded.named_by(file)
    return loaded


def check_classes(checkpoint: AnyCheckpoint, classes: ClassNames | None) -> Labels | None:
    """The labels that something names; None for None.

    Args:
        checkpoint: a checkpoint, or its path.
        classes: that the user gives.

    Raises:
        ConfigError: classes are given for a checkpoint that is loaded already.
        AnnotationError: as `read_classes`.
    """
    if classes is None:
        return None
    if _is_checkpoint(checkpoint):
        raise ConfigError("the checkpoint is loaded already: give the classes to load_checkpoint")
    return read_classes(classes)


def as_config(config: AnyConfig) -> str | Path | ModelConfig | None:
    """A configuration, its name, or the path of its YAML file."""
    return config if config is None or isinstance(config, (str, ModelConfig)) else Path(config)


def as_dataset(source: Source) -> CalibrationDataset:
    """The calibration images as a dataset.

    Raises:
        CalibrationError: they are not a folder, a dataset or an iterable, or the folder holds no image.
    """
    with for_users():
        dataset = source if isinstance(source, CalibrationDataset) else CalibrationDataset(source)
        dataset.require_images()
    return dataset


def as_progress(progress: Progress | None) -> Progress:
    """The callback that stages are announced to; a silent one for None.

    Raises:
        ConfigError: it cannot be called.
    """
    CALLABLE.or_none().check("progress", progress)
    return progress or silent


def as_paths(name: str, paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """One path or several as a list.

    Raises:
        ConfigError: the argument is neither.
    """
    if PATH.fits(paths):
        return [Path(paths)]  # type: ignore[arg-type]
    if not isinstance(paths, Iterable) or isinstance(paths, (bytes, str)):
        raise ConfigError(f"{name} is {paths!r:.80}, expected a path or a list of paths")
    return [as_path(f"{name}[{index}]", path) for index, path in enumerate(paths)]


def check_annotations(path: Path, what: str) -> None:
    """See that an annotation file is there.

    Raises:
        AnnotationError: it is not.
    """
    if not os.path.isfile(path):
        raise AnnotationError(f"{path} cannot be read as COCO annotations (no such file): give {what}")


def check_images(folder: Path) -> None:
    """See that a folder of images is there.

    Raises:
        AnnotationError: it is not.
    """
    if not os.path.isdir(folder):
        raise AnnotationError(f"{folder} is not a folder: give the folder of the annotated images")


def check_pairs(images: list[Path], annotations: list[Path]) -> None:
    """See that each folder of images has its annotation file.

    Raises:
        AnnotationError: it has not.
    """
    if len(images) != len(annotations) or not images:
        raise AnnotationError(
            f"{len(images)} folders of images and {len(annotations)} annotation files are given: give one file a folder"
        )
    for folder, file in zip(images, annotations, strict=True):
        check_images(folder)
        check_annotations(file, "their COCO instances JSON")


def check_output(output: Path, example: str = "model.bmz", *, inputs: Iterable[object] = ()) -> None:
    """See that a file can be written, and that it would replace none that is read.

    Args:
        output: its path.
        example: of a name.
        inputs: what the command reads; of these, paths of files are compared.

    Raises:
        OutputError: it cannot, or it is one of the inputs.
    """
    if any(isinstance(path, (str, Path)) and _is_same_file(output, Path(path)) for path in inputs):
        raise OutputError(
            f"the output {output} is also an input, which would be lost: give another path, e.g. {example}"
        )
    if os.path.isdir(output):
        raise OutputError(f"the output {output} is a folder: give the path of a file, e.g. {example}")
    check_writable(output)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def check_folder_output(output: Path) -> None:
    """See that a folder can be made or written to.

    Raises:
        OutputError: it cannot.
    """
    there = next(path for path in (output, *output.absolute().parents) if os.path.exists(path))
    if not os.path.isdir(there):
        raise OutputError(f"{there}, where the run would lie, is a file: name another --output")
    try:
        with contextlib.suppress(FileNotFoundError):
            output.stat()  # fails where no folder can have the name
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise output_error(output, error) from error


def check_backbone(config: ModelConfig | None, alternative: str = "") -> None:
    """See that weights for the backbone of a new network are installed, where there are some.

    Args:
        config: of the network; None stands for the default.
        alternative: what else the user can do, to end the message.

    Raises:
        DependencyError: they are not.
    """
    if (config or find_config(DEFAULT_CONFIG)).backbone.kind == "lite0":
        find_backbone_weights(alternative)


def check_tensorboard(asked: bool) -> None:
    """See that TensorBoard is installed where it is asked for.

    Raises:
        DependencyError: it is not.
    """
    if asked and importlib.util.find_spec("tensorboard") is None:
        raise DependencyError(
            "TensorBoard is not installed: pip install tensorboard, or leave --tensorboard out; log.csv holds the same "
            "numbers"
        )


def check_folders(folders: list[Path]) -> None:
    """See that folders of images are there.

    Raises:
        CalibrationError: one is not.
    """
    for folder in folders:
        if not os.path.isdir(folder):
            raise CalibrationError(f"{folder} is not a folder: give a folder of images")


def changed(options: Options | None, default: Options, changes: dict[str, Any], command: str) -> Options:
    """The options with some fields replaced.

    Args:
        options: None takes `default`.
        default: of the same kind.
        changes: new values by the name of a field.
        command: what the options are of, for the message.

    Raises:
        ConfigError: the options are of another kind, or there is no such field; the nearest one is named.
    """
    if not (options is None or isinstance(options, type(default))):
        raise ConfigError(f"options is {options!r:.80}, expected {type(default).__name__}")
    known = [field.name for field in fields(default)]
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"{command} has no option {name!r}: {hint}known are {', '.join(known)}")
    return replace(options or default, **changes)
