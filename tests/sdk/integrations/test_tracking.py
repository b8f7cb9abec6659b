"""An instance keeps its identity along its path, and what leaves and comes has another."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Iterator, List

import cv2
import numpy as np
import pytest

from blendmask_edge import ConfigError, DependencyError, Instances, InstancesError, Labels, MaskPredictor, Tracker
from tests.sdk.rectangles import Rectangle, paint, rectangle_network

__all__ = ["rectangle_network"]
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(find_spec("trackers") is None, reason="needs blendmask-edge[track]")
SIZE = (32, 48)
LABELS = Labels(["red", "green", "blue"], [10, 20, 35])


def two_that_pass(number: int) -> List[Rectangle]:
    """Return a red rectangle that moves right and a green one that moves left, in another row."""
    return [
        Rectangle((2 + 2 * number, 2, 12 + 2 * number, 12)),
        Rectangle((36 - 2 * number, 16, 46 - 2 * number, 28), 1),
    ]


@pytest.fixture
def predictor(bundle_path: Path) -> Iterator[MaskPredictor]:
    """Return an open predictor."""
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


def ids_by_class(results: Any) -> Dict[str, List[int]]:
    """Return the track ids of each class, frame by frame."""
    found: Dict[str, List[int]] = {}
    for instances in results:
        for name, track_id in zip(instances.class_names, instances.track_ids.tolist()):
            found.setdefault(name, []).append(track_id)
    return found


@pytest.mark.usefixtures("rectangle_network")
def test_each_instance_of_a_video_keeps_its_identity(predictor: MaskPredictor, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, SIZE[::-1])
    for number in range(16):
        writer.write(paint(two_that_pass(number), SIZE)[..., ::-1].copy())
    writer.release()
    results = [instances for _, instances in predictor.stream(tmp_path / "clip.avi", track=True)]
    ids = ids_by_class(results)
    assert ids["red"][0] == ids["green"][0] == -1
    assert set(ids["red"][1:]) | set(ids["green"][1:]) == {0, 1}
    assert len(set(ids["red"][1:])) == len(set(ids["green"][1:])) == 1
    assert len(ids["red"]) == 16


@pytest.mark.usefixtures("rectangle_network")
def test_identities_reach_drawing_and_coco(predictor: MaskPredictor) -> None:
    frames = [paint(two_that_pass(number), SIZE) for number in range(3)]
    first, _, third = (instances for _, instances in predictor.stream(frames, track=True))
    assert "track_id" not in first.to_coco(1)[0]
    assert sorted(result["track_id"] for result in json.loads(json.dumps(third.to_coco(1)))) == [0, 1]
    large = cv2.resize(frames[2], (480, 320), interpolation=cv2.INTER_NEAREST)
    ((_, untracked),) = predictor.stream([large])
    tracked = untracked.with_tracks(np.array([3, -1]))
    difference = tracked.draw(large) != untracked.draw(large)
    assert difference.any()
    assert not (untracked.with_tracks(np.array([-1, -1])).draw(large) != untracked.draw(large)).any()


@pytest.mark.usefixtures("rectangle_network")
def test_tracker_of_the_caller_goes_on_from_stream_to_stream(predictor: MaskPredictor) -> None:
    tracker = Tracker()
    frames = [paint(two_that_pass(number), SIZE) for number in range(8)]
    ids = ids_by_class(
        instances for part in (frames[:4], frames[4:]) for _, instances in predictor.stream(part, track=tracker)
    )
    assert len(set(ids["red"][1:])) == 1
    tracker.reset()
    assert tracker.update(predictor(frames[0])).track_ids.tolist() == [-1, -1]  # type: ignore[union-attr]


def instances_at(*places: int, score: float = 0.9) -> Instances:
    """Return an instance of 10 x 10 pixels at each x."""
    masks = np.zeros((len(places), 40, 200), np.bool_)
    for mask, place in zip(masks, places):
        mask[10:20, place : place + 10] = True
    count = len(places)
    return Instances.from_masks(masks, np.full(count, score, np.float32), np.zeros(count, np.int64), LABELS)


def last_ids(tracker: Tracker, *frames: Instances) -> List[int]:
    """Return the track ids of the last frame."""
    return [tracker.update(frame).track_ids.tolist() for frame in frames][-1]  # type: ignore[union-attr]


def test_identity_survives_frames_without_it_and_ends_after_them() -> None:
    for missed, expected in ((3, [0]), (30, [-1])):
        tracker = Tracker(lost_seconds=0.5, rate=30)
        assert last_ids(tracker, instances_at(50), instances_at(50), instances_at(50)) == [0]
        assert last_ids(tracker, *[instances_at()] * missed) == []
        assert last_ids(tracker, instances_at(50)) == expected


def test_time_counts_and_not_frames_where_it_is_told() -> None:
    for gap, expected in ((0.3, [0]), (5.0, [-1])):
        tracker = Tracker(lost_seconds=0.5)
        for seconds in (0.0, 0.03, 0.06):
            tracker.update(instances_at(50), seconds)
        assert tracker.update(instances_at(50), 0.06 + gap).track_ids.tolist() == expected  # type: ignore[union-attr]


def test_weak_instances_continue_an_identity_and_start_none() -> None:
    tracker = Tracker(score_threshold=0.5)
    weak = instances_at(50, score=0.2)
    assert last_ids(tracker, weak, weak, weak) == [-1]
    assert last_ids(tracker, instances_at(50), instances_at(51), instances_at(52, score=0.2)) == [0]


def test_identities_belong_to_their_rows_whatever_the_order() -> None:
    tracker = Tracker()
    for shift in range(4):
        instances = instances_at(20 + shift, 80 + shift, 140 + shift)
        tracked = tracker.update(instances[[shift % 3, (shift + 1) % 3, (shift + 2) % 3]])
    assert tracked.track_ids is not None
    by_place = dict(zip(tracked.boxes[:, 0].tolist(), tracked.track_ids.tolist()))
    assert by_place == {23.0: by_place[23.0], 83.0: by_place[83.0], 143.0: by_place[143.0]}
    again = tracker.update(instances_at(24, 84, 144))
    assert again.track_ids is not None
    assert again.track_ids.tolist() == [by_place[23.0], by_place[83.0], by_place[143.0]]


@pytest.mark.parametrize(
    "options", [{"score_threshold": 2}, {"lost_seconds": -1}, {"rate": 0}, {"rate": "30"}, {"iou_threshold": None}]
)
def test_wrong_settings_are_refused(options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Tracker(**options)


def test_wrong_frames_and_times_are_refused(predictor: MaskPredictor) -> None:
    with pytest.raises(InstancesError, match="list"):
        Tracker().update([])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seconds"):
        Tracker().update(instances_at(5), float("nan"))
    with pytest.raises(ConfigError, match="track is 1"):
        predictor.stream([], track=1)  # type: ignore[arg-type]


def test_missing_library_is_named_before_the_source_is_opened(
    predictor: MaskPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(DependencyError, match=r"Tracking needs trackers .*pip install .*track"):
        predictor.stream("no-such.mp4", track=True)
