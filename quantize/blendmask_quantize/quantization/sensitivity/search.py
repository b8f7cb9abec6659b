"""Which layers to leave in float, so that accuracy stays within a bound at the least cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from blendmask_quantize.quantization.sensitivity.layers import Layer, Layers

Holds = Callable[[Collection[Layer]], bool]
"""Whether the bound holds with some layers in float."""

_WORTH = 0.005
"""Share of the multiply-accumulates from which a layer is worth the time to see whether it can be quantized again."""


def fewest_in_float(
    layers: Layers, changes: Mapping[str, float], holds: Holds, most: float
) -> tuple[tuple[Layer, ...], bool]:
    """Find layers to revert to float: few multiply-accumulates, not provably the fewest.

    Layers are reverted in the order of what each changes for its cost, as many as it takes: the number is doubled until
    the bound holds, then bisected. If all that `most` allows are too few, they are reverted in the order of what each
    changes, whatever it costs. Then the costly ones among them are quantized again where the bound still holds.
    If that does not do either, what layers change alone misleads, because they were measured on few images or add up:
    then all layers are reverted and quantized again one by one, those that change least first, where the bound holds.

    Args:
        layers: of the network.
        changes: by name of a layer, how much it changes when it alone is quantized; any unit.
        holds: is asked about ever more layers, which takes long.
        most: largest share of the multiply-accumulates that may be in float.

    Returns:
        The layers, most changing first, and whether the bound holds with them.
    """
    by_cost = sorted(layers.quantized, key=lambda layer: -changes[layer.name] / max(layer.macs, 1))
    by_change = sorted(layers.quantized, key=lambda layer: -changes[layer.name])
    for ranked in (by_cost, by_change):
        allowed = _affordable(layers, ranked, most)
        count = _shortest(allowed, holds)
        if count is not None:
            return _without_needless(layers, allowed[:count], holds), True
    selected = _quantized_one_by_one(layers, by_change, holds, most)
    if layers.float_share(selected) <= most:
        return selected, True
    return tuple(_affordable(layers, by_cost, most)), False


def _affordable(layers: Layers, ranked: Sequence[Layer], most: float) -> list[Layer]:
    """The first layers, without those that would make too much float."""
    chosen: list[Layer] = []
    for layer in ranked:
        if layers.float_share([*chosen, layer]) <= most:
            chosen.append(layer)
    return chosen


def _shortest(ranked: Sequence[Layer], holds: Holds) -> int | None:
    """How many of the first layers it takes; None where all are not enough."""
    low, high = 0, 1
    while not holds(ranked[:high]):
        if high >= len(ranked):
            return None
        low, high = high, min(2 * high, len(ranked))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(ranked[:middle]) else (middle, high)
    return high


def _quantized_one_by_one(layers: Layers, ranked: Sequence[Layer], holds: Holds, most: float) -> tuple[Layer, ...]:
    """The layers that stay in float when each is quantized unless the bound is left, the last one first.

    Within `most`, only layers that are worth it are tried.
    """
    selected = list(ranked)
    for layer in reversed(ranked):
        if layers.float_share(selected) <= most and layers.share([layer]) < _WORTH:
            continue
        fewer = [other for other in selected if other is not layer]
        if holds(fewer):
            selected = fewer
    return tuple(selected)


def _without_needless(layers: Layers, reverted: Sequence[Layer], holds: Holds) -> tuple[Layer, ...]:
    """The layers without those that can be quantized again, the costliest tried first.

    The last one is not tried: without it the bound did not hold.
    """
    needed = list(reverted)
    for layer in sorted(reverted[:-1], key=lambda layer: -layer.macs):
        fewer = [other for other in needed if other is not layer]
        if layers.share([layer]) >= _WORTH and holds(fewer):
            needed = fewer
    return tuple(needed)
