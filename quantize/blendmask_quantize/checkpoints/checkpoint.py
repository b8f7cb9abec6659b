"""Reading and writing checkpoints: the reference's key names, never a pickle that runs code."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from blendmask_edge.errors import BlendMaskError, CheckpointError, ConfigError
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize.checkpoints.adelaidet_yaml import find_config
from blendmask_quantize.checkpoints.labels import Labels, default_labels
from blendmask_quantize.model.blendmask import BlendMask, every_output
from blendmask_quantize.model.config import CONFIGS, ModelConfig

METADATA_KEY = "blendmask"
_RT_NAME = "RT_R_50_4x_bn-head_syncbn_shtw"
_CLASS_SCORES = "proposal_generator.fcos_head.cls_logits.bias"
_TRAINING_ONLY = "basis_module.seg_head."


@dataclass(frozen=True)
class TrainingRun:
    """How the weights of a checkpoint were trained.

    Attributes:
        iterations: optimizer steps.
        views: shown in all of them.
        images: they were taken from.
        hours: of training, stops left out.
        options: the whole schedule, in JSON's types.
    """

    iterations: int
    views: int
    images: int
    hours: float
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded network and what its classes mean.

    Attributes:
        model: the network in evaluation mode, float32.
        labels: names and category ids of its classes.
        path: where it came from.
        training: the runs that trained it, oldest first; empty where the file does not say.
    """

    model: BlendMask
    labels: Labels
    path: Path
    training: tuple[TrainingRun, ...] = ()

    @property
    def config(self) -> ModelConfig:
        """The configuration the network was built from."""
        return self.model.config


def load_checkpoint(path: str | Path, config: str | Path | ModelConfig | None = None) -> Checkpoint:
    """Build the network that a checkpoint holds.

    Args:
        path: `.safetensors`, or a torch file with a state dict, bare or under `model`, in the reference's key names;
            the old name `centerness` of the centerness convolution is understood.
        config: a configuration, its name, or one of the reference's YAML files. A checkpoint written by
            `save_checkpoint` carries its own, and then the name only has to agree.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the configuration; names what is missing, unexpected
            or of another shape, and the configuration it looks like.
        ConfigError: no configuration has that name, or the YAML file is refused.
    """
    path = Path(path)
    state, about = _read(path)
    wanted = find_config(config) if config is not None else None
    chosen = _choose(path, wanted, about.config)
    names = about.labels
    labels = Labels(names.names, names.category_ids) if names is not None else default_labels(chosen.num_classes)
    return Checkpoint(_build(path, state, chosen), labels, path, about.training)


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
        state = {key: _halved(value) for key, value in state.items() if not _dispensable(key)}
        widths = tuple(width for width in config.widths if not width.layer.startswith(_TRAINING_ONLY))
        config = replace(config, bases=replace(config.bases, semantic=False), widths=widths)
    about = {"config": msgspec.to_builtins(config), "labels": msgspec.to_builtins(labels)}
    if training:
        about["training"] = msgspec.to_builtins(tuple(training))
    write_bytes(path, save(state, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)}))


def _halved(value: Tensor) -> Tensor:
    """The values in half precision, or as they are where one of them would become infinite."""
    half = value.half() if value.is_floating_point() else value
    return half if half.isfinite().all() else value


@dataclass(frozen=True)
class _LabelRecord:
    names: tuple[str, ...]
    category_ids: tuple[int, ...]


@dataclass(frozen=True)
class _About:
    """What a file of `save_checkpoint` says of itself."""

    config: ModelConfig | None = None
    labels: _LabelRecord | None = None
    training: tuple[TrainingRun, ...] = ()


def _read(path: Path) -> tuple[dict[str, Tensor], _About]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: give the path of a .safetensors or .pth file")
    try:
        state, about = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except BlendMaskError:
        raise
    except Exception as error:  # what a damaged pickle raises depends on its bytes
        reason = f"{type(error).__name__} {error}".splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}): give a .safetensors file, or a torch file that holds "
            "tensors only"
        ) from error
    return {key.replace("centerness", "ctrness"): value for key, value in state.items()}, about


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], _About]:
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = msgspec.json.decode((file.metadata() or {}).get(METADATA_KEY, "{}"))
    return state, msgspec.convert(_upgrade(_upgrade_config(about)), _About)


_RENAMED = {
    "trunk": "backbone", "pictures": "images", "emphasis": "class_weights", "balance": "sampling",
    "trunk_rate": "backbone_rate", "hosts": "nodes",
}  # fmt: skip


def _upgrade_config(about: Any) -> Any:
    config = about.get("config") if isinstance(about, dict) else None
    if isinstance(config, dict) and "classes" in config:
        config["num_classes"] = config.pop("classes")
    return about


def _upgrade(value: Any) -> Any:
    """The record of a checkpoint with the names that earlier releases gave its fields brought up to date."""
    if isinstance(value, dict):
        return {_RENAMED.get(name, name): _upgrade(part) for name, part in value.items()}
    return [_upgrade(part) for part in value] if isinstance(value, list) else value


def _read_torch(path: Path) -> tuple[dict[str, Tensor], _About]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    while isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, bare or under the key 'model'")
    return dict(content), _About()


def _choose(path: Path, wanted: ModelConfig | None, stored: ModelConfig | None) -> ModelConfig:
    if stored is None and wanted is None:
        raise CheckpointError(f"{path} does not say which configuration it is of: name one, e.g. --config {_RT_NAME}")
    if stored is not None and wanted is not None and stored.name != wanted.name:
        raise CheckpointError(
            f"{path} is a checkpoint of {stored.name}, not of {wanted.name}: use --config {stored.name}"
        )
    return stored or wanted  # type: ignore[return-value]


def _build(path: Path, state: dict[str, Tensor], config: ModelConfig) -> BlendMask:
    model = _new_network(path, config)
    own = model.state_dict()
    problems = _differences(own, state)
    if problems:
        raise CheckpointError(f"{path} does not fit {config.name}: {problems}. {_resembles(state, config)}")
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


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    missing = [key for key in own if key not in state and not _dispensable(key)]
    unexpected = [key for key in state if key not in own and not _dispensable(key)]
    shapes = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    groups = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{len(keys)} {what} ({_some(keys)})" for what, keys in groups if keys)


def _dispensable(key: str) -> bool:
    """Whether predictions do not depend on a tensor."""
    return key.startswith(_TRAINING_ONLY) or key.endswith("num_batches_tracked")


def _some(keys: list[str], most: int = 3) -> str:
    return ", ".join(keys[:most]) + (", ..." if len(keys) > most else "")


def _resembles(state: Mapping[str, Tensor], config: ModelConfig) -> str:
    """Which registered configuration shares most keys and shapes with the state dict, and what to try next."""
    shapes = {(key, tuple(value.shape)) for key, value in state.items()}
    with torch.device("meta"):
        shared = {
            name: len(shapes & {(k, tuple(v.shape)) for k, v in BlendMask(known).state_dict().items()})
            for name, known in CONFIGS.items()
        }
    best = max(shared, key=lambda name: shared[name])
    if shared[best] < len(shapes) // 2:
        return "It looks like no configuration known here: give the YAML file that it was trained with"
    if best != config.name:
        return f"It looks like {best}: try --config {best}"
    return f"It looks like a {best}{_classes(state)} all the same: give the YAML file that it was trained with"


def _classes(state: Mapping[str, Tensor]) -> str:
    scores = state.get(_CLASS_SCORES)
    return f" with {len(scores)} classes" if scores is not None and scores.ndim else ""
