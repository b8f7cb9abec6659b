"""Backbones by the name that `BackboneConfig.kind` gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.backbones.dla import DLA34
from blendmask_quantize.model.backbones.lite0 import Lite0
from blendmask_quantize.model.backbones.resnet import ResNet
from blendmask_quantize.model.config import BackboneConfig, unknown_name


@runtime_checkable
class BackboneModule(Protocol):
    """A module that maps a normalized image (N, 3, H, W) to features of strides 4, 8, 16 and 32.

    Attributes:
        widths: channels of these features.
    """

    widths: Sequence[int]

    def stages(self) -> list[nn.Module]:
        """The parts in order, the stem first, for freezing."""
        ...

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features of strides 4, 8, 16 and 32."""
        ...


Builder = Callable[[BackboneConfig], nn.Module]
BACKBONES: dict[str, Builder] = {"resnet": ResNet, "dla34": DLA34, "lite0": Lite0}


def register_backbone(name: str, builder: Builder) -> None:
    """Register a backbone for `BackboneConfig(kind=name)`.

    A checkpoint stores only the name, so register the backbone before you load one that uses it.

    Args:
        name: new name.
        builder: function that takes a `BackboneConfig` and returns an `nn.Module`. Called with a normalized image
            (N, 3, H, W), the module returns features of strides 4, 8, 16 and 32; `widths` lists their channels, and
            `stages()` returns its parts for freezing, the stem first.

    Raises:
        ConfigError: the name is empty or already used, or the builder is not callable.

    Example:
        >>> from dataclasses import replace
        >>> from blendmask_quantize import BackboneConfig, get_config, register_backbone, register_config
        >>> from blendmask_quantize.model.backbones.lite0 import Lite0  # or a module of your own
        >>> register_backbone("mobile", Lite0)
        >>> ours = replace(get_config("LITE0_RT"), name="MOBILE_RT", backbone=BackboneConfig(kind="mobile"))
        >>> register_config(ours).backbone.kind
        'mobile'
    """
    if not isinstance(name, str) or not name or not callable(builder):
        raise ConfigError(f"the backbone {name!r} has the builder {builder!r}: give a name and a callable")
    if BACKBONES.get(name, builder) is not builder:
        raise ConfigError(f"a backbone named {name!r} already exists: give another name")
    BACKBONES[name] = builder


def make_backbone(config: BackboneConfig) -> Any:
    """The backbone that a configuration names.

    Raises:
        ConfigError: no backbone has that name, or its builder makes something else.
    """
    if config.kind not in BACKBONES:
        raise unknown_name("backbone", config.kind, BACKBONES, "; make one known with register_backbone")
    backbone = BACKBONES[config.kind](config)
    if not isinstance(backbone, nn.Module) or not isinstance(backbone, BackboneModule) or len(backbone.widths) != 4:
        raise ConfigError(
            f"the builder of the backbone {config.kind!r} gives a {type(backbone).__name__}: expected a module with "
            "the channels of four stages in `widths`, and the method `stages`"
        )
    return backbone
