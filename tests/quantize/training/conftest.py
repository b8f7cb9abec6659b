"""The reference's recorded training step, as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from tests.quantize.training_parity import TrainingReference


@pytest.fixture(scope="session")
def recording(parity: Path) -> Callable[[str], TrainingReference]:
    """The recorded training step of a case."""
    return lambda case: TrainingReference(parity / case)
