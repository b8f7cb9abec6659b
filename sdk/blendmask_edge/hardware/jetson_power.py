"""Power of a Jetson board, from the monitor that tegrastats reads too (INA3221)."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Callable, List, Optional, Tuple

_MONITORS = Path("/sys/bus/i2c/drivers/ina3221")
_BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0")
"""Input of the whole module or board, as releases of JetPack name it."""
_MICRO = 1e-6
_INTERVAL = 0.1

Rail = Tuple[Path, Path]
"""Files of the voltage in millivolts and of the current in milliamperes."""


def find_board_rail() -> Optional[Rail]:
    """Return the rail that supplies the whole board; None where there is none or it cannot be read."""
    for label in sorted(_MONITORS.glob("*/hwmon/hwmon*/in*_label")):
        number = label.name[len("in") : -len("_label")]
        rail = (label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input"))
        try:
            if label.read_text(encoding="ascii").strip() in _BOARD_RAILS and watts(rail) >= 0:
                return rail
        except (OSError, ValueError):
            continue
    return None


def watts(rail: Rail) -> float:
    """Return the present power of a rail."""
    millivolts, milliamperes = (int(path.read_text(encoding="ascii")) for path in rail)
    return millivolts * milliamperes * _MICRO


class BoardMeter:
    """Adds up the power of a rail, which has no counter, in a thread that reads it ten times a second."""

    def __init__(self, rail: Rail, clock: Callable[[], float] = time.monotonic) -> None:
        """Start to read."""
        self._rail, self._clock = rail, clock
        self._start = clock()
        self._samples: List[float] = [watts(rail)]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="board power")
        self._thread.start()

    def stop(self) -> float:
        """Stop to read, and return joules since the start: mean power times duration."""
        self._stopped.set()
        self._thread.join()
        return sum(self._samples) / len(self._samples) * (self._clock() - self._start)

    def _sample(self) -> None:
        while not self._stopped.wait(_INTERVAL):
            try:
                self._samples.append(watts(self._rail))
            except (OSError, ValueError):  # one reading less
                continue
