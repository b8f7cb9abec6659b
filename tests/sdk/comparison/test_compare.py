"""What changed between two runs or two bundles is counted, named by image, and can be gated on."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge import AnnotationError, ConfigError, ImageError, RegressionError, compare
from blendmask_edge.bundle import write_bundle
from blendmask_edge.comparison.detections import Detection, PredictedImage, Predictions
from blendmask_edge.comparison.result import compare_predictions
from blendmask_edge.imaging.rle import encode_crops
from blendmask_edge.instances import Instances
from tests.sdk.scenes import INSTANCES, LABELS, Scenes
from tests.sdk.small_bundles import build_graph, describe

ALL = 12 * INSTANCES
Change = Callable[[int, Instances], Instances]


def run_of(scenes: Scenes, folder: Path, change: Change = lambda _, instances: instances, **fields: Any) -> Path:
    """Write what a predictor that knows the answers, some of them changed, would have written."""
    folder.mkdir()
    document: Dict[str, Any] = scenes.document()
    document["annotations"] = [
        result
        for image_id, instances in scenes.instances.items()
        for result in change(image_id, instances).to_coco(image_id)
    ]
    document.update(fields)
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


def in_first(change: Callable[[Instances], Instances]) -> Change:
    return lambda image_id, instances: change(instances) if image_id == 1 else instances


def shifted(instances: Instances) -> Instances:
    logits = instances.mask_logits.copy()
    logits[0] = np.roll(logits[0], 20, axis=1)
    return replace(instances, mask_logits=logits)


def test_a_run_against_itself_changes_nothing(scenes: Scenes, tmp_path: Path) -> None:
    run = run_of(scenes, tmp_path / "a")
    result = compare(run, run)
    assert (result.instances, result.unchanged, result.changes, result.changed_share) == (ALL, ALL, (), 0)
    result.require_at_most(0)


def test_file_names_that_are_not_utf_8_are_read_as_predict_writes_them(scenes: Scenes, tmp_path: Path) -> None:
    images = scenes.document()["images"]
    images[0]["file_name"] = os.fsdecode(b"\xff\xfe.jpg")
    run = run_of(scenes, tmp_path / "a", images=images)
    assert compare(run, run).unchanged == ALL
    text = (run / "instances.json").read_text()
    (run / "instances.json").write_text(text.replace('"score": 0', '"score": NaN, "former": 0', 1))
    with pytest.raises(AnnotationError, match="holds no predictions with masks: NaN"):
        compare(run, run)


@pytest.mark.parametrize(
    ("change", "kind", "together"),
    [
        (lambda instances: instances[1:], "vanished", ALL),
        (shifted, "mask changed", ALL),
        (lambda instances: replace(instances, scores=np.r_[np.float32(0.3), instances.scores[1:]]), "vanished", ALL),
    ],
    ids=["left out", "other mask", "score fell"],
)
def test_a_planted_change_is_the_only_one(
    scenes: Scenes, tmp_path: Path, change: Any, kind: str, together: int
) -> None:
    before, after = run_of(scenes, tmp_path / "a"), run_of(scenes, tmp_path / "b", in_first(change))
    result = compare(before, after)
    assert [(change.image, change.kind) for change in result.changes] == [("1.png", kind)]
    assert result.changed_share == 1 / together
    with pytest.raises(RegressionError, match=r"1 of 48 instances changed \(2\.08%\)") as caught:
        result.require_at_most(0.02)
    assert caught.value.exit_code == 3
    result.require_at_most(0.021)


def test_what_is_new_appeared(scenes: Scenes, tmp_path: Path) -> None:
    before = run_of(scenes, tmp_path / "a", in_first(lambda instances: instances[:-1]))
    (change,) = compare(before, run_of(scenes, tmp_path / "b")).changes
    assert change.kind == "appeared"
    assert change.before is None
    assert change.after is not None


def test_another_class_is_another_instance(scenes: Scenes, tmp_path: Path) -> None:
    def relabeled(instances: Instances) -> Instances:
        return replace(instances, class_ids=np.r_[(instances.class_ids[:1] + 1) % 3, instances.class_ids[1:]])

    result = compare(run_of(scenes, tmp_path / "a"), run_of(scenes, tmp_path / "b", in_first(relabeled)))
    assert sorted(change.kind for change in result.changes) == ["appeared", "vanished"]


def test_a_score_that_crosses_the_threshold_a_little_is_no_change(scenes: Scenes, tmp_path: Path) -> None:
    def rescored(score: float) -> Change:
        return in_first(lambda instances: replace(instances, scores=np.full_like(instances.scores, score)))

    before, after = (run_of(scenes, tmp_path / str(score), rescored(score)) for score in (0.71, 0.69))
    assert compare(before, after, score_threshold=0.7).changes == ()
    assert compare(after, before, score_threshold=0.7).changes == ()
    assert len(compare(before, run_of(scenes, tmp_path / "low", rescored(0.5)), score_threshold=0.7).changes) == 4


@given(data=st.data())
def test_every_instance_is_counted_once(data: st.DataObject) -> None:
    corner, side = st.integers(0, 40), st.integers(4, 20)

    def predictions() -> Predictions:
        rows = data.draw(st.lists(st.tuples(corner, corner, side, side, st.floats(0, 1)), max_size=6))
        detections = [
            Detection("cup", score, (x, y, w, h), encode_crops([(np.ones((h, w), np.bool_), (x, y))], (64, 64))[0])
            for x, y, w, h, score in rows
        ]
        return Predictions("run", {"a": PredictedImage((64, 64), detections)})

    one, other = predictions(), predictions()
    counts = [sum(detection.score >= 0.5 for detection in run.images["a"].detections) for run in (one, other)]
    result = compare_predictions(one, other, 0.5, 0.9)
    assert max(counts) <= result.instances <= sum(counts)
    assert result.count("vanished") <= counts[0]
    assert result.count("appeared") <= counts[1]
    assert 0 <= result.changed_share <= 1
    assert compare_predictions(one, one, 0.5, 0.9).changes == ()


def test_coco_results_take_names_from_annotations(scenes: Scenes, tmp_path: Path) -> None:
    run = run_of(scenes, tmp_path / "a")
    results = tmp_path / "results.json"
    results.write_text(json.dumps(json.loads((run / "instances.json").read_text())["annotations"]))
    assert compare(run, results, annotations=scenes.annotations).unchanged == ALL
    with pytest.raises(AnnotationError, match="Give their annotations too"):
        compare(run, results)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "bright"
    folder.mkdir()
    for number, value in enumerate((230, 40)):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 64, 3), value, np.uint8))
    return folder


def changed_bundle(path: Path) -> Path:
    """Write a bundle whose cpu graph moved the masks of its float graph, and one box."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(build_graph())
    for weight in model.graph.initializer:
        if weight.name == "logits":
            logits = np.roll(onnx.numpy_helper.to_array(weight), 28, axis=3)
            logits[0, 1] = -5  # its mask is empty
            weight.CopyFrom(onnx.numpy_helper.from_array(logits, "logits"))
    graphs = {"float": build_graph(), "cpu": model.SerializeToString()}
    return write_bundle(path, describe(graphs), graphs)


