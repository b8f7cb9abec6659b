"""What examples register is gone when they end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blendmask_quantize.model.backbones.registry import BACKBONES
from blendmask_quantize.model.config import CONFIGS


@pytest.fixture(autouse=True, scope="module")
def registries() -> Iterator[None]:
    """Put the configurations and backbones back that were there before."""
    before = [(registry, dict(registry)) for registry in (CONFIGS, BACKBONES)]  # type: ignore[call-overload]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)
