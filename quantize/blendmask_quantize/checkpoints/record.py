"""The record that a checkpoint carries beside its weights: configuration, labels, and how it was trained."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from blendmask_edge.bundle.manifest import MANIFEST_NAME
from blendmask_edge.errors import CheckpointError
from blendmask_edge.storage.bounded import open_regular
from blendmask_quantize.model.config import ModelConfig

METADATA_KEY = "blendmask"
"""Where the record lies in the metadata of a safetensors file."""
_LONGEST_HEADER = 100_000_000
"""Bytes, as the library itself allows."""
_ZIP_MAGIC, _ZIP_NAME_AT = b"PK\x03\x04", 30


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


@dataclass(frozen=True)
class TrainingRun:
    """How the weights of a checkpoint were trained.

    Attributes:
        iterations: optimizer steps.
        augmented_images: shown in all of them.
        images: they were taken from.
        hours: of training, stops left out.
        options: the whole schedule, in JSON's types.
        weights: file name of the checkpoint that the run started from; empty without one.
        initialized: classes whose rows of the predictor started from random weights, although there was a checkpoint.
    """

    iterations: int
    augmented_images: int
    images: int
    hours: float
    options: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    initialized: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelRecord:
    """Names and category ids of the classes."""

    names: tuple[str, ...]
    category_ids: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """The record that `save_checkpoint` wrote into a file; empty for a file of another program."""

    config: ModelConfig | None = None
    labels: LabelRecord | None = None
    training: tuple[TrainingRun, ...] = ()


def read_record(metadata: str) -> Record:
    """The record of a checkpoint, of this release or an earlier one.

    Args:
        metadata: JSON, as `save_checkpoint` stores it.

    Raises:
        msgspec.MsgspecError: it is not a record.
    """
    return msgspec.convert(_upgrade(_upgrade_config(msgspec.json.decode(metadata))), Record)


_RENAMED = {
    "trunk": "backbone", "pictures": "images", "emphasis": "class_weights", "balance": "sampling",
    "trunk_rate": "backbone_rate", "hosts": "nodes", "views": "augmented_images",
}  # fmt: skip
"""Fields that earlier releases wrote under another name."""


def _upgrade_config(about: Any) -> Any:
    config = about.get("config") if isinstance(about, dict) else None
    if isinstance(config, dict) and "classes" in config:
        config["num_classes"] = config.pop("classes")
    return about


def _upgrade(value: Any) -> Any:
    if isinstance(value, dict):
        return {_RENAMED.get(name, name): _upgrade(part) for name, part in value.items()}
    return [_upgrade(part) for part in value] if isinstance(value, list) else value


def stored_config(path: Path) -> ModelConfig | None:
    """The configuration that a safetensors file states, without reading its tensors; None where it states none.

    A damaged file has none either: who reads the tensors says what is wrong with it.
    """
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = msgspec.json.decode(file.read(length) if length <= _LONGEST_HEADER else b"", type=_Header)
        return read_record(header.metadata.get(METADATA_KEY, "{}")).config
    except (OSError, ValueError, RecursionError, AttributeError, msgspec.MsgspecError):
        return None


def check_no_bundle(path: Path) -> None:
    """See that a file is not a bundle, which people give where the checkpoint that it was made from belongs.

    Raises:
        CheckpointError: it begins as a bundle does: a zip whose first member is the manifest.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:  # what reads it says why it cannot
        head = file.read(_ZIP_NAME_AT + len(MANIFEST_NAME))
        if head.startswith(_ZIP_MAGIC) and head[_ZIP_NAME_AT:] == MANIFEST_NAME.encode():
            raise CheckpointError(
                f"{path} is a bundle, expected a checkpoint: give the .safetensors or .pth file that it was made from"
            )
