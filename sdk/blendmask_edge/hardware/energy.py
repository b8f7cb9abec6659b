"""Energy between two points in time: of processor packages (RAPL, Linux powercap), of a GPU, and of a Jetson board."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Callable, Dict, Optional, Tuple, Type, TypeVar

from blendmask_edge.hardware.jetson_power import BoardMeter, find_board_rail
from blendmask_edge.hardware.nvml import open_gpu_counter

CPU_ENERGY, GPU_ENERGY, BOARD_ENERGY = "energy_mj", "gpu_energy_mj", "board_energy_mj"
"""Metrics of a run, each of a frame: processor packages, first GPU, whole Jetson board."""

_ZONES = Path("/sys/class/powercap")
_PACKAGES = "intel-rapl:?"  # the driver of AMD has the same name; zones below a package are part of it
_MICRO = 1e-6

Value = TypeVar("Value")
Counters = Dict[str, Tuple[int, int]]
"""Counter of each package, and the value after which it starts again, both in microjoules."""


class EnergyMeter:
    """Measures while a `with` block runs; `spent` is then joules by metric, without what the system does not tell."""

    def __init__(self) -> None:
        """Look for what can be measured."""
        self.spent: Dict[str, float] = {}
        self._gpu, self._rail = open_gpu_counter(), find_board_rail()

    def __enter__(self) -> EnergyMeter:
        """Read all counters, and start to read the power of a board."""
        self._board = None if self._rail is None else _readable(partial(BoardMeter, self._rail))
        self._gpu_start = None if self._gpu is None else _readable(self._gpu.read)
        self._packages = read_counters()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Read all counters again."""
        packages = joules(self._packages, read_counters())
        if packages is not None:
            self.spent[CPU_ENERGY] = packages
        if self._board is not None:
            self.spent[BOARD_ENERGY] = self._board.stop()
        gpu_end = None if self._gpu is None else _readable(self._gpu.read)
        if gpu_end is not None and self._gpu_start is not None:
            self.spent[GPU_ENERGY] = gpu_end - self._gpu_start


def _readable(read: Callable[[], Value]) -> Optional[Value]:
    """Return what a counter tells; None where it tells nothing any more, which must not cost the measurement."""
    try:
        return read()
    except (OSError, ValueError):
        return None


def read_counters() -> Counters:
    """Read the counters of all packages; empty where the system has none or lets only root read them."""
    try:
        zones = sorted(_ZONES.glob(_PACKAGES))
        return {zone.name: (_read(zone / "energy_uj"), _read(zone / "max_energy_range_uj")) for zone in zones}
    except (OSError, ValueError):
        return {}


def joules(before: Counters, after: Counters) -> Optional[float]:
    """Return the energy of all packages between two readings; None where there are no counters.

    A counter may have started again once in between.
    """
    if not before or before.keys() != after.keys():
        return None
    spent = 0
    for name, (start, highest) in before.items():
        end = after[name][0]
        spent += end - start if end >= start else end + highest - start
    return spent * _MICRO


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
