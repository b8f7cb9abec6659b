"""Settings that must be the same to resume a training run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.runs.network_digest import network_digest
from blendmask_quantize.runs.run_folder import Setting
from blendmask_quantize.training.labeled_images import file_digest
from blendmask_quantize.training.options import TrainOptions, resolved

FREE = ("workers", "save_every", "tensorboard")
"""Options that do not change the weights."""

_WORDS: dict[bool | None, str] = {None: "none", True: "on", False: "off"}

_MAY_CHANGE = (*FREE, "learning_rate")
"""A run goes on at a lower learning rate after its loss was no number."""


def option_settings(options: TrainOptions) -> dict[str, Setting]:
    """Return the options that change the weights, by name."""
    return {name: value for name, value in _flat(msgspec.to_builtins(resolved(options))) if name not in _MAY_CHANGE}


def data_settings(digests: Sequence[tuple[str, str]], images: int) -> dict[str, Setting]:
    """Return what a run is trained on.

    Args:
        digests: of the annotations and of the image files, for each folder.
        images: how many are trained on.
    """
    annotations, files = zip(*digests, strict=True)
    return {"annotation file": digest_of(annotations), "image folder": digest_of(files), "images": images}


def network_settings(config: ModelConfig, labels: Labels) -> dict[str, Setting]:
    """Return what a network is built from."""
    return {
        "config": config.name,
        "set of classes": digest_of([list(labels.names), list(labels.category_ids)]),
        "architecture": digest_of(config),
    }


def weights_digest(weights: Path | Checkpoint | None) -> str:
    """Return the SHA-256 of a checkpoint; "none" without one."""
    if weights is None:
        return "none"
    return network_digest(weights.model) if isinstance(weights, Checkpoint) else file_digest(weights)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a value."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Values of nested mappings under joined names; sequences as text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield prefix + name, msgspec.json.encode(value).decode()
        elif value is None or isinstance(value, bool):
            yield prefix + name, _WORDS[value]
        else:
            yield prefix + name, value
