"""ImageNet weights for a backbone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from blendmask_edge.errors import CheckpointError
from blendmask_quantize.model.backbones.lite0 import STAGES
from blendmask_quantize.model.blendmask import BlendMask

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_CONVS = {"_expand_conv": "expand", "_depthwise_conv": "depthwise", "_project_conv": "project"}


def load_backbone(model: BlendMask, path: Path) -> None:
    """Fill the EfficientNet-Lite0 backbone of `model` from the package's file.

    Raises:
        CheckpointError: the file is missing or not the one that was checked.
    """
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise CheckpointError(
            f"{path} is not the backbone file with SHA-256 {SHA256[:12]}...: install the package again"
        )
    source = torch.load(path, map_location="cpu", weights_only=True)
    names = _names()
    state = {}
    for key, value in source.items():
        module, _, tensor = key.rpartition(".")
        if module in names and tensor != "num_batches_tracked":
            state[f"{names[module]}.{tensor}"] = value
    model.backbone.bottom_up.load_state_dict(state, strict=True)


def _names() -> dict[str, str]:
    """From the package's module names to those of `Lite0`."""
    names = {"_conv_stem": "stem", "_bn0": "stem.norm"}
    number = 0
    for stage, (count, _, _, expansion, _) in enumerate(STAGES):
        convs = [conv for conv in _CONVS if expansion > 1 or conv != "_expand_conv"]
        for index in range(count):
            for norm, conv in enumerate(convs):
                target = f"blocks.{stage}.{index}.{_CONVS[conv]}"
                names[f"_blocks.{number}.{conv}"] = target
                names[f"_blocks.{number}._bn{norm if expansion > 1 else norm + 1}"] = f"{target}.norm"
            number += 1
    return names
