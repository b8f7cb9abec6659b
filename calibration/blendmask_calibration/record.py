"""What a bundle remembers of its calibration, so that it can be judged and repeated."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Mapping

from blendmask_calibration.images import CalibrationImage


@dataclass(frozen=True)
class CalibrationRecord:
    """The calibration part of a manifest.

    Attributes:
        images: the images that gave the ranges, in the order they were sampled.
        found: number of image files in the folder they were sampled from.
        seed: seed of the sample.
        estimator: name of the range estimator, as in `ESTIMATORS`.
        overrides: codes of the refusals that the user overrode.
        warnings: codes of the warnings that were shown.
        held_out: images that gave no ranges, on which quantized networks were compared with the float one; empty
            where that had to be done on `images`.
        clipped: share of values, 0 to 1, beyond the ranges of the tensors for which it is largest, by name.
    """

    images: tuple[CalibrationImage, ...]
    found: int
    seed: int
    estimator: str
    overrides: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    held_out: tuple[CalibrationImage, ...] = ()
    clipped: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers that JSON keeps unchanged, with `count` beside the fields."""
        fields = asdict(self)
        lists = {name: list(value) for name, value in fields.items() if isinstance(value, tuple)}
        return {"count": len(self.images), **fields, **lists}
