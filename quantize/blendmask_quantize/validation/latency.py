"""Latency of graphs on the same images, by the protocol of `blendmask_edge.benchmark.side_by_side`."""

from blendmask_edge.benchmark.side_by_side import speedup as median_ratio
from blendmask_edge.benchmark.side_by_side import time_side_by_side as interleaved_latency

__all__ = ["interleaved_latency", "median_ratio"]
