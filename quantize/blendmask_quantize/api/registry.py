"""Configurations and backbones of one's own, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import CONFIGS, ModelConfig

if TYPE_CHECKING:
    from torch import nn


def list_configs() -> list[str]:
    """The names of all registered configurations, sorted."""
    return sorted(CONFIGS)


def register_config(config: ModelConfig) -> ModelConfig:
    """Register a configuration under its name, for `--config` and `load_checkpoint`.

    Args:
        config: the configuration.

    Returns:
        The same configuration.

    Raises:
        ConfigError: another configuration has that name.
    """
    if CONFIGS.setdefault(config.name, config) != config:
        raise ConfigError(f"a configuration named {config.name} is registered already: choose another name")
    return config


def register_backbone(kind: str, build: Callable[[Any], nn.Module]) -> None:
    """Register a backbone for configurations with this `backbone.kind`.

    Args:
        kind: the name.
        build: from a `BackboneConfig` to the module, built as those in `model.backbones` are.

    Raises:
        ConfigError: another backbone has that name.
    """
    from blendmask_quantize.model.pyramid import BACKBONES

    builders: dict[str, Any] = BACKBONES
    if builders.setdefault(kind, build) is not build:
        raise ConfigError(f"a backbone named {kind} is registered already: choose another name")
