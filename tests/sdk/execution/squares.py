"""Work that squares numbers, with faults on demand."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

from blendmask_edge.errors import ImageError
from blendmask_edge.execution.work import described


@dataclass(frozen=True)
class Fault:
    """What happens at one number: the process is killed (`times` times), or an error is raised."""

    number: int
    folder: Path
    times: int = 0
    message: str = ""

    def strike(self) -> None:
        """Do it."""
        if self.message:
            raise ImageError(self.message)
        done = len(list(self.folder.glob("killed*")))
        if done < self.times:
            (self.folder / f"killed{done}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class SquaresOpener:
    """Opens the work; each opening leaves a file in `folder`."""

    fault: Optional[Fault] = None
    folder: Optional[Path] = None
    seconds: float = 0.0

    @contextmanager
    def __call__(self) -> Iterator[Callable[[List[int]], bytes]]:
        """Give what squares numbers."""
        if self.folder is not None:
            (self.folder / f"opened-{os.getpid()}").touch()

        def process(numbers: List[int]) -> bytes:
            if self.fault is not None and self.fault.number in numbers:
                self.fault.strike()
            if self.folder is not None:
                with (self.folder / "done.txt").open("a") as log:
                    log.writelines(f"{number}\n" for number in numbers)
            time.sleep(self.seconds)
            return " ".join(str(number**2) for number in numbers).encode() + b" "

        yield process


@dataclass(frozen=True)
class Squares:
    """The squares of 0 to `total` - 1."""

    total: int
    opener: SquaresOpener = SquaresOpener()
    identity: str = "squares"
    needs: Tuple[str, ...] = ()

    def payload(self, items: range) -> List[int]:
        """Return the numbers."""
        return list(items)

    def describe(self, items: range) -> str:
        """Return the numbers in words."""
        return described("number", items)


def expected(total: int) -> List[int]:
    """Return what the work should give."""
    return [number**2 for number in range(total)]
