"""One image of how masks come about: the bases, then a line for each instance with its attention and its mask."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blendmask_edge.errors import OutputError
from blendmask_edge.imaging import sigmoid
from blendmask_edge.imaging.colors import class_color
from blendmask_edge.instances import Instances
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize.figures.stages import Floats, Stages
from blendmask_quantize.model.config import ModelConfig

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

TILE = 208
_GAP, _MARGIN = 14, 28
_PAPER, _RULE, _INK, _FAINT = (255, 255, 255), (205, 205, 205), (34, 34, 34), (110, 110, 110)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_NEGATIVE, _POSITIVE = (33, 78, 158), (178, 34, 52)
_BASIS_COLORS = (
    (213, 94, 0), (0, 114, 178), (0, 158, 115), (240, 200, 40), (204, 121, 167), (86, 180, 233), (120, 80, 40),
    (90, 90, 90),
)  # fmt: skip
"""Told apart by most color-blind eyes too (Okabe and Ito)."""
_LONGEST_ASPECT = 3.0
_OTHER_COLUMNS = 4
_DIMMED = 0.25


def write_figure(path: Path, figure: Image) -> None:
    """Write a figure (H, W, 3) uint8 RGB as PNG; the file appears whole or not at all.

    Raises:
        OutputError: the name does not end in .png, or the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise OutputError(f"the figure {path} is to be a PNG: give a name that ends in .png")
    write_bytes(path, cv2.imencode(".png", cv2.cvtColor(figure, cv2.COLOR_RGB2BGR))[1].tobytes())


def draw_figure(stages: Stages, config: ModelConfig, name: str) -> Image:
    """The figure, (H, W, 3) uint8 RGB.

    The first row shows the image with its instances numbered, and each basis: red where it adds to masks, blue
    where it subtracts, white at zero, all on one scale. Each further row is one instance: its part of the
    image, the attention to each basis (white 0, full color 1), all of them in one map, mixed by weight, the
    probability after blending with its border at 0.5, and the instance cut out by the final mask.

    Args:
        stages: what to show; every instance of it gets a row.
        config: of the network, for the lines above.
        name: of the image.
    """
    count = len(stages.bases)
    width = (count + _OTHER_COLUMNS) * (TILE + _GAP) - _GAP
    facts = f"K = {count} bases, attention M = {config.attention_size}, masks R = {config.resolution}"
    parts = [_text(f"{config.name}: {name}", 1.0)]
    parts += [_text(f"bottom module {config.bases.kind}, blender {config.blender}; {facts}", 0.6, _FAINT), _space(8)]
    parts += [_bases_row(stages, width)]
    if len(stages.instances):
        parts += [_space(10), _column_heads(count)]
    parts += [_instance_row(stages, row) for row in range(len(stages.instances))]
    return _bordered(_below(parts, 10), *[_MARGIN] * 4)


def basis_color(index: int) -> Color:
    """The RGB color that stands for a basis; the first eight are chosen, further ones lie between."""
    if index < len(_BASIS_COLORS):
        return _BASIS_COLORS[index]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.75, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def _bases_row(stages: Stages, width: int) -> Image:
    count = len(stages.bases)
    tile = (width - count * _GAP) // (count + 1)
    height = min(round(tile * stages.image.shape[0] / stages.image.shape[1]), 2 * tile)
    reach = max(float(np.percentile(np.abs(stages.bases), 99.5)), 1e-6)
    tiles = [_below([_text("image", 0.55), _ruled(_fit(_numbered(stages), (height, tile)))], 4)]
    for index, basis in enumerate(stages.bases):
        head = _text(f"basis {index + 1}", 0.55, chip=basis_color(index))
        tiles.append(_below([head, _ruled(_fit(_diverging(basis / reach), (height, tile)))], 4))
    return _below([_beside(tiles, _GAP), _scale_bar(reach)], 8)


