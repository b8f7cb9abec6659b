"""The result of a prediction."""

from __future__ import annotations

from blendmask_edge.instances.instances import Instances

__all__ = ["Instances"]
