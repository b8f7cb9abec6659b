"""How the training losses are weighted and sampled, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from blendmask_edge.errors import ConfigError


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
        """Refuse an empty draw.

        Raises:
            ConfigError: ``mask_positives`` is below 1.
        """
        if self.mask_positives is not None and self.mask_positives < 1:
            raise ConfigError(f"mask_positives is {self.mask_positives}: give at least 1, or None for every positive")


REFERENCE = LossOptions()
"""As AdelaiDet trains."""