def test_graphs_of_bundles_are_compared_on_images(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = changed_bundle(tmp_path / "m.bmz")
    same = compare(f"{bundle}:float", f"{bundle}:float", images, runtime="onnxruntime", threads=1)
    assert (same.instances, same.changed_share) == (3, 0)  # the dark image shows nothing
    result = compare(f"{bundle}:float", f"{bundle}:cpu", images, runtime="onnxruntime", threads=1)
    assert {change.kind for change in result.changes} == {"mask changed"}
    assert result.before == "m.bmz (float, onnxruntime)"
    assert set(result.files) == {"0.png", "1.png"}


def test_nothing_on_both_sides_is_no_change(scenes: Scenes, tmp_path: Path) -> None:
    run = run_of(scenes, tmp_path / "a", annotations=[])
    result = compare(run, run)
    assert (result.instances, result.changed_share) == (0, 0)


def spoiled(field: str, value: Any) -> Callable[[Dict[str, Any]], None]:
    return lambda document: document["annotations"][0].update({field: value})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda document: document["annotations"][0].pop("segmentation"), "required field `segmentation`"),
        (lambda document: document["annotations"][0].pop("score"), "required field `score`"),
        (spoiled("score", 1.5), "`score` is 1.5, expected 0 to 1"),
        (spoiled("image_id", 99), "`image_id` is 99"),
        (spoiled("category_id", 99), "`category_id` is 99"),
        (spoiled("bbox", [0, 0, -5, 5]), "`bbox` is"),
        (spoiled("segmentation", {"size": [96, 128], "counts": "1"}), "do not add up to the 96 x 128 pixels"),
        (lambda document: document["images"].append(document["images"][0]), "an image id twice"),
        (lambda document: document.pop("categories"), "required field `categories`"),
    ],
)
def test_unsound_predictions_are_one_message(scenes: Scenes, tmp_path: Path, spoil: Any, message: str) -> None:
    run = run_of(scenes, tmp_path / "a")
    file = run / "instances.json"
    document = json.loads(file.read_text())
    spoil(document)
    file.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=message) as caught:
        compare(run, run)
    assert "instances.json" in str(caught.value)
    assert "blendmask predict" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "Cannot read predictions"), ("{", "holds no predictions"), ("[1]", "holds no predictions")],
)
def test_what_is_no_file_of_predictions_is_refused(tmp_path: Path, text: Optional[str], message: str) -> None:
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AnnotationError, match=message):
        compare(path, path)


def test_other_images_are_refused(scenes: Scenes, tmp_path: Path) -> None:
    document = scenes.document()
    run = run_of(scenes, tmp_path / "a")
    fewer = run_of(scenes, tmp_path / "b", annotations=[], images=document["images"][1:])
    for pair in ((run, fewer), (fewer, run)):
        with pytest.raises(AnnotationError, match=r"lacks 1 of the 12 images of .*'1\.png'"):
            compare(*pair)
    document["images"][0]["width"] += 1
    other = run_of(scenes, tmp_path / "c", annotations=[], images=document["images"])
    with pytest.raises(AnnotationError, match=r"128 x 96 pixels in .* and 129 x 96 in"):
        compare(run, other)


def test_bundles_need_images_that_are_there(bundle_path: Path, scenes: Scenes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--images DIR"):
        compare(bundle_path, bundle_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="holds no image"):
        compare(bundle_path, bundle_path, tmp_path / "empty")
    with pytest.raises(AnnotationError, match="12 of 12 annotated images are not in"):
        compare(bundle_path, bundle_path, tmp_path / "empty", scenes.annotations)


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "0.5"])
@pytest.mark.parametrize("name", ["mask_iou", "score_threshold"])
def test_shares_out_of_range_are_refused(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*, expected a number from 0 to 1"):
        compare(tmp_path, tmp_path, **{name: value})


def test_labels_of_the_scenes_are_named(scenes: Scenes, tmp_path: Path) -> None:
    before = run_of(scenes, tmp_path / "a")
    after = run_of(scenes, tmp_path / "b", lambda _, instances: instances[instances.class_ids != 0])
    assert {change.class_name for change in compare(before, after).changes} == {LABELS.names[0]}
