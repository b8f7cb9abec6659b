"""Where AdelaiDet's recorded numbers lie: all of them beside the checkout, or the part that ships with the tests."""

from __future__ import annotations

from pathlib import Path
from typing import List

SHIPPED = Path(__file__).parent / "recorded"
_BESIDE = Path(__file__).parents[1] / "../shared/parity"
PARITY = _BESIDE if _BESIDE.is_dir() else SHIPPED
"""The folder that the tests read."""
CASES = ("rt_bnhead", "rt_shtw", "r50", "r50_550", "dcn", "dla34")


def recorded_cases(file: str = "inference.npz", folder: Path = PARITY) -> List[str]:
    """Return the cases whose folder holds a file."""
    return [case for case in CASES if (folder / case / file).exists()]
