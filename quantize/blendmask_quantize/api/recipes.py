"""`load_recipe`: a recipe by its name or from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from blendmask_edge.errors import ConfigError
from blendmask_quantize.api.values import PATH
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.pipeline.recipe import Recipe
from blendmask_quantize.pipeline.recipe_file import check_recipe, is_recipe_file, read_recipe
from blendmask_quantize.pipeline.recipe_names import get_recipe

AnyRecipe = Union[PathLike, Recipe]


def load_recipe(recipe: AnyRecipe) -> Recipe:
    """Load a recipe.

    Args:
        recipe: name of a recipe ("ptq", "qat", "edge" or "edge-sparse"), path of a YAML file that ends in .yaml or
            .yml, or a recipe, which is checked.

    Returns:
        The recipe, a frozen dataclass: change its settings with `dataclasses.replace`.

    Raises:
        ConfigError: there is no such recipe, the file cannot be read, or a setting is unknown or impossible.

    Example:
        >>> from dataclasses import replace
        >>> from blendmask_quantize import load_recipe
        >>> recipe = load_recipe("edge")
        >>> smaller = replace(recipe, pruning=replace(recipe.pruning, ratio=0.5))
        >>> smaller.calibration.count
        128
    """
    if isinstance(recipe, Recipe):
        check_recipe(recipe)
        return recipe
    if not PATH.fits(recipe):
        raise ConfigError(f"recipe is {recipe!r:.80}, expected a name, the path of a YAML file, or a recipe")
    text = str(recipe)
    return read_recipe(Path(text)) if is_recipe_file(text) else get_recipe(text)
