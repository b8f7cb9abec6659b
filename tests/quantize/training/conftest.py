"""The reference's recorded training step, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blendmask_quantize.training import distill, loop
from tests.quantize.training_parity import TrainingReference


@pytest.fixture(scope="session", autouse=True)
def undrawn() -> Iterator[None]:
    """Leave out the plot at the end of each run, which takes as long as its steps; `test_curves` draws it."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (loop, distill):
            patch.setattr(module, "draw_curves", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def recording(parity: Path) -> Callable[[str], TrainingReference]:
    """The recorded training step of a case, or a skip where it is not beside this checkout."""

    def step(case: str) -> TrainingReference:
        if not (parity / case / "training/targets.npz").exists():
            pytest.skip(f"the recorded training step of {case} is not beside this checkout")
        return TrainingReference(parity / case)

    return step
