"""What all tests share: the profiles of property tests, and a collector of garbage that does not slow the tests."""

from __future__ import annotations

import gc
from functools import partial
from typing import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples each time, so that what fails is due to the change; "explore" draws others.
settings.register_profile("fast", _UNTIMED, max_examples=25, derandomize=True)
settings.register_profile("thorough", _UNTIMED, max_examples=200, derandomize=True)
settings.register_profile("explore", _UNTIMED, max_examples=1000)
settings.load_profile("fast")  # another one by --hypothesis-profile


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Generator[None, None, None]:
    """Collect no garbage while modules and tests are made, which stay."""
    gc.disable()
    yield
    gc.enable()


def pytest_collection_finish() -> None:
    """Keep modules and thousands of tests out of the passes of the garbage collector, and let it pass seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope="session", autouse=True)
def unrested_trials() -> Iterator[None]:
    """Let `runtime="auto"` try runtimes without a rest before each reading, which takes longest of small bundles."""
    from blendmask_edge.runtimes import trial

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "read_in_turn", partial(trial.read_in_turn, rest=0))
        yield
