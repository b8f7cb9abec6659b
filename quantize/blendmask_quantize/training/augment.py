"""Random variations of an image and its masks: scale, rotation, crop, flip, color, blur, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blendmask_edge.arguments.values import is_integer
from blendmask_edge.bundle.manifest import MAX_SIDE
from blendmask_edge.errors import ConfigError
from blendmask_quantize.training.option_checks import check_number, check_pair, check_share

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]

_BITS = 8
_FULL_TURN, _LARGEST_CHANGE, _LARGEST_SCALE = 360, 10, 100


@dataclass(frozen=True)
class Augmentation:
    """How strongly training images vary; the defaults serve a camera on a moving robot.

    Attributes:
        crop: height and width of an augmented image, pixels, multiples of 32.
        scale: range of the enlargement, 1 being the size the network sees at test time.
        rotation: largest turn either way, degrees.
        flip: probability of mirroring left and right.
        brightness, contrast, saturation, white_balance: largest relative change.
        blur: probability of a Gaussian blur, standard deviation up to 1.5 pixels.
        motion: probability of a straight motion blur, 3 to 9 pixels long.
        noise: probability of Gaussian noise, standard deviation up to 10 gray levels.
        paste: probability that instances of another image are pasted on (Ghiasi et al., CVPR 2021).
        paste_most: largest number of them.
    """

    crop: tuple[int, int] = (320, 416)
    scale: tuple[float, float] = (0.75, 1.5)
    rotation: float = 5.0
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    white_balance: float = 0.1
    blur: float = 0.1
    motion: float = 0.05
    noise: float = 0.1
    paste: float = 0.3
    paste_most: int = 4

    def __post_init__(self) -> None:
        """Refuse values that no image can be augmented with.

        Raises:
            ConfigError: a side of the crop is not a positive multiple of 32, the scale is not a range of positive
                numbers, a probability is outside 0 to 1, or nothing may be pasted.
        """
        object.__setattr__(self, "crop", _check_crop(self.crop))
        object.__setattr__(self, "scale", _check_scale(self.scale))
        object.__setattr__(self, "rotation", check_number("rotation", self.rotation, 0, _FULL_TURN))
        for name in ("brightness", "contrast", "saturation", "white_balance"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), 0, _LARGEST_CHANGE))
        for name in ("flip", "blur", "motion", "noise", "paste"):
            object.__setattr__(self, name, check_share(name, getattr(self, name), "a probability"))
        if not is_integer(self.paste_most, 1):
            raise ConfigError(f"paste_most is {self.paste_most!r:.80}: give at least 1, or set paste to 0")


def _check_crop(value: Any) -> tuple[int, int]:
    height, width = check_pair("crop", value)
    if not all(is_integer(side, 1, MAX_SIDE) and side % 32 == 0 for side in (height, width)):
        raise ConfigError(f"a crop of {height}x{width}: give sides that are multiples of 32 up to {MAX_SIDE}")
    return int(height), int(width)


def _check_scale(value: Any) -> tuple[float, float]:
    pair = check_pair("scale", value)
    low, high = (check_number("scale", number, 0, _LARGEST_SCALE) for number in pair)
    if not 0 < low <= high:
        raise ConfigError(f"a scale from {low:g} to {high:g}: give two positive numbers in order")
    return low, high


@dataclass(frozen=True)
class AugmentedImage:
    """An image (h, w, 3) uint8 RGB, its masks (n, h, w) bool."""

    pixels: Pixels
    masks: Masks


def augment(pixels: Pixels, masks: Masks, size: tuple[int, int], options: Augmentation, rng: np.random.Generator,
                fill: tuple[int, int, int]) -> AugmentedImage:  # fmt: skip
    """Vary an image (H, W, 3) uint8 RGB and its masks (n, H, W) bool at random.

    Args:
        size: height and width that scale 1 means for this image.
        fill: RGB of what lies outside the image.
    """
    zoom = np.exp(rng.uniform(*np.log(options.scale)))
    matrix = _window(pixels.shape[:2], (size[0] * zoom, size[1] * zoom), options.crop, rng)
    if options.rotation:
        matrix = _turned(matrix, options.crop, rng.uniform(-options.rotation, options.rotation))
    if rng.random() < options.flip:
        matrix = np.array([[-1.0, 0.0, options.crop[1] - 1.0], [0.0, 1.0, 0.0]]) @ np.vstack([matrix, [0, 0, 1]])
    warped = cv2.warpAffine(pixels, matrix, options.crop[::-1], flags=cv2.INTER_LINEAR, borderValue=fill)
    recoloured = _recoloured(np.asarray(warped, np.uint8), options, rng)
    return AugmentedImage(_noisy(recoloured, options, rng), _warp_masks(masks, matrix, options.crop))


def _window(
    shape: tuple[int, ...], scaled: tuple[float, float], crop: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Affine map from the image to a random crop of its scaled version."""
    offsets = [rng.uniform(min(0.0, s - c), max(0.0, s - c)) for s, c in zip(scaled, crop, strict=True)]
    fy, fx = scaled[0] / shape[0], scaled[1] / shape[1]
    return np.array([[fx, 0, 0.5 * fx - 0.5 - offsets[1]], [0, fy, 0.5 * fy - 0.5 - offsets[0]]])


