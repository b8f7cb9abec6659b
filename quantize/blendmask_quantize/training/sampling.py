"""How often each image is shown: repeat-factor sampling (Gupta et al., LVIS, CVPR 2019, appendix B.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendmask_edge.arguments.values import is_number
from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import unknown_name
from blendmask_quantize.training.option_checks import check_share

_LARGEST_FACTOR = 1e6
_STEPS = 2**20  # an offset of few bits leaves sums of whole numbers exact


@dataclass(frozen=True)
class SamplingOptions:
    """Which classes are shown more often than they occur.

    Attributes:
        threshold: share of the images below which a class is rare: a class in a share f of them is shown
            sqrt(threshold / f) times as often. 0 shows every image once a pass.
        class_weights: factors of single classes, by name, on top of that; also of the odds that an instance is pasted.
    """

    threshold: float = 0.0
    class_weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is not a share or a factor.

        Raises:
            ConfigError: the threshold is outside 0 to 1, or a factor is below 1 or beyond all sense.
        """
        object.__setattr__(
            self, "threshold", check_share("the threshold of sampling", self.threshold, "a share of the images")
        )
        pairs = self.class_weights if isinstance(self.class_weights, (tuple, list)) else ((),)
        object.__setattr__(self, "class_weights", tuple(map(_check_weight, pairs)))

    def class_factors(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return the factor of each class.

        Raises:
            ConfigError: a class is unknown.
        """
        factors = np.ones(len(names))
        for name, factor in self.class_weights:
            if name not in names:
                raise unknown_name("class", name, names)
            factors[list(names).index(name)] = factor
        return factors


def _check_weight(pair: Any) -> tuple[str, float]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
        raise ConfigError(f"class_weights holds {pair!r:.80}: give pairs of a class and a factor, (('spoon', 3.0),)")
    name, factor = pair
    if not is_number(factor, 1, _LARGEST_FACTOR):
        raise ConfigError(f"the weight of {name} is {factor!r:.80}: give a factor of at least 1, up to a million")
    return name, float(factor)


EVEN = SamplingOptions()
"""Every image once a pass."""


def repeat_factors(presence: NDArray[np.bool_], names: Sequence[str], sampling: SamplingOptions) -> NDArray[np.float64]:
    """Return how often each image is shown a pass, (n,), at least 1: the largest factor among its classes.

    Args:
        presence: (n, classes), whether an image shows the class.
        names: of the classes.
        sampling: which classes are shown more often.

    Raises:
        ConfigError: the sampling names an unknown class.
    """
    share = presence.mean(axis=0)
    rarity = np.sqrt(sampling.threshold / np.where(share > 0, share, 1.0))
    of_class = np.maximum(1.0, rarity) * sampling.class_factors(names)
    factors = np.ones(len(presence))
    for factor, column in zip(of_class, presence.T, strict=True):
        np.maximum(factors, factor, out=factors, where=column)
    return factors


def repeated(factors: NDArray[np.float64], offset: float) -> NDArray[np.int64]:
    """Repeat rows by their factors, rounded so that the number of all is the same in every pass.

    Args:
        factors: (n,) at least 1.
        offset: in [0, 1), decides which fractions round up: over all offsets each row appears as often as its factor.
    """
    total = round(float(factors.sum()))
    reached = np.cumsum(factors) * (total / factors.sum())
    reached[-1] = total
    counts = np.diff(np.floor(reached + math.floor(offset * _STEPS) / _STEPS), prepend=0.0).astype(np.int64)
    return np.repeat(np.arange(len(factors)), counts)
