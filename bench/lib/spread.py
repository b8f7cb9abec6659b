"""Mask AP of a predictor with its interval, and how much of another predictor's it keeps on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.scenes import METRICS
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.bootstrap import Matches, interval, ratio
from blendmask_edge.evaluation.predictions import Results

_METRIC = "mask_ap"


@dataclass(frozen=True)
class Spread:
    """COCO metrics of a predictor, and its mask AP on each draw of the images.

    Attributes:
        metrics: 0 to 1, by name.
        draws: (B,) mask AP.
    """

    metrics: Mapping[str, float]
    draws: NDArray[np.float64]

    @classmethod
    def of(cls, images: AnnotatedImages, results: Results, draws: NDArray[np.int64]) -> Spread:
        """Score COCO results.

        Args:
            images: annotated.
            results: of all of them.
            draws: (B, I), how often each image is drawn, of `draw_images`.
        """
        metrics = score(images.coco, results, images.ids)
        return cls(metrics, Matches.of(images.coco, results, images.ids).distribution(draws)[_METRIC])

    @property
    def mask_ap(self) -> dict[str, float]:
        """Columns `mask_ap`, `mask_ap_low` and `mask_ap_high`."""
        return _with_interval(_METRIC, self.metrics[_METRIC], self.draws)

    @property
    def columns(self) -> dict[str, float]:
        """The columns of `mask_ap`, and the other metrics that rows have."""
        others = {name: round(self.metrics[name], 4) for name in METRICS if name in self.metrics and name != _METRIC}
        return self.mask_ap | others

    def retention(self, base: Spread) -> dict[str, Any]:
        """Columns `retention`, `retention_low` and `retention_high`: mask AP over that of `base` on the same draws."""
        if not base.metrics[_METRIC]:
            return {"error": "the float graph finds nothing"}
        share = self.metrics[_METRIC] / base.metrics[_METRIC]
        return _with_interval("retention", share, ratio(self.draws, base.draws))


def _with_interval(name: str, value: float, draws: NDArray[np.float64]) -> dict[str, float]:
    low, high = interval(draws)
    return {name: round(value, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