def _turned(matrix: NDArray[np.float64], crop: tuple[int, int], degrees: float) -> NDArray[np.float64]:
    """Return the map followed by a turn about the middle of the crop."""
    turn = cv2.getRotationMatrix2D(((crop[1] - 1) / 2, (crop[0] - 1) / 2), degrees, 1.0)
    return np.asarray(turn @ np.vstack([matrix, [0, 0, 1]]), np.float64)


def _warp_masks(masks: Masks, matrix: NDArray[np.float64], size: tuple[int, int]) -> Masks:
    """Warp eight masks at a time, one in each bit of a plane."""
    warped = np.zeros((len(masks), *size), bool)
    for first in range(0, len(masks), _BITS):
        group = masks[first : first + _BITS]
        plane = np.zeros(masks.shape[1:], np.uint8)
        for bit, mask in enumerate(group):
            plane |= mask.view(np.uint8) << bit
        moved = np.asarray(cv2.warpAffine(plane, matrix, size[::-1], flags=cv2.INTER_NEAREST), np.uint8)
        for bit in range(len(group)):
            np.not_equal(moved & (1 << bit), 0, out=warped[first + bit])
    return warped


def _recoloured(pixels: Pixels, options: Augmentation, rng: np.random.Generator) -> Pixels:
    gain = 1 + rng.uniform(-options.brightness, options.brightness)
    gains = gain * (1 + rng.uniform(-options.white_balance, options.white_balance, 3))
    contrast = 1 + rng.uniform(-options.contrast, options.contrast)
    levels = np.arange(256)[:, None] * gains
    table = np.clip((levels - 128) * contrast + 128, 0, 255).astype(np.uint8)
    recoloured = cv2.LUT(pixels, table[:, None, :])
    saturation = 1 + rng.uniform(-options.saturation, options.saturation)
    gray = cv2.cvtColor(cv2.cvtColor(recoloured, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(recoloured, saturation, gray, 1 - saturation, 0), np.uint8)


def _noisy(pixels: Pixels, options: Augmentation, rng: np.random.Generator) -> Pixels:
    if rng.random() < options.blur:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.5)), np.uint8)
    if options.motion and rng.random() < options.motion:
        pixels = np.asarray(cv2.filter2D(pixels, -1, _streak(rng.uniform(3, 9), rng.uniform(0, np.pi))), np.uint8)
    if rng.random() < options.noise:
        noise = rng.normal(0, rng.uniform(2, 10), pixels.shape).astype(np.float32)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return pixels


def _streak(length: float, angle: float) -> NDArray[np.float32]:
    """A kernel that smears along a line through its middle; it sums to 1."""
    side = 2 * math.ceil(length / 2) + 1
    kernel, middle = np.zeros((side, side), np.float32), side // 2
    reach = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
    start, end = (np.rint(middle + sign * reach).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return kernel / kernel.sum()
