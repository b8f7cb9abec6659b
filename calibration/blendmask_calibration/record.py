"""What a bundle remembers of its calibration, so that it can be judged and repeated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from blendmask_calibration.images import CalibrationImage


@dataclass(frozen=True)
class CalibrationRecord:
    """The calibration part of a manifest.

    Attributes:
        images: the pictures used, in the order they were sampled.
        found: number of picture files in the folder they were sampled from.
        seed: seed of the sample.
        estimator: name of the range estimator, as in `ESTIMATORS`.
        overrides: codes of the refusals that the user overrode.
        warnings: codes of the warnings that were shown.
    """

    images: tuple[CalibrationImage, ...]
    found: int
    seed: int
    estimator: str
    overrides: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers that JSON keeps unchanged, with `count` beside the fields."""
        fields = asdict(self)
        lists = {name: list(value) for name, value in fields.items() if isinstance(value, tuple)}
        return {"count": len(self.images), **fields, **lists}
