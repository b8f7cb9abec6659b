"""Layers that stay float: by name, glob or pattern, in every variant; near misses are named."""

from __future__ import annotations

import re

import pytest

from blendmask_edge.errors import ConfigError
from blendmask_quantize.quantization.ignored import Pattern
from blendmask_quantize.quantization.placement import VARIANTS, place
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.tiny import tiny_model


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "pattern", ["backbone.bottom_up.stem", "*.stem", "backbone.*.stem.conv1", re.compile(r"\.stem\.")]
)
def test_ignored_layers_are_not_quantized_and_all_others_are(variant: str, pattern: Pattern) -> None:
    model = tiny_model()
    plain, ignoring = (set(place(trace_network(model, ignored), variant).convs) for ignored in ((), (pattern,)))
    assert ignoring < plain
    assert all("stem" in name for name in plain - ignoring)
    assert not any("stem" in name for name in ignoring)


def test_a_pattern_that_matches_nothing_names_near_misses() -> None:
    with pytest.raises(ConfigError, match=r"'backbone.stem': near it are backbone\.bottom_up\.stem"):
        trace_network(tiny_model(), ("backbone.stem",))
