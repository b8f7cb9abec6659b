"""Where the reference values lie, beside the checkout; one thread, which small tensors are fastest with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

SHARED = Path(__file__).parents[2] / "../shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of facts, reference values and tools."""
    if not SHARED.is_dir():
        pytest.skip("the reference values are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def parity(shared: Path) -> Path:
    """Folder of the reference's recorded numbers."""
    return shared / "parity"
