"""The calibration record of a bundle's manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Mapping

from blendmask_calibration.images import CalibrationImage


@dataclass(frozen=True)
class CalibrationRecord:
    """How a network was calibrated.

    Attributes:
        images: the images that determined the ranges, in the order in which they were sampled.
        found: number of images that they were sampled from.
        seed: seed of the sample.
        estimator: name of the range estimator, as in `ESTIMATORS`.
        overrides: codes of the refusals that the user overrode.
        warnings: codes of the warnings that were shown.
        held_out: images on which INT8 was compared with float, none of which determined ranges; empty if `images` had
            to serve for both.
        clipped: share of clipped values, 0 to 1, of the tensors that are clipped most, by name.
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
        """Return the record as JSON types, with the number of images as `count`."""
        fields = asdict(self)
        lists = {name: list(value) for name, value in fields.items() if isinstance(value, tuple)}
        return {"count": len(self.images), **fields, **lists}
