"""COCO box and mask AP: the SDK's own code, so that a checkpoint and a bundle are measured alike."""

from __future__ import annotations

from blendmask_edge.evaluation.annotations import image_ids
from blendmask_edge.evaluation.average_precision import OnImage, Predictor, collect_results, evaluate, score

__all__ = ["OnImage", "Predictor", "collect_results", "evaluate", "image_ids", "score"]
