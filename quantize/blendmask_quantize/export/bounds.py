"""Static sizes of the deployable graph."""

from __future__ import annotations

from dataclasses import dataclass

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.nms import FAST_ROUNDS


@dataclass(frozen=True)
class Bounds:
    """Static sizes of the selection; up to them it equals the reference.

    Attributes:
        candidates: pairs of location and class selected over all levels. Of more pairs above the threshold, the lowest
            are dropped.
        rounds: passes of Cluster-NMS. Of a chain of boxes that each hide the next, as many boxes as this, after the
            first, are decided as the reference does; an even number never loses a box that the reference keeps. Always
            1 for a configuration with Fast NMS, which is one pass by definition.
        detections: rows of the outputs, K.
    """

    candidates: int = 512
    rounds: int = 12
    detections: int = 100

    def within(self, config: ModelConfig, size: tuple[int, int]) -> Bounds:
        """Return the sizes that a network offers at an input size, at most those asked for.

        A level offers at most `candidates_per_level` pairs (PRE_NMS_TOPK_TEST); `detections` of the configuration
        (POST_NMS_TOPK_TEST) limits the rows, unless it is 0 or less.

        Args:
            config: gives classes, levels and limits.
            size: height and width of the network input, pixels.

        Raises:
            ConfigError: nothing could be selected.
        """
        inference = config.inference
        offered = sum(min(pairs, inference.candidates_per_level) for pairs in level_pairs(config, size))
        candidates, detections = min(self.candidates, offered), self.detections
        if inference.detections > 0:
            detections = min(detections, inference.detections)
        if min(candidates, detections) < 1:
            raise ConfigError(
                f"{candidates} candidates and {detections} detections would be selected from an image: both are 1 or "
                "more; raise PRE_NMS_TOPK_TEST of the configuration, or the number of detections asked for"
            )
        rounds = FAST_ROUNDS if inference.nms == "fast" else self.rounds
        return Bounds(candidates, rounds, min(detections, candidates))


def level_sizes(config: ModelConfig, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of every pyramid level, finest first, for an input of height and width `size`."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in config.head.strides]


def level_pairs(config: ModelConfig, size: tuple[int, int]) -> list[int]:
    """Pairs of location and class of every pyramid level, finest first."""
    return [config.num_classes * height * width for height, width in level_sizes(config, size)]
