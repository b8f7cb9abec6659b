"""Paste mask maps into images, inside their boxes only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, List, NamedTuple, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Size = Tuple[int, int]

_BORDER = 2, 3
"""Zeros before and behind a map: cells outside of it that pixels at the edges of a box sample."""
_PASTE_VALUES = 1 << 16
"""Values at a time, which stay in the processor's cache."""


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)), float32, exactly 0.5 at 0 and without overflow."""
    values = np.multiply(logits, np.float32(0.5), dtype=np.float32)
    np.tanh(values, out=values)
    values *= np.float32(0.5)
    values += np.float32(0.5)
    return values


def clip_boxes(boxes: Floats, size: Size) -> Floats:
    """Clip (N, 4) boxes x0 y0 x1 y1 to an image of `size`."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def paste(probabilities: Floats, box: Floats, size: Size) -> Tuple[NDArray[np.bool_], Tuple[int, int]]:
    """Stretch a mask over its box and cut it at 0.5: `paste_all` for one mask, (R, R) float32, and its box, (4,)."""
    return paste_all(probabilities[None], box[None], size)[0]


def paste_all(probabilities: Floats, boxes: Floats, size: Size) -> List[Tuple[NDArray[np.bool_], Tuple[int, int]]]:
    """Stretch masks over their boxes and cut them at 0.5.

    As detectron2 layers/mask_ops.py does: pixel centers at +0.5, bilinear between cell centers, zero outside the map,
    foreground where the value is at least 0.5. The whole map is squeezed into the part of the box inside the image.
    Only pixels that the box touches are computed; no other can be foreground.

    Args:
        probabilities: (N, R, R) float32, 0..1.
        boxes: (N, 4) x0 y0 x1 y1 in pixels of the image; clipped here.
        size: (height, width) of the image.

    Returns:
        For each mask the (h, w) bool crop and its top left pixel (x0, y0). The crop is (0, 0) for a box without area.
    """
    clipped = clip_boxes(boxes, size).astype(np.float64)
    crops: List[Tuple[NDArray[np.bool_], Tuple[int, int]]] = [(np.zeros((0, 0), np.bool_), (0, 0)) for _ in boxes]
    chosen = np.flatnonzero((clipped[:, 0] < clipped[:, 2]) & (clipped[:, 1] < clipped[:, 3]))
    rows, columns = probabilities.shape[1:]
    before, behind = _BORDER
    turned = np.zeros((len(chosen), columns + before + behind, rows + before + behind), np.float32)
    turned[:, before:-behind, before:-behind] = probabilities[chosen].transpose(0, 2, 1)
    x0, y0, x1, y1 = clipped[chosen].T
    buffers = np.empty((2, max(_PASTE_VALUES, turned.shape[2], size[1])), np.float32)
    for index, values, across, down in zip(chosen, turned, _taps(x0, x1, columns), _taps(y0, y1, rows)):
        wide = np.empty((values.shape[1], len(across.cells)), np.float32)
        for part in across.parts(len(values[0]), buffers):
            wide[:, part] = _blend(values, across, part, buffers).T
        crop = np.empty((len(down.cells), len(across.cells)), np.bool_)
        for part in down.parts(len(wide[0]), buffers):
            np.greater_equal(_blend(wide, down, part, buffers), np.float32(0.5), out=crop[part])
        crops[index] = crop, (across.start, down.start)
    return crops


class _Taps(NamedTuple):
    """Where each pixel of a span samples a map that is stretched over the span.

    start: the first pixel.
    cells: the first of two neighboring cells of the map with its border, for each pixel.
    first, second: (pixels, 1) float32, the weights of the two.
    """

    start: int
    cells: NDArray[np.intp]
    first: Floats
    second: Floats

    def parts(self, width: int, buffers: Floats) -> List[slice]:
        """Divide the pixels so that `width` values of each fit into the buffers."""
        step = buffers.shape[1] // width
        return [slice(start, start + step) for start in range(0, len(self.cells), step)]


def _taps(low: NDArray[np.float64], high: NDArray[np.float64], cells: int) -> Iterator[_Taps]:
    """Return the samples of maps of `cells`, each stretched from its `low` to its `high`."""
    start = np.floor(low).astype(np.intp)
    count = np.ceil(high).astype(np.intp) - start
    stop = np.cumsum(count)
    span = np.repeat(np.arange(len(low)), count)
    pixels = np.arange(len(span)) + (start - stop + count)[span] + 0.5
    position = np.clip((pixels - low[span]) / (high - low)[span] * cells - 0.5, -2, cells + 1)
    cell = np.floor(position)
    second = (position - cell).astype(np.float32)[:, None]
    first, cell_indices = 1 - second, cell.astype(np.intp) + _BORDER[0]
    for pixel, begin, end in zip(start.tolist(), (stop - count).tolist(), stop.tolist()):
        yield _Taps(pixel, cell_indices[begin:end], first[begin:end], second[begin:end])


def _blend(values: Floats, taps: _Taps, part: slice, buffers: Floats) -> Floats:
    """Blend each cell, a row of `values`, and the next one for some pixels; the result lies in the first buffer."""
    cells, width = taps.cells[part], values.shape[1]
    shape, count = (len(cells), width), len(cells) * width
    first, second = buffers[0, :count].reshape(shape), buffers[1, :count].reshape(shape)
    values.take(cells, 0, first, "clip")
    values[1:].take(cells, 0, second, "clip")
    first *= taps.first[part]
    second *= taps.second[part]
    first += second
    return first
