"""Versions of TensorRT and its kin: read exactly, compared part by part."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple

from blendmask_edge.errors import ConfigError

_NUMBERS = re.compile(r"\d+(\.\d+)*")
_WIDTH = 4


@dataclass(frozen=True)
class Version:
    """One to four numbers; `str` gives them as they were written."""

    parts: Tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read "8.6.1", "10.3.0.26" or "11.4.1+cuda13"; what follows the numbers is ignored.

        Raises:
            ConfigError: the text does not begin with a version.
        """
        match = _NUMBERS.match(text.strip())
        if match is None or len(match.group()) > 32:
            raise ConfigError(f"{text!r} is not a version; give numbers as in 10.3 or 8.6.1.")
        return cls(tuple(int(part) for part in match.group().split("."))[:_WIDTH])

    @classmethod
    def parse_exact(cls, text: str) -> Version:
        """Read a version that a user typed, which must say more than its major number.

        Raises:
            ConfigError: the text is not a version, or a bare major number.
        """
        version = cls.parse(text)
        if len(version.parts) < 2:
            raise ConfigError(
                f"TensorRT {text} is too vague: within one major version devices come and go. "
                "Give at least two numbers, as in 10.3; `python -c 'import tensorrt; print(tensorrt.__version__)'`."
            )
        return version

    def at_least(self, bound: Version) -> bool:
        """Whether this is `bound` or later; numbers left out count as 0."""
        return _padded(self) >= _padded(bound)

    def up_to(self, bound: Version) -> bool:
        """Whether this is `bound` or earlier; "8.2" as a bound covers 8.2.1, and "10" covers all of 10.x."""
        return self.parts[: len(bound.parts)] <= bound.parts

    def same_release(self, other: Version) -> bool:
        """Whether both agree in their first two numbers."""
        return _padded(self)[:2] == _padded(other)[:2]

    def __str__(self) -> str:
        """Return the numbers joined by dots."""
        return ".".join(str(part) for part in self.parts)


def _padded(version: Version) -> Tuple[int, ...]:
    return version.parts + (0,) * (_WIDTH - len(version.parts))
