"""The one way to compare times on a machine that also does other work: in turn, after a rest, more than once."""

from __future__ import annotations

import time
from typing import Callable, Dict, Iterable, List, Mapping, TypeVar

REST_SECONDS = 0.03
"""Quiet before each reading: threads of ONNX Runtime go on looking for work for a while beside whoever comes next."""
WARM_UP = -1
"""The turn that does not count."""
Key = TypeVar("Key")
Reading = TypeVar("Reading")


def read_in_turn(
    read: Mapping[Key, Callable[[int], Reading]],
    turns: Iterable[int],
    positions: int = 1,
    rest: float = REST_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Dict[Key, List[Reading]]:
    """Return the readings of each, taken one after the other in alternating order, so that load falls on all alike.

    Args:
        read: takes one reading at a position, such as the time of an image.
        turns: `WARM_UP`, then numbers from 0; in each, every position is read.
        positions: how many there are.
        rest: seconds of quiet before each reading.
        sleep: waits for seconds.
    """
    readings: Dict[Key, List[Reading]] = {key: [] for key in read}
    for turn in turns:
        for position in range(positions):
            for key in list(read) if (turn + position) % 2 else reversed(list(read)):
                sleep(rest)
                reading = read[key](position)
                if turn != WARM_UP:
                    readings[key].append(reading)
    return readings
