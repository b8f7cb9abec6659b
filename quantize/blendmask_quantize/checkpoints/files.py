"""State dicts from the files that hold them: safetensors, torch files and pickles of arrays."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from blendmask_edge.errors import BlendMaskError, CheckpointError, ConfigError
from blendmask_quantize.checkpoints.record import METADATA_KEY, Record, check_no_bundle, read_record
from blendmask_quantize.checkpoints.restricted_pickle import ForbiddenGlobalError, RestrictedPickle, as_tensors

StateDict = dict[str, Tensor]

_NESTED = ("model", "state_dict")
_ROOTS = frozenset({"backbone", "basis_module", "proposal_generator", "top_layer"})
"""First parts of the reference's names. `DataParallel`, `torch.compile` and trainers put another one before all."""
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_ZIP_MAGIC = b"PK\x03\x04"


def read_state(path: Path) -> tuple[StateDict, Record]:
    """The tensors of a checkpoint under the reference's names, and the record beside them.

    Raises:
        CheckpointError: there is no such file, or it does not hold tensors by name and nothing that runs.
    """
    if not os.path.isfile(path):
        raise CheckpointError(f"no checkpoint at {path}: give the path of a .safetensors, .pth or .pkl file")
    check_no_bundle(path)
    try:
        state, about = _read_safetensors(path) if _is_safetensors(path) else (_read_pickled(path), Record())
    except ConfigError as error:
        raise CheckpointError(f"{path} states a configuration that no network has: {error}") from error
    except BlendMaskError:
        raise
    except ForbiddenGlobalError as error:
        raise CheckpointError(
            f"{path} refers to {error}, which could run code and is not loaded: give a file of tensors only, as "
            "torch.save(model.state_dict(), PATH) writes it"
        ) from error
    except Exception as error:  # what a damaged pickle raises depends on its bytes
        reason = f"{type(error).__name__} {error}".splitlines()[0][:200]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}): give a .safetensors file, or a torch or detectron2 "
            "file of tensors or arrays by name"
        ) from error
    return _under_reference_names(state), about


def _is_safetensors(path: Path) -> bool:
    """Whether the name or the first bytes, a length and a JSON object, are those of a safetensors file."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> tuple[StateDict, Record]:
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = read_record((file.metadata() or {}).get(METADATA_KEY, "{}"))
    return state, about


def _read_pickled(path: Path) -> StateDict:
    content = as_tensors(_unpickle(path))
    while isinstance(content, Mapping) and (nested := _nested(content)) is not None:
        content = nested
    state = _tensors(content)
    if not state:
        raise CheckpointError(
            f"{path} has no state dict: expected tensors or arrays by name, bare or under the key 'model'"
        )
    return state


def _tensors(content: Any) -> StateDict:
    """The tensors among what a mapping holds by name."""
    pairs = content.items() if isinstance(content, Mapping) else ()
    return {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, Tensor)}


def _unpickle(path: Path) -> Any:
    """Torch's own reader first, which takes tensors only; the restricted one where there are arrays."""
    _check_zip(path)
    if not _is_torch(path):
        with path.open("rb") as file:
            return RestrictedPickle.load(file)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=RestrictedPickle)


def _check_zip(path: Path) -> None:
    """Refuse a compressed zip: torch writes none, and a small file could fill the memory."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise CheckpointError(f"{path} is a compressed zip file, expected a file that torch.save wrote")


def _is_torch(path: Path) -> bool:
    """Whether torch wrote the file, in its present or its older format."""
    with path.open("rb") as file:
        if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
            return True
        file.seek(0)
        try:
            return bool(RestrictedPickle.load(file) == _TORCH_MAGIC)
        except Exception:  # it is read again, and then says what is wrong
            return False


def _nested(content: Mapping[Any, Any]) -> Mapping[Any, Any] | None:
    """The value under one of the usual keys, else the first mapping that holds a network of the reference."""
    usual = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
    return usual or next((value for value in content.values() if _holds_network(value)), None)


def _holds_network(value: Any) -> bool:
    return any(_ROOTS.intersection(name.split(".")[:-1]) for name in _tensors(value))


def _under_reference_names(state: StateDict) -> StateDict:
    while (first := _common_part(state)) is not None and first not in _ROOTS:
        state = {key.removeprefix(f"{first}."): value for key, value in state.items()}
    return {key.replace("centerness", "ctrness"): value for key, value in state.items()}


def _common_part(state: StateDict) -> str | None:
    """The part before the first dot, where all names share it."""
    parts = {key.partition(".")[0] if "." in key else None for key in state}
    return parts.pop() if len(parts) == 1 else None