def _scale_bar(reach: float) -> Image:
    """The legend of the bases' colors."""
    ramp = _diverging(np.tile(np.linspace(-1, 1, TILE, dtype=np.float32), (14, 1)))
    words = ("bases:", f"{-reach:.1f} background", ramp, f"instance {reach:.1f}")
    return _beside([_text(w, 0.5, _FAINT) if isinstance(w, str) else _lowered(w, 4) for w in words], 8)


def _column_heads(count: int) -> Image:
    heads = [_text("instance", 0.5, _FAINT)]
    heads += [_text(f"attention {index + 1}", 0.5, _FAINT, chip=basis_color(index)) for index in range(count)]
    heads += [_text(name, 0.5, _FAINT) for name in ("attention, all", "blended mask", "cut out")]
    return _beside([_widened(head, TILE) for head in heads], _GAP)


def _instance_row(stages: Stages, row: int) -> Image:
    instance, color = stages.instances[row], class_color(row)
    x0, y0, x1, y1 = instance.boxes[0]
    shape = _shown_shape(float(x1 - x0), float(y1 - y0))
    shares = stages.attention[row]
    crop = _fit(stages.image[_pixels(instance)], shape)
    tiles = [crop, *(_fit(_towards(share, basis_color(index)), shape) for index, share in enumerate(shares))]
    tiles += [_fit(_mixed(shares), shape), _probability(instance, color, shape), _cut_out(crop, instance, color)]
    line = _text(f"{row + 1}   {instance.class_names[0]}   {instance.scores[0]:.2f}", 0.65, chip=color)
    return _below([line, _beside([_widened(_ruled(tile), TILE) for tile in tiles], _GAP), _space(2)], 4)


def _shown_shape(width: float, height: float) -> tuple[int, int]:
    """Height and width of an instance's tiles: its box's aspect, but never so long that nothing can be seen."""
    aspect = min(max(width / height, 1 / _LONGEST_ASPECT), _LONGEST_ASPECT)
    return round(TILE * min(1, 1 / aspect)), round(TILE * min(1, aspect))


def _pixels(instance: Instances) -> tuple[slice, slice]:
    x0, y0, x1, y1 = instance.boxes[0]
    return slice(int(y0), max(int(np.ceil(y1)), int(y0) + 1)), slice(int(x0), max(int(np.ceil(x1)), int(x0) + 1))


def _numbered(stages: Stages) -> Image:
    """The image with every instance's mask in its color and its number."""
    canvas, instances = stages.image.copy(), stages.instances
    size = max(min(canvas.shape[:2]) / 400, 0.5)
    for row in range(len(instances) - 1, -1, -1):
        _paint(canvas, instances.masks[row], class_color(row), max(1, round(1.5 * size)))
    for row in range(len(instances) - 1, -1, -1):
        x0, y0, x1, y1 = instances.boxes[row]
        _tag(canvas, str(row + 1), (float(x0 + x1) / 2, float(y0 + y1) / 2), class_color(row), 0.7 * size)
    return canvas


def _paint(canvas: Image, mask: NDArray[np.bool_], color: Color, thickness: int) -> None:
    canvas[mask] = (0.55 * canvas[mask] + 0.45 * np.array(color)).astype(np.uint8)
    cv2.drawContours(canvas, _borders(mask), -1, color, thickness, cv2.LINE_AA)


def _tag(canvas: Image, text: str, center: tuple[float, float], color: Color, scale: float) -> None:
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    x, y = round(center[0] - width / 2), round(center[1] + height / 2)
    pad = round(0.4 * height)
    cv2.rectangle(canvas, (x - pad, y - height - pad), (x + width + pad, y + pad), _PAPER, cv2.FILLED)
    cv2.rectangle(canvas, (x - pad, y - height - pad), (x + width + pad, y + pad), color, max(1, round(2 * scale)))
    cv2.putText(canvas, text, (x, y), _FONT, scale, _INK, 1, cv2.LINE_AA)


