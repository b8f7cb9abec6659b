"""Limits of the numbers in a configuration, which may come from a file that anybody wrote."""

from __future__ import annotations

import math
from typing import Any

from blendmask_edge.errors import ConfigError

_CHANNELS = (1, 8192)
_CONVS = (0, 64)
_PIXELS = (1, 16384)

_LIMITS: dict[str, tuple[float, float]] = {
    "num_classes": (1, 2**16), "pyramid_width": _CHANNELS, "extra_levels": (0, 8), "attention_size": (1, 64),
    "resolution": (1, 1024), "backbone.frozen_stages": (0, 64), "backbone.stem_width": _CHANNELS,
    "backbone.res2_width": _CHANNELS, "backbone.bottleneck_width": _CHANNELS, "backbone.level_widths": _CHANNELS,
    "backbone.deform_interval": (0, 64), "head.strides": (1, 4096), "head.size_bounds": (0, 10**8),
    "head.shared_convs": _CONVS, "head.class_convs": _CONVS, "head.box_convs": _CONVS, "head.radius": (0, 1000),
    "head.prior": (1e-9, 1 - 1e-9), "bases.count": (1, 64), "bases.width": _CHANNELS, "bases.convs": _CONVS,
    "bases.low_level_width": _CHANNELS, "bases.atrous_rates": (1, 256), "input.mean": (-1000, 1000),
    "input.std": (1e-6, 1e6), "input.test_short": _PIXELS, "input.test_long": _PIXELS, "input.train_short": _PIXELS,
    "input.train_long": _PIXELS, "input.divisor": (1, 4096), "inference.score_threshold": (0, 1),
    "inference.nms_threshold": (-math.inf, 1), "inference.candidates_per_level": (0, 10**6),
}  # fmt: skip
"""Lowest and highest value of each number, or of each of several."""

_CHOICES = {"input.channels": ("bgr", "rgb")}
_LONGEST_NAME = 256


def check_limits(config: Any) -> None:
    """Check every number before anything of that size is allocated.

    Args:
        config: a `ModelConfig`.

    Raises:
        ConfigError: one is out of range, or a name is unknown.
    """
    if len(config.name) > _LONGEST_NAME or not config.name.isprintable():
        raise ConfigError(
            f"a configuration is called {config.name!r:.80}, expected at most {_LONGEST_NAME} printable characters"
        )
    for name, (low, high) in _LIMITS.items():
        value = _value(config, name)
        if not all(_is_within(number, low, high) for number in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(f"{name} of {config.name} is {value!r:.80}, expected {low:g} to {high:g}")
    for name, known in _CHOICES.items():
        if _value(config, name) not in known:
            raise ConfigError(f"{name} of {config.name} is {_value(config, name)!r:.80}, expected {', '.join(known)}")


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def _is_within(number: Any, low: float, high: float) -> bool:
    return isinstance(number, (int, float)) and low <= number <= high
