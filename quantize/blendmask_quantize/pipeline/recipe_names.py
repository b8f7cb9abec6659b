"""The recipes by name."""

from __future__ import annotations

import re

from blendmask_quantize.model.config import unknown_name
from blendmask_quantize.pipeline.recipe import Recipe
from blendmask_quantize.pipeline.recipes.edge import Edge
from blendmask_quantize.pipeline.recipes.edge_sparse import EdgeSparse
from blendmask_quantize.pipeline.recipes.ptq import Ptq
from blendmask_quantize.pipeline.recipes.qat import Qat
from blendmask_quantize.pipeline.settings import INT8, unsupported_precision

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (Ptq(), Qat(), Edge(), EdgeSparse())}
_PRECISION = re.compile(r"(w\d+a\d+|(u?int|bf|fp|float|nf|nvfp|mxfp|[wq])[-_]?\d+)", re.IGNORECASE)


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ConfigError: no such recipe; the nearest one is suggested.
    """
    if name in RECIPES:
        return RECIPES[name]
    if is_precision(name):
        raise unsupported_precision(name)
    raise unknown_name("recipe", name, RECIPES)


def is_precision(text: str) -> bool:
    """Whether a text names another precision than INT8, such as "int4" or "w4a16"."""
    return text.lower() != INT8 and _PRECISION.match(text) is not None
