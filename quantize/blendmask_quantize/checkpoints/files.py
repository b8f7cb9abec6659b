"""State dicts from the files that hold them: safetensors, torch files and pickles of arrays."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from blendmask_edge.errors import BlendMaskError, CheckpointError
from blendmask_quantize.checkpoints.record import METADATA_KEY, Record, read_record
from blendmask_quantize.checkpoints.restricted_pickle import ForbiddenGlobalError, RestrictedPickle, as_tensors

StateDict = dict[str, Tensor]

_NESTED = ("model", "state_dict")
_WRAPPER = "module."
"""What `DataParallel` and its kin put before every name."""
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_ZIP_MAGIC = b"PK\x03\x04"


def read_state(path: Path) -> tuple[StateDict, Record]:
    """The tensors of a checkpoint under the reference's names, and the record beside them.

    Raises:
        CheckpointError: there is no such file, or it does not hold tensors by name and nothing that runs.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: give the path of a .safetensors, .pth or .pkl file")
    try:
        state, about = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickled(path), Record())
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


def _read_safetensors(path: Path) -> tuple[StateDict, Record]:
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = read_record((file.metadata() or {}).get(METADATA_KEY, "{}"))
    return state, about


def _read_pickled(path: Path) -> StateDict:
    content = as_tensors(_unpickle(path))
    while isinstance(content, Mapping) and (nested := _nested(content)) is not None:
        content = nested
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise CheckpointError(
            f"{path} has no state dict: expected tensors or arrays by name, bare or under the key 'model'"
        )
    return dict(content)


def _unpickle(path: Path) -> Any:
    """Torch's own reader first, which takes tensors only; the restricted one where there are arrays."""
    if not _is_torch(path):
        with path.open("rb") as file:
            return RestrictedPickle.load(file)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=RestrictedPickle)


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
    return next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)


def _under_reference_names(state: StateDict) -> StateDict:
    while state and all(key.startswith(_WRAPPER) for key in state):
        state = {key.removeprefix(_WRAPPER): value for key, value in state.items()}
    return {key.replace("centerness", "ctrness"): value for key, value in state.items()}
