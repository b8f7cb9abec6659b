"""How the training losses are weighted and sampled, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blendmask_edge.arguments.values import is_integer
from blendmask_edge.errors import ConfigError
from blendmask_quantize.training.option_checks import check_number


@dataclass(frozen=True)
class LossOptions:
    """Weights of the losses; the defaults are the reference's.

    Attributes:
        mask_positives: at most this many positives of a step enter the mask loss, drawn uniformly, their sum scaled
            up so that its expectation stays the same; None takes all.
        semantic_weight: factor of the auxiliary semantic loss.
        dice_weight: factor of an overlap loss of the masks, which counts a thin instance's pixels as much as a full
            one's (Milletari et al., 3DV 2016); 0 leaves it out, as the reference does.
        focal_alpha, focal_gamma: balance and focus of the classification loss.
    """

    mask_positives: int | None = None
    semantic_weight: float = 0.3
    dice_weight: float = 0.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0

    def __post_init__(self) -> None:
        """Refuse an empty draw, and weights that are not numbers.

        Raises:
            ConfigError: ``mask_positives`` is below 1, or a weight is negative or not finite.
        """
        if self.mask_positives is not None:
            object.__setattr__(self, "mask_positives", _check_draw(self.mask_positives))
        for name in ("semantic_weight", "dice_weight", "focal_alpha", "focal_gamma"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), 0))


def _check_draw(value: Any) -> int:
    if not is_integer(value, 1):
        raise ConfigError(f"mask_positives is {value!r:.80}: give at least 1, or None for every positive")
    return int(value)


REFERENCE = LossOptions()
"""As AdelaiDet trains."""
