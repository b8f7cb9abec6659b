"""Read and write checkpoints with AdelaiDet's key names. Pickles are read without running code."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor

from blendmask_edge.errors import AnnotationError, CheckpointError, ConfigError, InstancesError
from blendmask_edge.labels import Labels
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize.checkpoints.adelaidet_yaml import find_config, is_yaml
from blendmask_quantize.checkpoints.class_names import ClassNames, annotated_labels, read_classes
from blendmask_quantize.checkpoints.files import StateDict, read_state
from blendmask_quantize.checkpoints.recognition import (
    TRAINING_ONLY,
    Shapes,
    check_shapes,
    dispensable,
    recognize,
    shapes_of,
    with_class_count,
)
from blendmask_quantize.checkpoints.record import METADATA_KEY, Record, TrainingRun
from blendmask_quantize.checkpoints.values import value_as
from blendmask_quantize.model.blendmask import BlendMask, every_output
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.labels import default_labels

__all__ = ["Checkpoint", "TrainingRun", "load_checkpoint", "save_checkpoint"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network and its labels.

    Attributes:
        model: the network, float32, in evaluation mode.
        labels: names and category ids of its classes.
        path: path of the file.
        training: the runs that trained it, oldest first; empty if the file does not record them.
        named: whether the file or the caller named the classes. If not, `labels` are COCO's for 80 classes, else
            numbers.
    """

    model: BlendMask
    labels: Labels
    path: Path
    training: tuple[TrainingRun, ...] = ()
    named: bool = True

    @property
    def config(self) -> ModelConfig:
        """Configuration of the network."""
        return self.model.config

    def named_by(self, annotations: str | os.PathLike[str]) -> Checkpoint:
        """Return the checkpoint with the names and category ids of annotations, unless its classes are named already.

        Args:
            annotations: COCO instances JSON.

        Raises:
            AnnotationError: the file cannot be read, or its number of categories differs from the number of classes.
        """
        if self.named:
            return self
        labels = annotated_labels(Path(annotations), self.config.num_classes)
        _LOG.warning("%s does not name its classes: names and category ids are those of %s", self.path, annotations)
        return replace(self, labels=labels, named=True)


def load_checkpoint(
    path: str | Path, config: str | Path | ModelConfig | None = None, classes: ClassNames | None = None
) -> Checkpoint:
    """Load a checkpoint and build its network.

    Args:
        path: a `.safetensors` file, a torch file (`.pth`) or a detectron2 pickle (`.pkl`), with a state dict in
            AdelaiDet's key names, at the top level or under `model`. A prefix `module.` and the former key `centerness`
            are accepted.
        config: a configuration, its name, or the path of an AdelaiDet YAML file. A name is adapted to the number of
            classes of the file. Checkpoints of `train` and `prune` store their configuration, and a name must agree
            with it. None takes the stored configuration, or the registered one whose tensors match.
        classes: names of the classes: a list, text with commas, or the path of COCO annotations or of a text file with
            a name per line; None takes those of the file, else COCO's for 80 classes, else numbers.

    Raises:
        CheckpointError: the file cannot be read or does not match the configuration. The message lists missing,
            unexpected and differently shaped tensors, and suggests a configuration.
        ConfigError: the configuration is unknown, or the YAML file is not supported.
        AnnotationError: the classes cannot be read, or their number differs from the network's.

    Example:
        >>> from blendmask_quantize import load_checkpoint
        >>> checkpoint = load_checkpoint("checkpoint.safetensors")
        >>> checkpoint.config.num_classes, list(checkpoint.labels.names)
        (3, ['cup', 'plate', 'fork'])
    """
    _check_arguments(path, config)
    path = Path(path)
    state, about = read_state(path)
    chosen = _choose(path, state, config, about)
    labels = _labels(path, about, classes, chosen.num_classes)
    model = _build(path, state, chosen, config)
    return Checkpoint(
        model, labels or default_labels(chosen.num_classes), path, about.training, named=labels is not None
    )


