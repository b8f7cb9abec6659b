"""The reference's recorded training step, as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from tests.quantize.training_parity import TrainingReference


@pytest.fixture(scope="session")
def recording(parity: Path) -> Callable[[str], TrainingReference]:
    """The recorded training step of a case, or a skip where it is not beside this checkout."""

    def step(case: str) -> TrainingReference:
        if not (parity / case / "training/targets.npz").exists():
            pytest.skip(f"the recorded training step of {case} is not beside this checkout")
        return TrainingReference(parity / case)

    return step
