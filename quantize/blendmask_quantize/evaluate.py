"""COCO box and mask AP: the SDK's own code, so that a checkpoint and a bundle are measured alike."""

from __future__ import annotations

from blendmask_edge.annotations import image_ids
from blendmask_edge.bench.accuracy import OnImage, Predictor, collect_results, evaluate, score

__all__ = ["OnImage", "Predictor", "collect_results", "evaluate", "image_ids", "score"]
