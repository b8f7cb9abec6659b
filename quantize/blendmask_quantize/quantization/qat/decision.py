"""Whether training with quantizers gained anything: decided by an interval, so that chance does not decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from blendmask_edge.evaluation.bootstrap import Matches, draw_images, interval

RESAMPLES = 400
_MASK_AP = "mask_ap"

MatchesOf = Mapping[str, Matches]
"""COCO's matching of each variant, all on the same images."""


@dataclass(frozen=True)
class Decision:
    """A network trained with quantizers, compared with the one from before on the same images.

    Attributes:
        scores: mask AP of "ptq" and "qat", by variant.
        gain: mean gain of mask AP over the variants.
        low, high: between which 95 % of the gains lie when images are drawn anew, the same ones for both networks.
    """

    scores: Mapping[str, Mapping[str, float]]
    gain: float
    low: float
    high: float

    @property
    def kept(self) -> str:
        """Return "qat" where the gain is more than chance explains, else "ptq"."""
        return "qat" if self.low > 0 else "ptq"

    def record(self) -> dict[str, Any]:
        """The entry of the manifest, in JSON's types."""
        scores = {name: dict(by_variant) for name, by_variant in self.scores.items()}
        return {"kept": self.kept, "mask_ap": scores, "gain": self.gain, "gain_low": self.low, "gain_high": self.high}

    def __str__(self) -> str:
        """Say which network is kept and why, in a sentence."""
        numbers = ", ".join(
            f"{variant} {100 * self.scores['qat'][variant]:.1f} against {100 * ap:.1f} by PTQ"
            for variant, ap in self.scores["ptq"].items()
        )
        gain = f"a gain of {100 * self.gain:+.2f} (95 % interval {100 * self.low:+.2f} to {100 * self.high:+.2f})"
        if self.kept == "qat":
            return f"training with quantization is kept: mask AP {numbers}, {gain}"
        return f"PTQ is kept, training did not help beyond chance: mask AP {numbers}, {gain}"


def decide(ptq: MatchesOf, qat: MatchesOf, images: int, seed: int = 0) -> Decision:
    """Compare two quantized networks by a paired bootstrap over images.

    Args:
        ptq: of the calibrated network.
        qat: of the trained network.
        images: how many both were matched on.
        seed: of the draws.
    """
    draws = draw_images(images, RESAMPLES, seed)
    once = np.ones(images, np.int64)
    scores = {
        name: {variant: matched.metrics(once).get(_MASK_AP, 0.0) for variant, matched in matches.items()}
        for name, matches in (("ptq", ptq), ("qat", qat))
    }
    gains = np.mean([_values(qat[variant], draws) - _values(ptq[variant], draws) for variant in ptq], axis=0)
    low, high = interval(gains)
    gain = float(np.mean([scores["qat"][variant] - scores["ptq"][variant] for variant in ptq]))
    return Decision(scores, gain, low, high)


def _values(matches: Matches, draws: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return matches.distribution(draws).get(_MASK_AP, np.zeros(len(draws)))
