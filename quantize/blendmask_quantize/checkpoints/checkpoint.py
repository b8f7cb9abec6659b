"""Reading and writing checkpoints: the reference's key names, never a pickle that runs code."""

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

from blendmask_edge.errors import AnnotationError, CheckpointError, ConfigError
from blendmask_edge.instances import Labels
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize.checkpoints.adelaidet_yaml import find_config, is_yaml
from blendmask_quantize.checkpoints.class_names import ClassNames, annotated_labels, read_classes
from blendmask_quantize.checkpoints.files import StateDict, read_state
from blendmask_quantize.checkpoints.recognition import (
    TRAINING_ONLY,
    class_count,
    differences,
    dispensable,
    exact_configs,
    nearest_config,
    shapes_of,
    with_class_count,
)
from blendmask_quantize.checkpoints.record import METADATA_KEY, Record, TrainingRun
from blendmask_quantize.model.blendmask import BlendMask, every_output
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.labels import default_labels

__all__ = ["Checkpoint", "TrainingRun", "load_checkpoint", "save_checkpoint"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network and what its classes mean.

    Attributes:
        model: the network in evaluation mode, float32.
        labels: names and category ids of its classes.
        path: where it came from.
        training: the runs that trained it, oldest first; empty where the file does not say.
        named: whether the file or the caller named the classes; else `labels` are COCO's for 80, numbered otherwise.
    """

    model: BlendMask
    labels: Labels
    path: Path
    training: tuple[TrainingRun, ...] = ()
    named: bool = True

    @property
    def config(self) -> ModelConfig:
        """The configuration the network was built from."""
        return self.model.config

    def named_by(self, annotations: str | os.PathLike[str]) -> Checkpoint:
        """The checkpoint with the names and category ids of annotations, where nobody has named its classes.

        Args:
            annotations: COCO instances JSON of images of its classes.

        Raises:
            AnnotationError: the file cannot be read, or does not have as many categories as the network classes.
        """
        if self.named:
            return self
        labels = annotated_labels(Path(annotations), self.config.num_classes)
        _LOG.warning("%s does not name its classes: names and category ids are those of %s", self.path, annotations)
        return replace(self, labels=labels, named=True)


def load_checkpoint(
    path: str | Path, config: str | Path | ModelConfig | None = None, classes: ClassNames | None = None
) -> Checkpoint:
    """Build the network that a checkpoint holds.

    Args:
        path: `.safetensors`; a torch file (`.pth`) or a detectron2 pickle (`.pkl`) with a state dict of tensors or
            NumPy arrays, bare or under `model`, in the reference's key names. The prefix `module.` and the old name
            `centerness` of the centerness convolution are understood.
        config: a configuration, its name, or one of the reference's YAML files. A name stands for the configuration
            with as many classes as the file has. A checkpoint written by `save_checkpoint` carries its own, and then
            the name only has to agree. None takes the one
            registered configuration that the file fills.
        classes: what the classes are called, see `read_classes`; None takes what the file says, else COCO's names for
            80 classes, else numbers.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the configuration; names what is missing, unexpected
            or of another shape, and the configuration it looks like.
        ConfigError: no configuration has that name, or the YAML file is refused.
        AnnotationError: the classes cannot be read, or are not as many as the network's.

    Example:
        >>> checkpoint = load_checkpoint("model_final.pth", "R_50_3x", classes="mug,bottle,can")
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
    """Write weights, configuration and labels as safetensors; the file appears whole or not at all.

    Args:
        path: ends in `.safetensors`.
        model: the network.
        labels: what its classes mean.
        half: store floating point tensors in half precision where they fit, and leave the training-only semantic head
            out.
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
    """The values in half precision, or as they are where one of them would become infinite."""
    half = value.half() if value.is_floating_point() else value
    return half if half.isfinite().all() else value


def _labels(path: Path, about: Record, classes: ClassNames | None, count: int) -> Labels | None:
    """The labels that the caller gives, else those of the file; None without either."""
    if classes is None:
        return Labels(about.labels.names, about.labels.category_ids) if about.labels is not None else None
    labels = read_classes(classes)
    if len(labels.names) != count:
        raise AnnotationError(
            f"{len(labels.names)} classes are named ({', '.join(labels.names[:4])} ...), and {path} has {count}: name "
            "each class that the network was trained on, in its order"
        )
    return labels


def _choose(path: Path, state: StateDict, config: str | Path | ModelConfig | None, about: Record) -> ModelConfig:
    stored = about.config
    if config is None:
        return stored or _recognized(path, state)
    wanted = find_config(config)
    if stored is not None and stored.name != wanted.name:
        raise CheckpointError(
            f"{path} is a checkpoint of {stored.name}, not of {wanted.name}: use --config {stored.name} or leave it out"
        )
    by_name = isinstance(config, str) and not is_yaml(config)
    return stored or (with_class_count(wanted, state) if by_name else wanted)


def _recognized(path: Path, state: StateDict) -> ModelConfig:
    """The only registered configuration that the file fills."""
    exact = exact_configs(state)
    if len(exact) == 1:
        _LOG.warning("%s does not name its configuration: taken for %s, which its tensors fill", path, exact[0].name)
        return exact[0]
    if exact:
        names = ", ".join(config.name for config in exact)
        raise CheckpointError(
            f"{path} does not name its configuration and fits {names}: name one, --config {exact[0].name}"
        )
    near = nearest_config(state)
    hint = f"it looks most like {near}, but does not fit it" if near else "it looks like none that is known here"
    raise CheckpointError(
        f"{path} does not name its configuration, and {hint}: give --config with the YAML file that it was trained with"
    )


def _build(path: Path, state: StateDict, config: ModelConfig, asked: str | Path | ModelConfig | None) -> BlendMask:
    model = _new_network(path, config)
    own = model.state_dict()
    problems = differences(shapes_of(own), shapes_of(state))
    if problems:
        raise CheckpointError(f"{path} does not fit {config.name}: {problems}. {_advice(state, config, asked)}")
    model.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items() if key in own}, strict=False)
    return model.eval()


def _new_network(path: Path, config: ModelConfig) -> BlendMask:
    """The network, and where a table of widths thins it, the proof that each layer takes what the one before gives."""
    try:
        model = BlendMask(config)
        if config.widths:
            side = max(config.input.divisor, *config.head.strides)
            with torch.no_grad():
                every_output(copy.deepcopy(model).to("meta").eval(), torch.empty((1, 3, side, side), device="meta"))
    except (ConfigError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} holds a network that cannot be built ({reason}): prune it again") from error
    return model


def _advice(state: StateDict, config: ModelConfig, asked: str | Path | ModelConfig | None) -> str:
    """What to try where a state dict does not fit a configuration."""
    count, near = class_count(state), nearest_config(state)
    given = str(asked) if is_yaml(asked) else None
    if given is not None and count not in (None, config.num_classes):
        return f"Set FCOS.NUM_CLASSES to {count} in {given}"
    if near is not None and near != config.name:
        return f"It looks like {near}: try --config {near}"
    if given is not None:
        return f"Correct {given}: it describes another network than the one in the file"
    if near is None:
        return "It looks like no configuration known here: give --config with the YAML file that it was trained with"
    return f"It looks like a {near} with {count} classes all the same: give --config with its YAML file"
