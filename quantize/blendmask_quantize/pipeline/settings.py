"""Settings that every recipe has, as values that load no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec

from blendmask_edge.errors import ConfigError
from blendmask_quantize.pipeline.options import QuantizeOptions

if TYPE_CHECKING:
    from typing_extensions import Self

INT8 = "int8"


@dataclass(frozen=True)
class CalibrationSettings:
    """How calibration images are sampled, and how ranges are estimated.

    Attributes:
        count: largest number of calibration images, 1 or more.
        seed: seed of the sample, 0 or more.
        estimator: range estimator: "max", "percentile", "entropy", "mse", or "auto" for the best one per tensor.
    """

    count: Annotated[int, msgspec.Meta(ge=1)] = 128
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    estimator: str = "mse"

    def overridden(self, options: QuantizeOptions) -> CalibrationSettings:
        """Return the settings with those of the options that are given."""
        given = {"count": options.count, "seed": options.seed, "estimator": options.estimator}
        return replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


@dataclass(frozen=True)
class RecipeSettings:
    """Name, version and settings that every recipe has.

    Attributes:
        name: of the recipe, as a user types it.
        version: changes when the same settings give other numbers.
        summary: one line for a user.
        trains: whether the calibrated network is trained with its quantizers in place.
        prunes: whether the network is pruned and fine-tuned first.
        precision: of weights and activations; INT8 is the only one.
        calibration: images and ranges.
        steps: names of the refinement steps after calibration.
        ignored: layers that stay float, in the notation of the command line: names, globs, or `re:PATTERN`.
        max_drop: largest share of the float network's mask AP that may be lost, e.g. 0.01; layers go back to float
            until it holds on held-out images. None sets no bound.
        max_float_macs: largest share of the multiply-accumulates that this may leave in float.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]
    trains: ClassVar[bool] = False
    prunes: ClassVar[bool] = False

    precision: str = INT8
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    steps: tuple[str, ...] = ("coordinate_descent", "bias_correction")
    ignored: tuple[str, ...] = ()
    max_drop: Annotated[float, msgspec.Meta(ge=0.001, lt=1)] | None = None
    max_float_macs: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        """Refuse another precision.

        Raises:
            ConfigError: the precision is not INT8.
        """
        if self.precision != INT8:
            raise unsupported_precision(self.precision)

    def overridden(self, options: QuantizeOptions) -> Self:
        """Return the recipe with the options that are given in place of its own settings."""
        steps = self.steps if options.steps is None else options.steps
        bound = {"max_drop": options.max_drop, "max_float_macs": options.max_float_macs}
        given = {name: value for name, value in bound.items() if value is not None}
        return replace(self, calibration=self.calibration.overridden(options), steps=tuple(steps), **given)  # type: ignore[arg-type]


def unsupported_precision(precision: object) -> ConfigError:
    """Return the refusal of everything but INT8."""
    return ConfigError(
        f"{precision} is not supported: every recipe quantizes weights and activations to INT8, the one precision that "
        "every runtime here takes. For a still smaller network, use recipe edge"
    )
