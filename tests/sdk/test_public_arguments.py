"""What users get wrong when they call the package: one of its own errors, which names the argument."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

import blendmask_edge
from blendmask_edge import (
    BlendMaskError,
    Bundle,
    ClosedError,
    ConfigError,
    ImageError,
    Instances,
    InstancesError,
    Labels,
    MaskPredictor,
    check,
    compare,
    read_image,
    write_report,
)

pytest.importorskip("onnxruntime")
NAN = float("nan")
RED = np.zeros((40, 60, 3), np.uint8)
RED[..., 0] = 255
ODD = [None, 3, 1.5, True, b"x", [], {}, NAN, "a\0b"]
TARGETS = "x86-vnni", "jetson-orin-nano"


@pytest.fixture(scope="module")
def predictor(bundle_path: Path) -> Any:
    """Return an open predictor."""
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def instances(predictor: Any) -> Instances:
    """Return one instance."""
    found: Instances = predictor(RED)
    assert len(found) == 1
    return found


@pytest.mark.parametrize("path", ODD, ids=repr)
def test_paths(path: Any, bundle_path: Path) -> None:
    calls = (read_image, Bundle.open, MaskPredictor, lambda value: check(value, TARGETS[0]))
    for call in (*calls, lambda value: blendmask_edge.compile(value, TARGETS[1])):
        with pytest.raises(BlendMaskError) as refused:
            call(path)
        assert len(str(refused.value)) < 400
    with pytest.raises(BlendMaskError, match="orientation"):
        read_image(bundle_path, orientation=path)


@pytest.mark.parametrize("path", ODD, ids=repr)
def test_paths_of_comparisons_and_reports(path: Any, bundle_path: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    calls = [
        lambda: compare(path, bundle_path, tmp_path),
        lambda: compare(bundle_path, path, tmp_path),
        lambda: write_report(path, page),
        lambda: write_report([path], page),
        lambda: write_report(bundle_path, path),
    ]
    if path is not None:
        calls += [lambda: compare(bundle_path, bundle_path, path), lambda: write_report(bundle_path, page, path)]
    for call in calls:
        with pytest.raises(BlendMaskError) as refused:
            call()
        assert len(str(refused.value)) < 400
    assert not page.exists()


@pytest.mark.parametrize("value", [None, 3, 1.5, b"x", ["x"], "x"], ids=repr)
@pytest.mark.parametrize("name", ["target", "precision", "runtime", "tensorrt", "workspace_mib"])
def test_devices(bundle_path: Path, name: str, value: Any) -> None:
    optional = value is None and name != "target" and name != "precision"
    if name != "workspace_mib" and not optional:
        with pytest.raises(ConfigError):
            check(bundle_path, **{"target": TARGETS[0], name: value})
    if name != "tensorrt" and not (optional and name != "runtime") and (name, value) != ("workspace_mib", 3):
        with pytest.raises(ConfigError):
            blendmask_edge.compile(bundle_path, **{"target": TARGETS[1], name: value})


@pytest.mark.parametrize("variant", [None, 3, b"cpu", ["cpu"], "tpu"], ids=repr)
def test_variants(bundle_path: Path, variant: Any) -> None:
    for call in (Bundle.open(bundle_path).graph, Bundle.open(bundle_path).entry):
        with pytest.raises(BlendMaskError, match="graph"):
            call(variant)


IMAGES: Dict[str, Any] = {
    "float": RED / 255, "bool": RED.astype(bool), "int64": RED.astype(np.int64), "uint16": RED.astype(np.uint16),
    "object": RED.astype(object), "gray": RED[..., 0], "four": np.dstack([RED, RED[..., :1]]), "batch": RED[None],
    "empty": RED[:0], "narrow": RED[:, :0], "list": RED.tolist(), "none": None, "text": "a.jpg",
    "first": RED.transpose(2, 0, 1),
    "long": np.zeros((2**16, 1, 3), np.uint8), "vast": np.broadcast_to(RED[:1, :1], (2**17, 2**17, 3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", IMAGES)
def test_arrays_that_are_no_image(predictor: Any, instances: Instances, kind: str) -> None:
    for call in (predictor, lambda image: predictor.warm_up(image=image), instances.draw):
        if kind == "none" and call not in (predictor, instances.draw):
            continue  # a blank frame
        with pytest.raises(ImageError):
            call(IMAGES[kind])


def test_arrays_of_any_layout_are_images(predictor: Any, instances: Instances) -> None:
    """What is read-only, turned, strided or repeated in memory is the same image."""
    locked = RED.copy()
    locked.flags.writeable = False
    large = np.repeat(np.repeat(RED, 2, 0), 2, 1)
    same = {
        "locked": locked, "columns": np.asfortranarray(RED), "turned": RED[::-1, ::-1][::-1, ::-1],
        "strided": large[::2, ::2], "repeated": np.broadcast_to(RED[:1, :1], RED.shape),
        "view": np.ascontiguousarray(RED[..., ::-1])[..., ::-1],
    }  # fmt: skip
    for name, image in same.items():
        found = predictor(image)
        np.testing.assert_array_equal(found.boxes, instances.boxes, err_msg=name)
        np.testing.assert_array_equal(found.scores, instances.scores, err_msg=name)
        assert instances.draw(image).shape == RED.shape
    assert not locked.flags.writeable


@pytest.mark.parametrize("channels", [None, 3, b"rgb", "RGB", "x", ["rgb"]], ids=repr)
def test_channels(predictor: Any, channels: Any) -> None:
    with pytest.raises(BlendMaskError, match=r"[Cc]hannel"):
        predictor(RED, channels=channels)


@pytest.mark.parametrize(
    "index", ["a", None, 1.5, b"a", {}, (0, 0), [True] * 7, np.array([5]), np.array([0.5])], ids=repr
)
def test_indices(instances: Instances, index: Any) -> None:
    with pytest.raises(InstancesError, match="index is"):
        instances[index]


def test_loops_end(instances: Instances) -> None:
    assert [len(one) for one in instances] == [1]  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        instances[1]


@pytest.mark.parametrize("value", [None, "a", NAN, -1, 2, True], ids=repr)
def test_thresholds(instances: Instances, value: Any) -> None:
    with pytest.raises(ConfigError, match="iou_threshold is"):
        instances.agnostic_nms(value)


@pytest.mark.parametrize("value", [None, "a", 1.5, True, 2**70, NAN], ids=repr)
def test_image_ids(instances: Instances, value: Any) -> None:
    with pytest.raises(ConfigError, match="image_id is"):
        instances.to_coco(value)
    assert type(instances.to_coco(np.int64(3))[0]["image_id"]) is int  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["a", np.zeros(1), np.zeros(2, np.int64), [1], 3], ids=repr)
def test_track_ids(instances: Instances, value: Any) -> None:
    with pytest.raises(InstancesError, match="track_ids is"):
        instances.with_tracks(value)


WRONG_FIELDS = [
    ("boxes", None), ("boxes", [[1, 2, 3, 4]]), ("boxes", np.zeros((1, 4))),
    ("boxes", np.full((1, 4), np.nan, np.float32)),
    ("boxes", np.full((1, 4), np.inf, np.float32)), ("scores", "a"), ("scores", np.float32([NAN])),
    ("scores", np.float32([5])), ("scores", np.float32([-0.1])), ("class_ids", np.zeros(1, np.int32)),
    ("class_ids", np.array([-1])), ("class_ids", np.array([3])), ("image_size", None), ("image_size", (0, 5)),
    ("image_size", (5,)), ("image_size", (5.5, 5)), ("image_size", (True, 5)), ("image_size", (2**40, 2**40)),
    ("labels", None), ("labels", ["a"]), ("mask_logits", None), ("mask_logits", np.zeros((1, 56, 56))),
    ("data", None), ("data", {"a": [1]}), ("data", {3: np.zeros(1)}), ("track_ids", np.zeros(1, np.int32)),
]  # fmt: skip


@pytest.mark.parametrize("name, value", WRONG_FIELDS, ids=[f"{name}-{value!r:.30}" for name, value in WRONG_FIELDS])
def test_fields_of_instances(instances: Instances, name: str, value: Any) -> None:
    with pytest.raises(InstancesError, match=name):
        replace(instances, **{name: value})


@pytest.mark.parametrize("names", [None, 3, "ab", b"ab", [1, 2], [None, "a"], {"a": 1}], ids=repr)
def test_names_of_labels(names: Any) -> None:
    with pytest.raises(InstancesError, match="names is"):
        Labels(names, [1, 2])


@pytest.mark.parametrize("ids", [None, 3, "12", ["1", "2"], [1.5, 2], [True, 2], [2**70, 1], [1, 1], [1]], ids=repr)
def test_ids_of_labels(ids: Any) -> None:
    with pytest.raises(InstancesError):
        Labels(["a", "b"], ids)


@pytest.mark.parametrize("images", [None, 3, NAN, b"x", "a.jpg", {}, int, RED, RED[..., 0]], ids=range(9))
def test_batches(predictor: Any, images: Any) -> None:
    with pytest.raises(ConfigError, match="images is a"):
        predictor.predict_batch(images)


@pytest.mark.parametrize("value", [10**400, -(10**400), NAN, "1", None])
def test_numbers_beyond_those_of_floats(predictor: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match="overlap is"):
        predictor.predict_tiled(RED, overlap=value)
    with pytest.raises(ConfigError, match="roi is"):
        predictor(RED, roi=(0, 0, 5, value))
    with pytest.raises(ConfigError, match="score_threshold is"):
        MaskPredictor("m.bmz", score_threshold=value if value is not None else "")


def test_tiles_without_number(predictor: Any) -> None:
    vast = np.broadcast_to(RED[:1, :1], (4000, 4000, 3))
    with pytest.raises(ConfigError, match=r"tile is 16 x 16 .* takes \d{7} of them, at most 10000 .*larger tiles"):
        predictor.predict_tiled(vast, tile=(16, 16), overlap=0.9)


@pytest.mark.parametrize("value", [5, "print", True, [print]], ids=repr)
def test_what_takes_errors_of_a_stream(predictor: Any, value: Any) -> None:
    with pytest.raises(ConfigError, match="on_error is"):
        predictor.stream([RED], on_error=value)


def test_an_empty_image_is_not_to_be_scaled_down(predictor: Any) -> None:
    for image in (RED[:0], RED[:, :0]):
        with pytest.raises(ImageError, match="give an image that is not empty"):
            predictor(image)


def test_a_closed_predictor(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as closed:
        pass
    for call in (closed, lambda image: closed.warm_up(image=image)):
        with pytest.raises(ClosedError):
            call(RED)
