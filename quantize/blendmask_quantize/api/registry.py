"""Register configurations and backbones."""

from __future__ import annotations

from blendmask_quantize.model.backbones.registry import register_backbone
from blendmask_quantize.model.config import list_configs, register_config

__all__ = ["list_configs", "register_backbone", "register_config"]
