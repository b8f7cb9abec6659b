"""An image of any kind and size goes in, instances in its own pixels come out."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict

import cv2
import numpy as np
import pytest

from blendmask_edge import (
    BundleError,
    ClosedError,
    ConfigError,
    ImageError,
    InferenceError,
    MaskPredictor,
    RuntimeUnavailableError,
    read_image,
)
from blendmask_edge.bundle import Manifest, write_bundle

pytest.importorskip("onnxruntime")
RED = np.zeros((64, 96, 3), np.uint8)
RED[..., 0] = 255


def test_prediction_is_in_pixels_of_the_image(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, threads=1) as predictor:
        instances = predictor(RED)
    assert instances.class_names == ["red"]
    np.testing.assert_allclose(instances.scores, [1])
    np.testing.assert_array_equal(instances.boxes, [[8, 8, 40, 40]])
    assert instances.masks.shape == (1, 64, 96)
    assert instances.to_coco(1)[0]["category_id"] == 10


def test_the_predictor_loads_nothing_that_only_other_uses_need() -> None:
    rare = ("importlib.metadata", "statistics", "multiprocessing", "cv2", "onnxruntime", "openvino", "torch", "typer")
    code = f"import sys, blendmask_edge as b; b.MaskPredictor\nprint([name for name in {rare} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_channel_order_decides_what_is_red(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path) as predictor:
        assert predictor(RED, channels="bgr").class_names == ["blue"]
        assert predictor(RED[..., ::-1], channels="bgr").class_names == ["red"]


def test_padding_counts_as_the_pad_value(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph}
    spec = make_manifest(graphs).input
    path = write_bundle(
        tmp_path / "a.bmz", make_manifest(graphs, input=type(spec)(height=32, width=48, pad_value=(0, 255, 0))), graphs
    )
    with MaskPredictor(path) as predictor:
        instances = predictor(np.ascontiguousarray(RED[:, :48]))
    assert instances.class_names == ["red", "green"]
    np.testing.assert_allclose(instances.scores, [0.5, 0.5])


def test_instances_are_shown_from_the_display_threshold_of_the_bundle(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph}
    dim = np.full((32, 48, 3), (250, 120, 60), np.uint8)
    for threshold, count in ((0.2, 3), (0.4, 2), (1.0, 0)):
        manifest = make_manifest(graphs, display_threshold=threshold)
        with MaskPredictor(write_bundle(tmp_path / "a.bmz", manifest, graphs)) as predictor:
            assert len(predictor(dim)) == count


def test_bundles_without_a_display_threshold_show_from_one_half(
    rewrite: Callable[..., Path], manifest_json: Dict[str, Any]
) -> None:
    del manifest_json["display_threshold"]
    dim = np.full((32, 48, 3), (250, 120, 60), np.uint8)
    with MaskPredictor(rewrite({"manifest.json": json.dumps(manifest_json)})) as predictor:
        assert predictor(dim).class_names == ["red"]


def test_overlap_across_classes_is_suppressed_when_asked(overlapping_bundle: Path) -> None:
    image = np.full((32, 48, 3), (250, 240, 230), np.uint8)
    for asked, names in ((False, ["red", "green", "blue"]), (True, ["red"])):
        with MaskPredictor(overlapping_bundle, "onnxruntime", agnostic_nms=asked) as predictor:
            assert predictor(image).class_names == names
            assert predictor.score_threshold == 0.2


def test_threshold_of_the_caller_replaces_that_of_the_manifest(bundle_path: Path) -> None:
    dim = np.full((32, 48, 3), (250, 60, 20), np.uint8)
    for threshold, names in ((None, ["red", "green"]), (0.5, ["red"]), (0.0, ["red", "green", "blue"]), (1.0, [])):
        with MaskPredictor(bundle_path, score_threshold=threshold) as predictor:
            assert predictor(dim).class_names == names


@pytest.mark.parametrize("kind", ["gray", "rgba", "sixteen"])
def test_files_of_every_kind_are_predicted(bundle_path: Path, tmp_path: Path, kind: str) -> None:
    images = {
        "gray": np.full((20, 30), 255, np.uint8),
        "rgba": np.dstack([np.full((20, 30, 3), 255, np.uint8), np.zeros((20, 30), np.uint8)]),
        "sixteen": np.full((20, 30, 3), 65535, np.uint16),
    }
    cv2.imwrite(str(tmp_path / "a.png"), images[kind])
    with MaskPredictor(bundle_path) as predictor:
        instances = predictor(read_image(tmp_path / "a.png"))
    assert sorted(instances.class_names) == ["blue", "green", "red"] or kind != "gray"
    assert len(instances) == 3


def test_one_pixel_is_predicted(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path) as predictor:
        instances = predictor(np.full((1, 1, 3), 255, np.uint8))
    assert instances.masks.shape[1:] == (1, 1)
    assert instances.draw(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)


def test_forty_eight_megapixels_cost_little_beside_the_image(bundle_path: Path) -> None:
    image = np.zeros((6000, 8000, 3), np.uint8)
    image[..., 0] = 255
    tracemalloc.start()
    with MaskPredictor(bundle_path) as predictor:
        instances = predictor(image)
        rles = instances.rles()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert instances.image_size == (6000, 8000)
    assert rles[0]["size"] == [6000, 8000]
    assert "masks" not in vars(instances)
    assert peak < 80e6


def test_images_that_are_none_are_refused(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path) as predictor:
        for wrong in (None, "a.jpg", RED[..., 0], RED.astype(float), RED[:0]):
            with pytest.raises(ImageError):
                predictor(wrong)  # type: ignore[arg-type]


def test_closed_predictor_refuses(bundle_path: Path) -> None:
    predictor = MaskPredictor(bundle_path)
    predictor.close()
    predictor.close()
    with pytest.raises(ClosedError, match="MaskPredictor"):
        predictor(RED)


def test_predictor_says_what_it_runs(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, runtime="onnxruntime") as predictor:
        assert (predictor.runtime, predictor.variant, predictor.manifest.model) == ("onnxruntime", "cpu", "TINY")
        assert predictor.timings == (0, 0, 0)
        predictor(RED)
        assert min(predictor.timings) > 0
    with MaskPredictor(bundle_path, variant="float") as predictor:
        assert predictor.variant == "float"


@pytest.mark.parametrize(
    "options, error",
    [
        ({"runtime": "abacus"}, ConfigError),
        ({"threads": 0}, ConfigError),
        ({"score_threshold": 1.5}, ConfigError),
        ({"score_threshold": float("nan")}, ConfigError),
        ({"score_threshold": "0.5"}, ConfigError),
        ({"threads": 2000}, ConfigError),
        ({"threads": "2"}, ConfigError),
        ({"threads": 1.5}, ConfigError),
        ({"threads": True}, ConfigError),
        ({"runtime": None}, ConfigError),
        ({"runtime": 3}, ConfigError),
        ({"variant": b"cpu"}, ConfigError),
        ({"agnostic_nms": 0.5}, ConfigError),
        ({"variant": "tensorrt"}, BundleError),
    ],
)
def test_options_out_of_range_are_refused(bundle_path: Path, options: Any, error: Any) -> None:
    with pytest.raises(error):
        MaskPredictor(bundle_path, **options)


@pytest.mark.parametrize("path", [b"a.bmz", None, 3, "a\0.bmz"])
def test_paths_that_are_none_are_refused(path: Any) -> None:
    with pytest.raises(ConfigError, match="path is"):
        MaskPredictor(path)


def test_numbers_of_numpy_are_taken(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, threads=np.int64(1), score_threshold=np.float32(0.5)) as predictor:  # type: ignore[arg-type]
        assert len(predictor(RED)) == 1


@pytest.mark.parametrize("frames", [0, -1, "2", 1.5, None])
def test_warm_up_takes_a_number_of_frames(bundle_path: Path, frames: Any) -> None:
    with MaskPredictor(bundle_path) as predictor:
        predictor.warm_up()
        predictor.warm_up(2, image=RED)
        with pytest.raises(ConfigError, match="frames is"):
            predictor.warm_up(frames)


def test_missing_runtime_is_refused(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeUnavailableError, match="pip install"):
        MaskPredictor(bundle_path)


def test_bundle_without_a_graph_for_the_runtime_is_refused(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"tensorrt": tiny_graph}
    path = write_bundle(tmp_path / "a.bmz", make_manifest(graphs), graphs)
    with pytest.raises(BundleError, match=r"tensorrt; onnxruntime runs cpu or float"):
        MaskPredictor(path)


def test_graph_that_no_runtime_takes_is_refused(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny_graph)
    model.graph.node[2].op_type = "And"  # of numbers that are not booleans
    graphs = {"cpu": model.SerializeToString()}
    path = write_bundle(tmp_path / "a.bmz", make_manifest(graphs), graphs)
    with pytest.raises(InferenceError, match="refuses the graph"):
        MaskPredictor(path)