def _probability(instance: Instances, color: Color, shape: tuple[int, int]) -> Image:
    """Gray by probability, with the border of the mask."""
    values = cv2.resize(sigmoid(instance.mask_logits[0]), shape[::-1], interpolation=cv2.INTER_LINEAR)
    gray = np.repeat((255 * values).astype(np.uint8)[..., None], 3, axis=2)
    cv2.drawContours(gray, _borders(values >= 0.5), -1, color, 2, cv2.LINE_AA)
    return gray


def _cut_out(crop: Image, instance: Instances, color: Color) -> Image:
    """An instance's part of the image, dimmed wherever the final mask is not."""
    shown = instance.masks[0][_pixels(instance)].astype(np.float32)
    mask = cv2.resize(shown, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR) >= 0.5
    canvas = np.where(mask[..., None], crop, (crop * _DIMMED).astype(np.uint8))
    cv2.drawContours(canvas, _borders(mask), -1, color, 2, cv2.LINE_AA)
    return canvas


def _borders(mask: NDArray[np.bool_]) -> Sequence[Any]:
    return cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]


def _diverging(values: Floats) -> Image:
    """Blue at -1 and less, white at 0, red at 1 and more; (h, w) to (h, w, 3)."""
    strength = np.clip(np.abs(values), 0, 1)[..., None]
    ends = np.where((values > 0)[..., None], _POSITIVE, _NEGATIVE)
    return ((1 - strength) * 255 + strength * ends).astype(np.uint8)


def _towards(share: Floats, color: Color) -> Image:
    """White at 0, the color at 1; (h, w) to (h, w, 3)."""
    return ((1 - share[..., None]) * 255 + share[..., None] * np.array(color)).astype(np.uint8)


def _mixed(shares: Floats) -> Image:
    """The bases' colors by weight; (K, h, w) to (h, w, 3)."""
    colors = np.array([basis_color(index) for index in range(len(shares))], np.float32)
    return np.clip(np.einsum("khw,kc->hwc", shares, colors), 0, 255).astype(np.uint8)


def _text(text: str, scale: float, ink: Color = _INK, chip: Color | None = None) -> Image:
    """A line of text, behind a square of a color."""
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    height = round(24 * scale)
    start = height + 8 if chip is not None else 0
    line = _blank(height + round(14 * scale), start + width + 2)
    if chip is not None:
        cv2.rectangle(line, (0, 2), (height, height + 2), chip, cv2.FILLED)
    cv2.putText(line, text, (start, height + 2), _FONT, scale, ink, 1, cv2.LINE_AA)
    return line


def _fit(image: Image, shape: tuple[int, int]) -> Image:
    """Resized to height and width `shape`."""
    how = cv2.INTER_AREA if image.shape[0] > shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=how), np.uint8)


def _ruled(tile: Image) -> Image:
    """With a thin line around it, so that white parts have an edge."""
    ruled = tile.copy()
    cv2.rectangle(ruled, (0, 0), (tile.shape[1] - 1, tile.shape[0] - 1), _RULE, 1)
    return ruled


def _blank(height: int, width: int) -> Image:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _space(height: int) -> Image:
    return _blank(height, 1)


def _widened(image: Image, width: int) -> Image:
    return _bordered(image, right=max(0, width - image.shape[1]))


def _lowered(image: Image, by: int) -> Image:
    return _bordered(image, top=by)


def _bordered(image: Image, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0) -> Image:
    bordered = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_PAPER)
    return np.asarray(bordered, np.uint8)


def _beside(parts: Sequence[Image], gap: int) -> Image:
    """From left to right, tops aligned."""
    height = max(part.shape[0] for part in parts)
    filled = [_bordered(part, bottom=height - part.shape[0], right=gap) for part in parts]
    return np.hstack(filled)[:, :-gap]


def _below(parts: Sequence[Image], gap: int) -> Image:
    """From top to bottom, left sides aligned."""
    width = max(part.shape[1] for part in parts)
    filled = [_lowered(_widened(part, width), gap if index else 0) for index, part in enumerate(parts)]
    return np.vstack(filled)
