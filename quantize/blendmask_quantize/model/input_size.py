"""The size of the network input."""

from __future__ import annotations

from blendmask_edge.bundle.manifest import MAX_SIDE
from blendmask_edge.errors import ConfigError
from blendmask_edge.imaging import resized_size
from blendmask_quantize.model.config import InputConfig


def padded_test_size(config: InputConfig) -> tuple[int, int]:
    """Height and width of the network input for a 4:3 image at the configuration's test size."""
    sides = resized_size(480, 640, config.test_short, config.test_long)
    return -(-sides[0] // config.divisor) * config.divisor, -(-sides[1] // config.divisor) * config.divisor


def input_size(config: InputConfig, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the network input: as asked for, or the padded test size of a 4:3 image.

    Raises:
        ConfigError: a side is not a multiple of the divisor, or longer than a bundle can state.
    """
    divisor = config.divisor
    if wanted is None:
        return padded_test_size(config)
    near = tuple(min(max(divisor, round(side / divisor) * divisor), MAX_SIDE) for side in wanted)
    if near != wanted:
        raise ConfigError(
            f"the input size {wanted[0]}x{wanted[1]} has a side that is not a multiple of {divisor} up to {MAX_SIDE}: "
            f"use {near[0]}x{near[1]}"
        )
    return wanted
