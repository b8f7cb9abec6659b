"""Cut a large image into tiles that overlap, and join the instances of the tiles.

An instance that ends at an inner edge of its tile is cut. Instances of two tiles are the same where their masks agree
in the area that both tiles see.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

import numpy as np

from blendmask_edge.errors import ConfigError
from blendmask_edge.imaging.crops import Crop, clip_crop, intersection, union
from blendmask_edge.instances import Instances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.labels import Labels

Size = Tuple[int, int]
Tile = Tuple[int, int, int, int]
"""x0 y0 x1 y1 in pixels of the image."""

MOST_TILES = 10_000
_MARGIN = 0.01
"""Share of a tile's side within which a box that ends there is taken to be cut."""
_AGREEMENT = 0.5
_COVERED = 0.7


def tile_grid(image_size: Size, tile: Size, overlap: float) -> List[Tile]:
    """Return tiles of one size that cover an image, evenly spread, row by row.

    Args:
        image_size: height and width of the image.
        tile: height and width of a tile; clipped to the image.
        overlap: least share of a tile that its neighbor covers as well, 0 to less than 1.

    Raises:
        ConfigError: there would be more than `MOST_TILES`.
    """
    count = _count(image_size[0], tile[0], overlap) * _count(image_size[1], tile[1], overlap)
    if count > MOST_TILES:
        raise ConfigError(
            f"tile is {tile[0]} x {tile[1]} (height x width) with an overlap of {overlap:g}: an image of "
            f"{image_size[0]} x {image_size[1]} takes {count} of them, at most {MOST_TILES} are predicted. Give larger "
            "tiles, or less overlap."
        )
    rows = _starts(image_size[0], tile[0], overlap)
    columns = _starts(image_size[1], tile[1], overlap)
    height, width = min(tile[0], image_size[0]), min(tile[1], image_size[1])
    return [(x, y, x + width, y + height) for y in rows for x in columns]


def join_tiles(tiled: Sequence[Instances], tiles: Sequence[Tile], image_size: Size, labels: Labels) -> Instances:
    """Return the instances of an image, each once, by descending score.

    Args:
        tiled: instances of each tile, in pixels of the tile.
        tiles: where the tiles lie in the image.
        image_size: height and width of the image.
        labels: names and category ids of the classes.

    Returns:
        Those that one tile shows whole are unchanged; those that no tile does have the union of their masks and boxes,
        and the highest score.
    """
    parts = [
        _Part(instances[row], tile, image_size)
        for instances, tile in zip((one.shift(*at[:2], image_size) for one, at in zip(tiled, tiles)), tiles)
        for row in range(len(instances))
    ]
    pairs = _pairs(parts)
    whole = _distinct([part for part in parts if not part.is_cut], pairs)
    shown = set(whole)
    cut = [part for part in parts if part.is_cut and not _is_covered(part, pairs[part] & shown)]
    joined = [_join(group) for group in _groups([*whole, *cut], pairs)]
    return _concatenate(joined, image_size, labels)


def _starts(side: int, tile: int, overlap: float) -> List[int]:
    """Return where tiles start along one side."""
    if tile >= side:
        return [0]
    return [round(place) for place in np.linspace(0, side - tile, _count(side, tile, overlap))]


def _count(side: int, tile: int, overlap: float) -> int:
    """Return the number of tiles along one side."""
    return 1 if tile >= side else ceil((side - tile) / max(1.0, tile * (1 - overlap))) + 1


@dataclass(frozen=True, eq=False)
class _Part:
    """One instance of one tile, in pixels of the image."""

    instance: Instances
    tile: Tile
    image_size: Size

    @property
    def score(self) -> float:
        return float(self.instance.scores[0])

    @property
    def class_id(self) -> int:
        return int(self.instance.class_ids[0])

    @cached_property
    def box(self) -> NDArray[np.float32]:
        return np.asarray(self.instance.boxes[0], np.float32)

    @cached_property
    def crop(self) -> Crop:
        return self.instance.crops()[0]

    @cached_property
    def area(self) -> int:
        return int(np.count_nonzero(self.crop[0]))

    @cached_property
    def is_cut(self) -> bool:
        """Whether the box ends at an edge of the tile that is not one of the image."""
        x0, y0, x1, y1 = self.tile
        margin = [max(1.0, _MARGIN * (x1 - x0)), max(1.0, _MARGIN * (y1 - y0))]
        height, width = self.image_size
        near = [
            x0 > 0 and self.box[0] <= x0 + margin[0],
            y0 > 0 and self.box[1] <= y0 + margin[1],
            x1 < width and self.box[2] >= x1 - margin[0],
            y1 < height and self.box[3] >= y1 - margin[1],
        ]
        return any(near)


