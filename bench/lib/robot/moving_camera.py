"""Clips of homescenes: the generator's scenes, rendered while the camera moves around them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendmask_edge import ConfigError

_SETTLE_STEPS = 260
_TURN, _NOD, _ZOOM = 40.0, 4.0, 0.1
"""Degrees that the camera goes around the scene in a clip, degrees up and down, and share of its distance."""


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a clip.

    image: (H, W, 3) uint8 RGB.
    bodies: (H, W) number of the object at each pixel, the same in each frame of a clip; -1 for none.
    classes: name of the class of each object by its number.
    """

    image: NDArray[np.uint8]
    bodies: NDArray[np.int64]
    classes: dict[int, str]


def render_clip(data: Path, index: int, frames: int, size: tuple[int, int], seed: int = 0) -> Iterator[ClipFrame]:
    """Render a scene of unseen objects from a camera that moves around it.

    Args:
        data: folder of homescenes, with the generator.
        index: number of the scene.
        frames: of the clip.
        size: height and width, both even.
        seed: of the scene.

    Raises:
        ConfigError: a package of the generator is not installed.
    """
    generator = _generator(data)
    random = np.random.default_rng([seed, index])
    height, width = size
    scene, placed, azimuth, has_shelf = _settled(generator, random, height, width)
    model, state, bodies = scene
    visible = [state.xipos[body] for body in bodies]
    target = np.mean(visible, axis=0)
    position, axes, view = generator._camera(random, target, azimuth, has_shelf)
    model.cam_fovy[0] = view
    classes = {body: each.model.cls for body, each in zip(bodies, placed, strict=True) if each.model is not None}
    for number in range(frames):
        turn, distance = _path(number / max(1, frames - 1), axes)
        state.cam_xpos[0] = target + distance * turn @ (position - target)
        state.cam_xmat[0] = (turn @ axes).ravel()
        rgb, depth, segmented, _ = generator._draw(model, state, [], width, height)
        shot = generator._photo(rgb, depth, np.random.default_rng([seed, index, 1]))
        known = np.where(np.isin(segmented, list(classes)), segmented, -1)
        yield ClipFrame(np.asarray(shot, np.uint8), known, classes)


def _settled(generator: Any, random: np.random.Generator, height: int, width: int) -> Any:
    """Objects that have come to rest: model, state and bodies; what was placed; range of azimuths; shelf or not."""
    mujoco = generator.mujoco
    builder = generator.Builder(width, height)
    zones, azimuth = generator._room(builder, random)
    placed = generator._populate(builder, random, "val", zones)
    generator._lights(builder, random)
    model = builder.compile()
    state = mujoco.MjData(model)
    for _ in range(_SETTLE_STEPS):
        mujoco.mj_step(model, state)
    mujoco.mj_forward(model, state)
    bodies = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, each.body) for each in placed]
    return (model, state, bodies), placed, azimuth, len(zones) > 1


def _path(progress: float, axes: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Rotation of the camera around the scene, and factor of its distance; `progress` goes from 0 to 1."""
    nod = np.radians(_NOD) * np.sin(2 * np.pi * progress)
    turn = _about(np.array([0.0, 0.0, 1.0]), np.radians(_TURN) * (progress - 0.5)) @ _about(axes[:, 0], nod)
    return turn, 1 + _ZOOM * np.sin(np.pi * progress)


def _about(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rotation matrix about a unit axis (Rodrigues)."""
    cross = np.cross(np.eye(3), axis)
    return np.eye(3) - np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _generator(data: Path) -> Any:
    if str(data) not in sys.path:
        sys.path.insert(0, str(data))
    try:
        return importlib.import_module("scene")
    except ImportError as error:
        raise ConfigError(
            f"The generator in {data.name} cannot be imported: {error}. Type: pip install -r "
            f"{data.name}/requirements.txt; apt-get install libosmesa6"
        ) from error
