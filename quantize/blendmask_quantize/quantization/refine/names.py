"""Names of the refinement steps that a user can ask for. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Sequence

from blendmask_quantize.model.config import unknown_name

STEP_NAMES = ("cross_layer_equalization", "coordinate_descent", "adaround", "bias_correction")


def check_step_names(names: Sequence[str]) -> None:
    """See that every step exists.

    Raises:
        ConfigError: one does not; the nearest one is suggested.
    """
    for name in names:
        if name not in STEP_NAMES:
            raise unknown_name("step", name, STEP_NAMES)
