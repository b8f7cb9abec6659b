"""Tiles give what the image shows: instances away from seams as they are, those across a seam once and whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blendmask_edge import ConfigError, ImageError, MaskPredictor
from blendmask_edge.prediction.tiling import tile_grid
from tests.sdk.rectangles import Rectangle, paint, rectangle_network

__all__ = ["rectangle_network"]
pytest.importorskip("onnxruntime")
TILE = (32, 48)


@pytest.fixture(scope="module")
def predictor(bundle_path: Path) -> Iterator[MaskPredictor]:
    """Return an open predictor with an input of 32 x 48."""
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


def apart(rectangles: List[Rectangle], gap: int) -> List[Rectangle]:
    """Return rectangles of which none comes closer than `gap` to one before it."""
    chosen: List[Rectangle] = []
    for one in rectangles:
        x0, y0, x1, y1 = one.box
        if all(
            x0 - gap >= other.box[2] or other.box[0] >= x1 + gap or y0 - gap >= other.box[3] or other.box[1] >= y1 + gap
            for other in chosen
        ):
            chosen.append(one)
    return chosen


@st.composite
def scenes(draw: Any) -> Tuple[Tuple[int, int], List[Rectangle]]:
    """Draw the size of an image and rectangles in it that do not touch."""
    height, width = draw(st.integers(32, 120)), draw(st.integers(48, 160))
    rectangles = []
    for _ in range(draw(st.integers(0, 12))):
        x0, y0 = draw(st.integers(0, width - 6)), draw(st.integers(0, height - 6))
        box = (x0, y0, min(width, x0 + draw(st.integers(5, 90))), min(height, y0 + draw(st.integers(5, 60))))
        rectangles.append(Rectangle(box, draw(st.integers(0, 2))))
    return (height, width), apart(rectangles, 3)


@pytest.mark.usefixtures("rectangle_network")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scene=scenes(), overlap=st.sampled_from([0.2, 0.25, 0.5]))
def test_every_rectangle_comes_once_and_whole(
    predictor: MaskPredictor, scene: Tuple[Tuple[int, int], List[Rectangle]], overlap: float
) -> None:
    size, rectangles = scene
    image = paint(rectangles, size)
    found = predictor.predict_tiled(image, overlap=overlap, score_threshold=0.3)
    boxes = sorted(
        (*box, class_id) for box, class_id in zip(found.boxes.astype(int).tolist(), found.class_ids.tolist())
    )
    assert [(tuple(box), class_id) for *box, class_id in boxes] == sorted(
        (rectangle.box, rectangle.class_id) for rectangle in rectangles
    )
    assert (np.diff(found.scores) <= 0).all()
    for class_id in range(3):
        masks = found.masks[found.class_ids == class_id]
        np.testing.assert_array_equal(masks.any(axis=0), image[..., class_id] > 0)
        np.testing.assert_array_equal(masks.sum(axis=0) > 1, np.zeros(size, np.bool_))


@pytest.mark.usefixtures("rectangle_network")
def test_instance_away_from_seams_is_that_of_its_tile(predictor: MaskPredictor) -> None:
    image = paint([Rectangle((8, 6, 20, 18)), Rectangle((40, 20, 90, 60), 1)], (90, 130))
    found = predictor.predict_tiled(image)
    alone = predictor(image, roi=(0, 0, 48, 32), classes=["red"])
    red = found[found.class_ids == 0]
    np.testing.assert_array_equal(red.boxes, alone.boxes)
    np.testing.assert_array_equal(red.scores, alone.scores)
    np.testing.assert_array_equal(red.mask_logits, alone.mask_logits)
    assert red.rles() == alone.rles()


@pytest.mark.usefixtures("rectangle_network")
def test_tiles_may_have_another_size_than_the_network(predictor: MaskPredictor) -> None:
    rectangles = [Rectangle((20, 20, 40, 44)), Rectangle((60, 40, 140, 100), 1), Rectangle((180, 10, 200, 60), 2)]
    image = paint(rectangles, (128, 240))
    found = predictor.predict_tiled(image, tile=(64, 96), overlap=0.5)
    assert sorted(found.boxes.astype(int).tolist()) == sorted(list(rectangle.box) for rectangle in rectangles)


def test_image_of_the_size_of_a_tile_is_a_single_call(predictor: MaskPredictor) -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3)).astype(np.uint8)
    tiled, single = predictor.predict_tiled(image), predictor(image)
    assert len(single) > 0
    np.testing.assert_array_equal(tiled.boxes, single.boxes)
    assert tiled.rles() == single.rles()


def test_options_of_a_call_hold(predictor: MaskPredictor) -> None:
    image = np.full((32, 48, 3), (250, 180, 60), np.uint8)
    assert predictor.predict_tiled(image, classes=["green"]).class_names == ["green"]
    assert predictor.predict_tiled(image, score_threshold=0.9).class_names == ["red"]
    assert predictor.predict_tiled(image[..., ::-1], channels="bgr", score_threshold=0.9).class_names == ["red"]


@given(
    height=st.integers(1, 300), width=st.integers(1, 300), tile=st.tuples(st.integers(16, 90), st.integers(16, 90)),
    overlap=st.floats(0, 0.9),
)  # fmt: skip
def test_tiles_cover_the_image_and_overlap_as_asked(
    height: int, width: int, tile: Tuple[int, int], overlap: float
) -> None:
    tiles = tile_grid((height, width), tile, overlap)
    covered = np.zeros((height, width), np.bool_)
    for x0, y0, x1, y1 in tiles:
        assert (y1 - y0, x1 - x0) == (min(tile[0], height), min(tile[1], width))
        assert (x0, y0) >= (0, 0)
        covered[y0:y1, x0:x1] = True
    assert covered.all()
    for axis, side in ((0, tile[1]), (1, tile[0])):
        starts = sorted({one[axis] for one in tiles})
        assert all(later - earlier <= side * (1 - overlap) + 1 for earlier, later in zip(starts, starts[1:]))


@pytest.mark.parametrize(
    "options", [{"tile": (8, 8)}, {"tile": 64}, {"tile": (64.0, 64)}, {"overlap": 1}, {"overlap": "0.2"}], ids=str
)
def test_wrong_tiles_are_refused(predictor: MaskPredictor, options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        predictor.predict_tiled(np.zeros((64, 96, 3), np.uint8), **options)
    with pytest.raises(ImageError):
        predictor.predict_tiled(np.zeros((64, 96), np.uint8))
