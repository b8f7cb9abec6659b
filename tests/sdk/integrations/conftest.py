"""Instances that adapters carry."""

from __future__ import annotations

import numpy as np
import pytest

from blendmask_edge import Instances
from tests.sdk.integrations.instances import LABELS, SIZE


@pytest.fixture
def three() -> Instances:
    """Return three instances whose masks overlap, of a predictor's kind."""
    return Instances(
        boxes=np.array([[5.5, 5, 30, 28.25], [20, 10, 50, 40], [0, 0, 12, 9]], np.float32),
        scores=np.array([0.9, 0.6, 0.25], np.float32),
        class_ids=np.array([1, 0, 2]),
        image_size=SIZE,
        labels=LABELS,
        mask_logits=np.random.default_rng(0).normal(1, 3, (3, 14, 14)).astype(np.float32),
        track_ids=np.array([4, -1, 0]),
    )
