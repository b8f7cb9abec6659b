"""Channel counts that differ from a configuration's own: how a thinned network is built again."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import LayerWidth
from blendmask_quantize.model.layers import FrozenBatchNorm2d

SIZED = (nn.Conv2d, nn.BatchNorm2d, FrozenBatchNorm2d, nn.GroupNorm)
"""Layers that have a number of channels."""


def layer_widths(model: nn.Module) -> tuple[LayerWidth, ...]:
    """Channels of every convolution and normalization, in the order of the modules."""
    named = ((name, module) for name, module in model.named_modules() if isinstance(module, SIZED))
    return tuple(LayerWidth(name, *_channels(module)) for name, module in named)


def changed_widths(model: nn.Module, original: nn.Module) -> tuple[LayerWidth, ...]:
    """The layers of `model` whose channels differ from those of `original`, which has the same layers."""
    before = set(layer_widths(original))
    return tuple(width for width in layer_widths(model) if width not in before)


def apply_widths(model: nn.Module, widths: Iterable[LayerWidth]) -> None:
    """Thin a network in place to a table of widths; each layer keeps its first channels.

    Raises:
        ConfigError: the table names a layer that is not there, or channels that it cannot have.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SIZED)}
    for width in widths:
        layer = layers.get(width.layer)
        if layer is None:
            raise ConfigError(f"the table of widths names {width.layer}, which the network lacks")
        _check(width, layer)
        _resize(layer, width)


def _channels(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Conv2d):
        return module.in_channels, module.out_channels
    channels = len(module.weight)  # type: ignore[arg-type]
    return channels, channels


def _check(width: LayerWidth, layer: nn.Module) -> None:
    most = _channels(layer)
    fits = 1 <= width.inputs <= most[0] and 1 <= width.outputs <= most[1]
    tied = not isinstance(layer, nn.Conv2d) or layer.groups > 1
    if not fits or (tied and width.inputs != width.outputs):
        raise ConfigError(
            f"the table of widths gives {width.layer} {width.inputs} inputs and {width.outputs} outputs; it has "
            f"{most[0]} and {most[1]} and can only be thinned"
        )
    if isinstance(layer, nn.GroupNorm) and width.outputs % layer.num_groups:
        raise ConfigError(
            f"the table of widths gives {width.layer} {width.outputs} channels, no multiple of its "
            f"{layer.num_groups} groups"
        )


def _resize(layer: nn.Module, width: LayerWidth) -> None:
    sizes = (width.outputs, width.inputs)
    if isinstance(layer, nn.Conv2d):
        layer.groups = width.outputs if layer.groups > 1 else 1
        layer.in_channels, layer.out_channels = width.inputs, width.outputs
        sizes = (width.outputs, width.inputs // layer.groups)
    elif isinstance(layer, nn.BatchNorm2d):
        layer.num_features = width.outputs
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = width.outputs
    for name, parameter in list(layer.named_parameters(recurse=False)):
        setattr(layer, name, nn.Parameter(_cut(parameter, sizes), requires_grad=parameter.requires_grad))
    for name, buffer in list(layer.named_buffers(recurse=False)):
        setattr(layer, name, _cut(buffer, sizes))


def _cut(tensor: Tensor, sizes: tuple[int, int]) -> Tensor:
    """The first channels of a weight (outputs, inputs, ...), of a vector (outputs,), or a scalar as it is."""
    return tensor.detach()[tuple(slice(size) for size in sizes[: tensor.ndim])].clone()
