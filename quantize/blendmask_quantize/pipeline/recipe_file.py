"""Recipes in YAML files: a recipe by name, the version it is meant for, and the settings that differ from its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from blendmask_edge.errors import ConfigError, DependencyError, install_command
from blendmask_edge.storage.bounded import read_bounded
from blendmask_quantize.checkpoints.yaml_text import MOST_BYTES, decode_yaml
from blendmask_quantize.model.config import YAML_SUFFIXES, unknown_name
from blendmask_quantize.pipeline.recipe import Recipe
from blendmask_quantize.pipeline.recipe_names import get_recipe, is_precision
from blendmask_quantize.pipeline.settings import unsupported_precision

_RECIPE, _VERSION = "recipe", "version"


def is_recipe_file(recipe: str) -> bool:
    """Whether a text is the path of a recipe file, not the name of a recipe."""
    return recipe.endswith(YAML_SUFFIXES)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises:
        ConfigError: the file cannot be read, or names another version, an unknown setting or an impossible value.
        DependencyError: PyYAML is not installed.
    """
    given = _parse(path)
    try:
        return _recipe(given)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def recipe_settings(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe file would hold: the name, the version and every setting, in YAML's types."""
    return {_RECIPE: recipe.name, _VERSION: recipe.version, **msgspec.to_builtins(recipe)}


def check_recipe(recipe: Recipe) -> None:
    """See that the values of a recipe are of their types and in their ranges.

    Raises:
        ConfigError: one is not.
    """
    _convert(msgspec.to_builtins(recipe, builtin_types=()), type(recipe))


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        given = decode_yaml(read_bounded(path, MOST_BYTES))
    except ImportError as error:
        raise DependencyError(f"Recipe files need PyYAML. Type: {install_command('quantize')}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give the path of a recipe file") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML ({error}): correct it") from error
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ConfigError(f"{path} holds no settings: begin with `recipe: NAME` and `version: VERSION`")
    return given


def _recipe(given: Mapping[str, Any]) -> Recipe:
    name = given.get(_RECIPE)
    if not isinstance(name, str):
        raise ConfigError("it names no recipe: add `recipe: ptq`, or another one")
    base = get_recipe(name)
    if _VERSION not in given:
        raise ConfigError(f"it names no version of recipe {name}: add `version: {base.version}`")
    if str(given[_VERSION]) != base.version:
        raise ConfigError(
            f"it is meant for version {given[_VERSION]} of recipe {name}, and this release has version "
            f"{base.version}, whose results differ: see CHANGELOG.md, then write `version: {base.version}`"
        )
    settings = {key: value for key, value in given.items() if key not in (_RECIPE, _VERSION)}
    return _convert(_merged(msgspec.to_builtins(base), settings, ""), type(base))


def _merged(default: Mapping[str, Any], given: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The default settings with the given ones in their places, at any depth."""
    merged = dict(default)
    for key, value in given.items():
        name = f"{at}{key}"
        if key not in default:
            raise _unknown(name, value, [f"{at}{known}" for known in default])
        own = default[key]
        if isinstance(own, Mapping) and not isinstance(value, Mapping):
            raise ConfigError(f"{name} is {value!r:.80}, expected settings: {', '.join(own)}")
        merged[key] = _merged(own, value, f"{name}.") if isinstance(own, Mapping) else value
    return merged


def _unknown(name: str, value: Any, known: list[str]) -> ConfigError:
    if "bit" in name or is_precision(str(value)) or is_precision(name):
        return unsupported_precision(f"{name}: {value}"[:80])
    return unknown_name("setting", name, known)


def _convert(settings: Any, kind: type[Recipe]) -> Recipe:
    try:
        return msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{str(error).replace('`$.', '`')}: correct this setting") from error