def save_checkpoint(
    path: str | Path, model: BlendMask, labels: Labels, *, half: bool = False, training: Sequence[TrainingRun] = ()
) -> None:
    """Write weights, configuration and labels to a safetensors file, atomically.

    Args:
        path: path of the `.safetensors` file.
        model: the network.
        labels: names and category ids of its classes.
        half: store tensors in half precision unless they overflow, and omit the semantic head, which only training
            needs.
        training: the runs that trained the network, oldest first.

    Raises:
        OutputError: the file cannot be written.
    """
    state = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    config = model.config
    if half:
        state = {key: _halved(value) for key, value in state.items() if not dispensable(key)}
        widths = tuple(width for width in config.widths if not width.layer.startswith(TRAINING_ONLY))
        config = replace(config, bases=replace(config.bases, semantic=False), widths=widths)
    about = {"config": msgspec.to_builtins(config), "labels": msgspec.to_builtins(labels)}
    if training:
        about["training"] = msgspec.to_builtins(tuple(training))
    write_bytes(path, save(state, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)}))


def _check_arguments(path: object, config: object) -> None:
    location = path.__fspath__() if isinstance(path, os.PathLike) else path
    if not isinstance(location, str) or "\0" in location:
        raise ConfigError(f"path is {path!r:.80}, expected str or pathlib.Path")
    if not (config is None or isinstance(config, (str, os.PathLike, ModelConfig))):
        raise ConfigError(f"config is {config!r:.80}, expected a name, the path of a YAML file, or a ModelConfig")


def _halved(value: Tensor) -> Tensor:
    """Return the values in half precision, or unchanged if one of them overflows."""
    half = value.half() if value.is_floating_point() else value
    return half if half.isfinite().all() else value


def _labels(path: Path, about: Record, classes: ClassNames | None, count: int) -> Labels | None:
    """Return the labels of the caller, else those of the file, else None."""
    if classes is None:
        return _stored_labels(path, about)
    labels = read_classes(classes)
    if len(labels.names) != count:
        raise AnnotationError(
            f"{len(labels.names)} classes are named ({', '.join(labels.names[:4])} ...), but {path} has {count}: name "
            "every class that the network was trained on, in the same order"
        )
    return labels


def _stored_labels(path: Path, about: Record) -> Labels | None:
    if about.labels is None:
        return None
    try:
        return Labels(about.labels.names, about.labels.category_ids)
    except InstancesError as error:
        raise CheckpointError(f"{path} names its classes wrongly: {error}") from error


def _choose(path: Path, state: StateDict, config: str | Path | ModelConfig | None, about: Record) -> ModelConfig:
    stored = about.config
    if config is None:
        return stored or recognize(path, state)
    wanted = find_config(config)
    if stored is not None and stored.name != wanted.name:
        raise CheckpointError(
            f"{path} is a checkpoint of {stored.name}, not of {wanted.name}: use --config {stored.name} or leave it out"
        )
    by_name = isinstance(config, str) and not is_yaml(config)
    return stored or (with_class_count(wanted, state) if by_name else wanted)


def _build(path: Path, state: StateDict, config: ModelConfig, asked: str | Path | ModelConfig | None) -> BlendMask:
    check_shapes(path, _planned_shapes(path, config), state, config, asked)
    model = _new_network(path, config)
    own = model.state_dict()
    converted = {key: value_as(own[key], value, f"{path}: {key}") for key, value in state.items() if key in own}
    model.load_state_dict(converted, strict=False)
    return model.eval()


def _planned_shapes(path: Path, config: ModelConfig) -> Shapes:
    """Return the shapes of the network's tensors, before memory is taken for them."""
    with torch.device("meta"):
        return shapes_of(_new_network(path, config).state_dict())


def _new_network(path: Path, config: ModelConfig) -> BlendMask:
    """Build the network; if it was pruned, check that the widths of consecutive layers match."""
    try:
        model = BlendMask(config)
        if config.widths or config.dropped:
            side = max(config.input.divisor, *config.head.strides)
            with torch.no_grad():
                every_output(copy.deepcopy(model).to("meta").eval(), torch.empty((1, 3, side, side), device="meta"))
    except (ConfigError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        is_pruned = bool(config.widths or config.dropped)
        advice = "prune it again" if is_pruned else f"correct the configuration {config.name}, or give another one"
        raise CheckpointError(f"{path} has a network that cannot be built ({reason}): {advice}") from error
    return model
