"""Print the progress of a long study as occasional lines, which a log file keeps as well."""

from __future__ import annotations

import time
from collections.abc import Callable

_LINES = 5


def stage(name: str, total: int) -> Callable[[], None]:
    """Announce a stage of `total` steps, and return what to call after each step."""
    start, done = time.monotonic(), 0
    shown = {max(1, round(total * part / _LINES)) for part in range(1, _LINES + 1)}

    def step() -> None:
        nonlocal done
        done += 1
        if done in shown:
            print(f"  {name}: {done} of {total}, {time.monotonic() - start:.0f} s", flush=True)

    return step
