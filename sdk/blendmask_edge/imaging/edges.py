"""Where the columns of masks begin and end: all that pasting and run-length encoding need to know of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Sequence, Tuple

import numpy as np

from blendmask_edge.imaging.boxes import clip_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.imaging.crops import Crop

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Integers = NDArray[np.int64]

Size = Tuple[int, int]

_HALF = np.float32(0.5)


class Edges(NamedTuple):
    """Pixels that differ from the one above them, in N masks that are background outside of their windows.

    Two edges in the same place cancel each other.

    windows: (N, 4) int64, x0 y0 x1 y1 in pixels of the image; no pixel outside is foreground.
    mask: (E,) int64, the mask of each edge.
    x, y: (E,) int64, its pixel; y is y1 of the window where the last pixel of the column is foreground.
    """

    windows: Integers
    mask: Integers
    x: Integers
    y: Integers

    def places(self, start: Integers, stride: Integers) -> Integers:
        """Return start + x * stride + y of each edge in ascending order, without those that cancel each other.

        Args:
            start, stride: (N,) for each mask, such that no two masks have a place in common.
        """
        places = start.take(self.mask) + self.x * stride.take(self.mask) + self.y
        places.sort()
        firsts = np.flatnonzero(np.diff(places, prepend=-1))
        is_odd = np.diff(firsts, append=len(places)) % 2 == 1
        kept: Integers = places.take(firsts[is_odd])
        return kept


def edges_of_crops(crops: Sequence[Crop]) -> Edges:
    """Return the edges of masks (h, w) at their places."""
    found = [_edges_of_crop(mask, corner) for mask, corner in crops]
    x, y = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
    boxes = [(left, top, left + mask.shape[1], top + mask.shape[0]) for mask, (left, top) in crops]
    counts = [edges.shape[1] for edges in found]
    return Edges(np.array(boxes, np.int64).reshape(-1, 4), np.repeat(np.arange(len(crops)), counts), x, y)


def _edges_of_crop(mask: NDArray[np.bool_], corner: Tuple[int, int]) -> Integers:
    """Return x and y of the edges, (2, E)."""
    if not mask.size:
        return np.zeros((2, 0), np.int64)
    differs = np.empty((len(mask) + 1, mask.shape[1]), np.bool_)
    differs[0], differs[-1] = mask[0], mask[-1]
    np.not_equal(mask[1:], mask[:-1], out=differs[1:-1])
    y, x = np.nonzero(differs)
    return np.array([x + corner[0], y + corner[1]], np.int64)


def edges_of_maps(probabilities: Floats, boxes: Floats, size: Size) -> Edges:
    """Return the edges of masks that are stretched over their boxes and cut at 0.5; see `masks.paste_all`.

    Between the centers of four cells a value changes linearly down each column of pixels, so it crosses 0.5 at most
    once, and only where one of the four is foreground and another is not. Nothing else is computed.

    Args:
        probabilities: (N, R, R) float32, 0..1.
        boxes: (N, 4) x0 y0 x1 y1 in pixels of the image; clipped here.
        size: (height, width) of the image.
    """
    if not len(boxes):
        return edges_of_crops([])
    spans = clip_boxes(boxes, size).astype(np.float64)
    solid = (spans[:, 0] < spans[:, 2]) & (spans[:, 1] < spans[:, 3])
    windows = np.zeros(spans.shape, np.int64)
    windows[solid] = np.concatenate([np.floor(spans[solid, :2]), np.ceil(spans[solid, 2:])], axis=1)
    count, rows, columns = probabilities.shape
    values = np.zeros((count, rows + 2, columns + 2), np.float32)  # zeros around: what pixels sample outside of a map
    values[:, 1:-1, 1:-1] = probabilities
    pixels = _PixelColumns.of(windows, spans, columns)
    cells, column = pixels.inside(_mixed_cells(values), values.shape)
    upper, lower = _blend(values.ravel(), cells, values.shape[2], pixels.weights.take(column))
    crossed = np.flatnonzero((upper >= _HALF) != (lower >= _HALF))
    upper, lower, column = upper.take(crossed), lower.take(crossed), column.take(crossed)
    mask = pixels.mask.take(column)
    row = cells.take(crossed) // values.shape[2] - mask * values.shape[1]
    position = row - 1.0 + (_HALF - upper) / (lower - upper)  # in cells of the map, from the center of the first
    height = (spans[:, 3] - spans[:, 1]) / rows
    place = (position + 0.5) * height.take(mask) + spans[:, 1].take(mask) - 0.5
    y = np.where(lower > upper, np.ceil(place), np.floor(place) + 1).astype(np.int64)
    y = np.minimum(np.maximum(y, windows[:, 1].take(mask)), windows[:, 3].take(mask))
    return Edges(windows, mask, pixels.x.take(column), y)


class _PixelColumns(NamedTuple):
    """The columns of pixels of all windows, one after the other, and where each samples its map.

    mask, x: (P,) int64, the mask and the pixel.
    weights: (P,) float32, of the right one of two neighboring cells.
    first, between: (N * (R + 2),) int64, for each column of cells with a border the pixels between it and the next.
    """

    mask: Integers
    x: Integers
    weights: Floats
    first: Integers
    between: Integers

    @classmethod
    def of(cls, windows: Integers, spans: Doubles, cells: int) -> _PixelColumns:
        """List the columns of pixels of windows around boxes over which maps of `cells` are stretched."""
        widths = windows[:, 2] - windows[:, 0]
        mask = np.repeat(np.arange(len(widths)), widths)
        x = np.arange(len(mask)) + (windows[:, 0] - np.cumsum(widths) + widths).take(mask)
        low, width = spans[:, 0].take(mask), (spans[:, 2] - spans[:, 0]).take(mask)
        position = np.clip((x + 0.5 - low) / width * cells - 0.5, -1, cells)
        cell = np.minimum(np.floor(position), cells - 1)
        bordered = cells + 2
        count = np.bincount(mask * bordered + cell.astype(np.int64) + 1, minlength=len(widths) * bordered)
        return cls(mask, x, (position - cell).astype(np.float32), np.cumsum(count) - count, count)

    def inside(self, cells: Integers, shape: Tuple[int, ...]) -> Tuple[Integers, Integers]:
        """Return each cell as often as columns of pixels lie between it and the next, and those columns.

        Args:
            cells: indices into maps with a border.
            shape: of the maps, (N, R + 2, R + 2).
        """
        row = cells // shape[2]
        here = cells - row * shape[2] + row // shape[1] * shape[2]
        count = self.between.take(here)
        column = np.repeat(self.first.take(here) - np.cumsum(count) + count, count)
        column += np.arange(len(column))
        return np.repeat(cells, count), column


def _mixed_cells(values: Floats) -> Integers:
    """Return the indices of cells that are not on the same side of 0.5 as their right, lower and lower right one."""
    foreground, width = values.ravel() >= _HALF, values.shape[2]
    across = foreground[1:] != foreground[:-1]
    mixed = across[:-width] | across[width:]
    mixed |= foreground[width:-1] != foreground[: -width - 1]
    return np.flatnonzero(mixed)


def _blend(values: Floats, cells: Integers, width: int, right: Floats) -> Tuple[Floats, Floats]:
    """Return the values between each cell and the one to its right, and those one row of `width` below."""
    left = 1 - right
    upper = values.take(cells) * left + values.take(cells + 1) * right
    lower = values.take(cells + width) * left + values.take(cells + width + 1) * right
    return upper, lower
