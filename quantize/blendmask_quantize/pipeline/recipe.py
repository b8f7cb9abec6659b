"""The recipes by name: a table that loads no torch. `recipes/` holds their stages, a module each."""

from __future__ import annotations

from dataclasses import dataclass

from blendmask_quantize.model.config import unknown_name


@dataclass(frozen=True)
class Recipe:
    """A named way to quantize a checkpoint.

    Attributes:
        name: as a user types it.
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
