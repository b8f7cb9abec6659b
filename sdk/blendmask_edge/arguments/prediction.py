"""Checks of the arguments of a predictor, and the message where one is something else."""

from __future__ import annotations

import os
from typing import Any, FrozenSet, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from blendmask_edge.arguments.values import check_number, is_integer
from blendmask_edge.errors import ConfigError

Roi = Tuple[float, float, float, float]
"""Region of interest, x0 y0 x1 y1 in pixels of the image."""
Classes = Sequence[Union[str, int]]
"""Classes by name or by class id."""

_LEAST_TILE = 16


def check_bundle_path(path: object) -> None:
    """See that the path of a bundle is text or a path object, without a NUL character.

    Raises:
        ConfigError: it is something else.
    """
    location = path.__fspath__() if isinstance(path, os.PathLike) else path
    if not isinstance(location, str):
        raise ConfigError(f"path is {path!r}, expected str or pathlib.Path. Decode bytes by os.fsdecode.")
    if "\0" in location:
        raise ConfigError(f"path is {location!r}, which contains a NUL character. Give the path of a .bmz file.")


def check_session_names(runtime: object, variant: object) -> None:
    """See that the names of a runtime and of a variant, or None for the latter, are text.

    Raises:
        ConfigError: one is something else.
    """
    if not isinstance(runtime, str):
        raise ConfigError(f'runtime is {runtime!r}, expected a name such as "onnxruntime"; leave it out for "auto".')
    if variant is not None and not isinstance(variant, str):
        raise ConfigError(f'variant is {variant!r}, expected a name such as "cpu"; leave it out for the preferred one.')


def check_batch(images: Any) -> List[Any]:
    """Return the images of a batch as a list.

    Raises:
        ConfigError: it is a single image, or nothing that gives images.
    """
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise ConfigError("images is a single image. Call predictor(image), or give a list of images.")
    if not isinstance(images, Iterable) or isinstance(images, (str, bytes, dict)):
        raise ConfigError(f"images is a {type(images).__name__}, expected a list of (height, width, 3) uint8 arrays.")
    return list(images)


def check_threshold(value: Any, least: float = 0.0) -> float:
    """Return a score threshold as float.

    Args:
        value: a number from 0 to 1.
        least: threshold with which the graph runs.

    Raises:
        ConfigError: it is something else, or below `least`.
    """
    threshold = check_number("score_threshold", value, 0, 1)
    if threshold < least:
        raise ConfigError(
            f"score_threshold is {value!r}, but the graph runs with {least:.3g} and computes no masks below that. "
            f"Open the predictor with MaskPredictor(..., score_threshold={value!r})."
        )
    return threshold


def check_tile(value: Any, default: Tuple[int, int]) -> Tuple[int, int]:
    """Return height and width of a tile; `default` for None.

    Raises:
        ConfigError: it is not two integers from 16 on.
    """
    if value is None:
        return default
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2
    if not is_pair or not all(is_integer(side, _LEAST_TILE) for side in value):
        raise ConfigError(f"tile is {value!r}, expected (height, width) in pixels, each {_LEAST_TILE} or more.")
    return int(value[0]), int(value[1])


def check_roi(value: Any) -> Optional[Roi]:
    """Return a region of interest as four floats, or None.

    Raises:
        ConfigError: it is not four finite numbers with x0 < x1 and y0 < y1.
    """
    if value is None:
        return None
    try:
        x0, y0, x1, y1 = (np.nan if isinstance(side, (str, bytes)) else float(side) for side in value)
    except (TypeError, ValueError, OverflowError):
        x0 = y0 = x1 = y1 = np.nan
    if not (np.isfinite([x0, y0, x1, y1]).all() and x0 < x1 and y0 < y1):
        raise ConfigError(f"roi is {value!r}, expected x0, y0, x1, y1 in pixels, with x0 < x1 and y0 < y1.")
    return x0, y0, x1, y1


def check_classes(value: Any, names: Sequence[str]) -> Optional[FrozenSet[int]]:
    """Return class ids of names or ids, or None.

    Args:
        value: names or class ids, or None.
        names: those of all classes.

    Raises:
        ConfigError: it is not a list of them, or a class is unknown.
    """
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, set, frozenset, np.ndarray)):
        raise ConfigError(f'classes is {value!r}, expected a list of names or class ids, such as ["mug", 3].')
    return frozenset(_class_id(item, names) for item in value)


def _class_id(item: Any, names: Sequence[str]) -> int:
    if isinstance(item, str) and item in names:
        return list(names).index(item)
    if is_integer(item, 0, len(names) - 1):
        return int(item)
    shown = ", ".join(list(names)[:10]) + (", ..." if len(names) > 10 else "")
    raise ConfigError(
        f"classes holds {item!r}, expected names of the bundle ({shown}) or class ids 0 to {len(names) - 1}."
    )
