"""Check masks of COCO annotations before native code decodes them, many at once."""

from __future__ import annotations

import reprlib
from itertools import chain
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple, Union

import msgspec
import numpy as np
from pycocotools import mask as rle_codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

Size = Tuple[int, int]
Fault = Tuple[int, str]
"""Place in the list, and what is wrong."""

_FEWEST_NUMBERS = 6
_LONGEST_OUTLINE = 2**20
"""Pixels around a polygon. cocoapi needs some 50 bytes for each: a zigzag of 8 MB of text would take 14 GB."""
_OFFSET, _HIGHEST = 48, 111
_MORE, _NEGATIVE, _BITS = 0x20, 0x10, 5
_LONGEST_NUMBER = 7
"""Characters of a run length of 32 bits."""


class RunLengths(msgspec.Struct):
    """A mask as COCO's run lengths, compressed (text) or not; size is (height, width)."""

    size: Size
    counts: Union[str, List[int]]


Mask = Union[List[List[float]], RunLengths]
Placed = List[Tuple[int, RunLengths]]


def compressed(segmentation: Any, height: int, width: int) -> Any:
    """Return a checked mask as compressed run lengths, which pycocotools works with.

    Args:
        segmentation: polygons or run lengths, as in a COCO file.
        height, width: of the image.
    """
    if isinstance(segmentation, list):
        return rle_codec.merge(rle_codec.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return rle_codec.frPyObjects(segmentation, height, width)
    return segmentation


def masks_fault(masks: Sequence[Mask], sizes: Sequence[Size]) -> Optional[Fault]:
    """Say which mask cannot be decoded as it was meant; None if all can.

    Polygons need three points each, within one image size around the image, and an outline of bounded length; run
    lengths need the size of the image and must fill it exactly.

    Args:
        masks: polygons or run lengths.
        sizes: height and width of the image of each.
    """
    placed = [(place, mask) for place, mask in enumerate(masks) if isinstance(mask, RunLengths)]
    texts = [(place, mask) for place, mask in placed if isinstance(mask.counts, str)]
    lists = [(place, mask) for place, mask in placed if not isinstance(mask.counts, str)]
    faults = [_polygons_fault(masks, sizes), _sizes_fault(placed, sizes)]
    if faults == [None, None]:
        faults = [_texts_fault(texts), _lists_fault(lists)]
    return min((fault for fault in faults if fault is not None), default=None)


def _polygons_fault(masks: Sequence[Mask], sizes: Sequence[Size]) -> Optional[Fault]:
    """Return the first fault of the masks that are polygons."""
    polygons: List[List[float]] = []
    owners: List[int] = []
    for place, mask in enumerate(masks):
        if isinstance(mask, list):
            if not mask:
                return place, "is empty, expected polygons [[x1, y1, x2, y2, ...]] or RLE"
            polygons += mask
            owners += [place] * len(mask)
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
    odd = np.flatnonzero((lengths < _FEWEST_NUMBERS) | (lengths % 2 != 0))
    if len(odd):
        problem = f"holds a polygon of {lengths[odd[0]]} numbers"
        return owners[odd[0]], f"{problem}, expected x and y of three points at least"
    return _outside(polygons, lengths, owners, sizes)


def _outside(
    polygons: Sequence[Sequence[float]], lengths: Ints, owners: Sequence[int], sizes: Sequence[Size]
) -> Optional[Fault]:
    """Return the first mask of whose polygons a point is far outside the image or not finite."""
    numbers = np.fromiter(chain.from_iterable(polygons), np.float64, int(lengths.sum()))
    sides = np.array(sizes, np.float64).reshape(-1, 2)[np.array(owners, np.int64), ::-1]
    points, limits = numbers.reshape(-1, 2), np.repeat(sides, lengths // 2, axis=0)
    wrong = np.flatnonzero(~((points >= -limits) & (points <= 2 * limits)).all(axis=1))
    if not len(wrong):
        return _too_long(points, lengths // 2, owners)
    place = owners[int(np.searchsorted(np.cumsum(lengths // 2), wrong[0], side="right"))]
    (x, y), (height, width) = points[wrong[0]], sizes[place]
    return place, f"holds the point ({x:g}, {y:g}), expected pixels of an image of {width} x {height}"


def _too_long(points: NDArray[np.float64], lengths: Ints, owners: Sequence[int]) -> Optional[Fault]:
    """Return the first mask of which a polygon has too long an outline, whose length cocoapi takes memory for."""
    if not len(lengths):
        return None
    starts = np.cumsum(lengths) - lengths
    following = np.roll(points, -1, axis=0)
    following[starts + lengths - 1] = points[starts]
    outlines = np.add.reduceat(np.abs(following - points).max(axis=1), starts)
    long = np.flatnonzero(outlines > _LONGEST_OUTLINE)
    if not len(long):
        return None
    problem = f"holds a polygon with an outline of {outlines[long[0]]:.0f} pixels"
    return owners[int(long[0])], f"{problem}, expected at most {_LONGEST_OUTLINE}"


def _sizes_fault(placed: Placed, sizes: Sequence[Size]) -> Optional[Fault]:
    """Return the first mask whose run lengths are of another size than its image."""
    for place, mask in placed:
        if mask.size != sizes[place]:
            swapped = ": height and width are swapped" if mask.size[::-1] == sizes[place] else ""
            expected = f"expected [height, width] of the image, {list(sizes[place])}"
            return place, f"has the size {reprlib.repr(list(mask.size))}, {expected}{swapped}"
    return None


def _lists_fault(placed: Placed) -> Optional[Fault]:
    """Return the first fault of run lengths that are lists of integers."""
    for place, mask in placed:
        lengths: Any = mask.counts
        if min(lengths, default=0) < 0 or sum(lengths) != mask.size[0] * mask.size[1]:
            return place, _unfilled(mask)
    return None


def _texts_fault(placed: Placed) -> Optional[Fault]:
    """Return the first fault of run lengths that are compressed."""
    parts = [str(mask.counts).encode("utf-8", "surrogatepass") for _, mask in placed]
    if not all(parts):
        return placed[parts.index(b"")][0], "has no run lengths"
    if not parts:
        return None
    codes = np.frombuffer(b"".join(parts), np.uint8).astype(np.int64)
    pixels = np.array([mask.size[0] * mask.size[1] for _, mask in placed])
    wrong = _first_wrong_text(codes, np.cumsum([len(part) for part in parts]), pixels)
    return None if wrong is None else (placed[wrong][0], _unfilled(placed[wrong][1]))


def _unfilled(mask: RunLengths) -> str:
    return f"has run lengths that do not add up to the {mask.size[0]} x {mask.size[1]} pixels of the image"


def _first_wrong_text(codes: Ints, ends: Ints, pixels: Ints) -> Optional[int]:
    """Return which of the texts that end at `ends` is the first to fail; None if none does.

    The format is that of cocoapi common/maskApi.c: five bits a character, the lowest first, then a bit that says
    whether the number goes on; from the fourth number on, the difference to the last but one.
    """
    odd = (codes < _OFFSET) | (codes > _HIGHEST)
    values = (codes - _OFFSET) & 0x3F
    last = (values & _MORE) == 0
    stops = np.flatnonzero(last)
    starts = np.concatenate([[0], stops + 1])
    lengths = np.diff(starts)
    bad = set(np.searchsorted(ends, np.flatnonzero(odd), side="right").tolist())
    bad |= set(np.searchsorted(ends, stops[lengths > _LONGEST_NUMBER], side="right").tolist())
    bad |= set(np.flatnonzero(~last[ends - 1]).tolist())
    if bad:
        return int(min(bad))
    numbers = _numbers(values, starts[:-1], lengths)
    owner = np.searchsorted(ends, stops, side="right")
    counts = _undo_differences(numbers, owner)
    negative = np.bincount(owner[counts < 0], minlength=len(ends)) > 0
    sums = np.bincount(owner, counts, len(ends)).astype(np.int64)
    wrong: Ints = np.flatnonzero((sums != pixels) | negative)
    return int(wrong[0]) if len(wrong) else None


def _numbers(values: Ints, starts: Ints, lengths: Ints) -> Ints:
    """Return the signed numbers whose characters begin at `starts`."""
    within = np.arange(len(values)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((values & 0x1F) << (_BITS * within), starts)
    negative = (values[starts + lengths - 1] & _NEGATIVE) != 0
    return np.asarray(numbers - (negative.astype(np.int64) << (_BITS * lengths)), np.int64)


def _undo_differences(numbers: Ints, owner: Ints) -> Ints:
    """Return run lengths: in each mask, from the fourth on, a number is added to the last but one."""
    first = np.searchsorted(owner, np.arange(owner[-1] + 1))
    place = np.arange(len(numbers)) - first[owner]
    counts = numbers.copy()
    for parity in (0, 1):
        chosen = np.flatnonzero((place % 2 == parity) & (place > 0))
        if not len(chosen):
            continue
        sums = np.cumsum(numbers[chosen])
        begins = np.concatenate([[True], owner[chosen][1:] != owner[chosen][:-1]])
        base = (sums - numbers[chosen])[begins]
        counts[chosen] = sums - np.repeat(base, np.diff(np.append(np.flatnonzero(begins), len(chosen))))
    return counts
