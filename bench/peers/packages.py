"""Import the optional packages of peers, or say what to install."""

from __future__ import annotations

import importlib
from typing import Any

from blendmask_edge import BlendMaskError


class MissingPeerError(BlendMaskError):
    """A package of a peer is not installed."""


def package(name: str) -> Any:
    """Import a package of a peer.

    Args:
        name: of the module, as in "nncf" or "modelopt.onnx.quantization".

    Raises:
        MissingPeerError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPeerError(
            f"{name} cannot be imported ({error}). Type `make peers`, and use the Python of .venv-peers"
        ) from error
