"""The tiny network with enough channels in every layer to prune blocks of eight."""

from __future__ import annotations

from dataclasses import replace

from blendmask_quantize.model.config import BackboneConfig, BasesConfig, HeadConfig
from tests.quantize.tiny import TINY

SMALL = replace(
    TINY,
    name="SMALL",
    backbone=BackboneConfig(depth=26, norm="BN", frozen_stages=0, stem_width=16, res2_width=32, bottleneck_width=16),
    pyramid_width=32,
    head=HeadConfig(norm="BN", shared_convs=2, size_bounds=(32, 64)),
    bases=BasesConfig(width=32, convs=2, norm="BN"),
)