Pairs = Dict[_Part, Set[_Part]]


def _pairs(parts: Sequence[_Part]) -> Pairs:
    """Return for each part those of other tiles that show the same object."""
    linked: Pairs = {part: set() for part in parts}
    for one, other in _neighbors(parts):
        if _agree(one, other):
            linked[one].add(other)
            linked[other].add(one)
    return linked


def _neighbors(parts: Sequence[_Part]) -> Iterator[Tuple[_Part, _Part]]:
    """Yield pairs of different tiles whose boxes touch in the area that both tiles see."""
    if not parts:
        return
    boxes = np.stack([part.box for part in parts])
    tiles = np.array([part.tile for part in parts], np.float32)
    lowest, highest = np.maximum(boxes[:, :2], tiles[:, :2]), np.minimum(boxes[:, 2:], tiles[:, 2:])
    for number, part in enumerate(parts):
        later = slice(number + 1, None)
        low, high = np.maximum(lowest[later], part.box[:2]), np.minimum(highest[later], part.box[2:])
        touches = (high > low).all(axis=1)
        for place in np.flatnonzero(touches & (tiles[later] != tiles[number]).any(axis=1)):
            yield part, parts[number + 1 + int(place)]


def _agree(one: _Part, other: _Part) -> bool:
    """Whether the masks agree in the area that both tiles see.

    A part that is cut may be seen badly there, so that a share of the smaller mask is enough; it may also be of another
    class than the whole instance.
    """
    if one.class_id != other.class_id and one.is_cut == other.is_cut:
        return False
    shared = (*np.maximum(one.tile[:2], other.tile[:2]).tolist(), *np.minimum(one.tile[2:], other.tile[2:]).tolist())
    crops = [clip_crop(part.crop, shared) for part in (one, other)]
    areas = [int(np.count_nonzero(mask)) for mask, _ in crops]
    common = intersection(*crops)
    is_cut = one.class_id == other.class_id and (one.is_cut or other.is_cut)
    against = min(areas) if is_cut else sum(areas) - common
    return common > 0 and common >= _AGREEMENT * against


def _distinct(parts: Sequence[_Part], pairs: Pairs) -> List[_Part]:
    """Return whole instances without those that a higher-scoring one repeats."""
    chosen: Dict[_Part, None] = {}
    for part in sorted(parts, key=lambda part: -part.score):
        if pairs[part].isdisjoint(chosen):
            chosen[part] = None
    return list(chosen)


def _is_covered(part: _Part, whole: Iterable[_Part]) -> bool:
    """Whether whole instances of the same object show what a part that is cut does."""
    common = sum(intersection(part.crop, other.crop) for other in whole)
    return common > 0 and common >= _COVERED * part.area


def _groups(parts: Sequence[_Part], pairs: Pairs) -> List[List[_Part]]:
    """Return the parts by object: those that are linked, directly or by others, by parts of their class."""
    left, groups = dict.fromkeys(parts), []
    while left:
        group = [next(iter(left))]
        del left[group[0]]
        for part in group:
            linked = [other for other in pairs[part] if other in left and other.class_id == part.class_id]
            group += linked
            for other in linked:
                del left[other]
        groups.append(group)
    return groups


def _join(group: Sequence[_Part]) -> Instances:
    if len(group) == 1:
        return group[0].instance
    best = max(group, key=lambda part: part.score).instance
    boxes = np.stack([part.box for part in group])
    crop = group[0].crop
    for part in group[1:]:
        crop = union(crop, part.crop)
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    return replace(best, boxes=box[None], mask_crops=[crop])


def _concatenate(parts: Sequence[Instances], image_size: Size, labels: Labels) -> Instances:
    """Return one set of instances, by descending score."""
    scores = np.array([part.scores[0] for part in parts], np.float32)
    order = np.argsort(-scores, kind="stable")
    crops: List[Optional[Crop]] = [part.mask_crops[0] if part.mask_crops else None for part in parts]
    cells = parts[0].mask_logits.shape[1:] if parts else (0, 0)
    return Instances(
        np.array([part.boxes[0] for part in parts], np.float32).reshape(-1, 4),
        scores,
        np.array([part.class_ids[0] for part in parts], np.int64),
        image_size,
        labels,
        np.concatenate([np.zeros((0, *cells), np.float32), *(part.mask_logits for part in parts)]),
        mask_crops=crops,
    )[order]
