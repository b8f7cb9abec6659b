"""The recipes: how a checkpoint is quantized, by name. Importing this loads no torch; running a recipe does."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blendmask_quantize.model.config import unknown_name

if TYPE_CHECKING:
    from blendmask_quantize.pipeline.job import Job
    from blendmask_quantize.pipeline.quantized import Quantized


@dataclass(frozen=True)
class Recipe:
    """A named way to quantize a checkpoint.

    Attributes:
        name: as a user types it; the module of this package that holds its stages.
        version: changes when the same options give other numbers.
        summary: one line for a user.
        trains: whether the calibrated network is trained with its quantizers in place.
        prunes: whether the network is pruned and fine-tuned first.
        steps: of refinement after calibration, unless others are asked for.
    """

    name: str
    version: str
    summary: str
    trains: bool = False
    prunes: bool = False
    steps: tuple[str, ...] = ("coordinate_descent", "bias_correction")

    def run(self, job: Job) -> Quantized:
        """Take a job through all stages of the recipe; see its module."""
        quantized: Quantized = importlib.import_module(f"{__name__}.{self.name}").run(job)
        return quantized


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("ptq", "3", "8-bit weights and activations from calibration images, without training"),
        Recipe("qat", "3", "ptq, then trained with its quantizers in place, the float network as teacher", trains=True),
        Recipe("edge", "3", "pruned and fine-tuned on labeled images, then qat", trains=True, prunes=True),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ConfigError: no such recipe; the nearest one is suggested.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise unknown_name("recipe", name, RECIPES)
