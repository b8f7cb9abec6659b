"""Random views of a picture and its masks: scale, crop, flip, colour, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Augmentation:
    """How strongly training pictures vary; the defaults serve a camera on a moving robot.

    Attributes:
        crop: height and width of a training view, pixels, multiples of 32.
        scale: range of the enlargement, 1 being the size the network sees at test time.
        flip: probability of mirroring left and right.
        brightness, contrast, saturation, white_balance: largest relative change.
        blur: probability of a Gaussian blur, standard deviation up to 1.5 pixels.
        noise: probability of Gaussian noise, standard deviation up to 10 grey levels.
    """

    crop: tuple[int, int] = (320, 416)
    scale: tuple[float, float] = (0.75, 1.5)
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    white_balance: float = 0.1
    blur: float = 0.1
    noise: float = 0.1


@dataclass(frozen=True)
class View:
    """A picture (h, w, 3) uint8 RGB, its masks (n, h, w) bool."""

    pixels: Pixels
    masks: Masks


def random_view(pixels: Pixels, masks: Masks, size: tuple[int, int], options: Augmentation, rng: np.random.Generator,
                fill: tuple[int, int, int]) -> View:  # fmt: skip
    """A random view of a picture (H, W, 3) uint8 RGB and its masks (n, H, W) bool.

    Args:
        size: height and width that scale 1 means for this picture.
        fill: RGB of what lies outside the picture.
    """
    zoom = np.exp(rng.uniform(*np.log(options.scale)))
    matrix = _window(pixels.shape[:2], (size[0] * zoom, size[1] * zoom), options.crop, rng)
    if rng.random() < options.flip:
        matrix = np.array([[-1.0, 0.0, options.crop[1] - 1.0], [0.0, 1.0, 0.0]]) @ np.vstack([matrix, [0, 0, 1]])
    warped = cv2.warpAffine(pixels, matrix, options.crop[::-1], flags=cv2.INTER_LINEAR, borderValue=fill)
    recoloured = _recoloured(np.asarray(warped, np.uint8), options, rng)
    return View(_noisy(recoloured, options, rng), _warp_masks(masks, matrix, options.crop))


def _window(
    shape: tuple[int, ...], scaled: tuple[float, float], crop: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Affine map from the picture to a random crop of its scaled version."""
    offsets = [rng.uniform(min(0.0, s - c), max(0.0, s - c)) for s, c in zip(scaled, crop, strict=True)]
    fy, fx = scaled[0] / shape[0], scaled[1] / shape[1]
    return np.array([[fx, 0, 0.5 * fx - 0.5 - offsets[1]], [0, fy, 0.5 * fy - 0.5 - offsets[0]]])


def _warp_masks(masks: Masks, matrix: NDArray[np.float64], size: tuple[int, int]) -> Masks:
    """Warp eight masks at a time, one in each bit of a plane."""
    if len(masks) == 0:
        return np.zeros((0, *size), bool)
    planes = np.packbits(masks, axis=0)
    warped = [cv2.warpAffine(plane, matrix, size[::-1], flags=cv2.INTER_NEAREST) for plane in planes]
    return np.unpackbits(np.stack(warped), axis=0, count=len(masks)).astype(bool)


def _recoloured(pixels: Pixels, options: Augmentation, rng: np.random.Generator) -> Pixels:
    gain = 1 + rng.uniform(-options.brightness, options.brightness)
    gains = gain * (1 + rng.uniform(-options.white_balance, options.white_balance, 3))
    contrast = 1 + rng.uniform(-options.contrast, options.contrast)
    levels = np.arange(256)[:, None] * gains
    table = np.clip((levels - 128) * contrast + 128, 0, 255).astype(np.uint8)
    recoloured = cv2.LUT(pixels, table[:, None, :])
    saturation = 1 + rng.uniform(-options.saturation, options.saturation)
    grey = cv2.cvtColor(cv2.cvtColor(recoloured, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(recoloured, saturation, grey, 1 - saturation, 0), np.uint8)


def _noisy(pixels: Pixels, options: Augmentation, rng: np.random.Generator) -> Pixels:
    if rng.random() < options.blur:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.5)), np.uint8)
    if rng.random() < options.noise:
        noise = rng.normal(0, rng.uniform(2, 10), pixels.shape).astype(np.float32)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return pixels
