"""Without OpenCV, images are predicted and drawn; what needs it is refused by a message that names the extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sdk.small_bundles import build_graph, describe

_HIDE = "import sys; sys.modules['cv2'] = None; "
_COMMAND = _HIDE + "from blendmask_edge.cli.app import main; main()"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a bundle, a folder of images and what is named like a video."""
    from blendmask_edge.bundle import write_bundle

    folder = tmp_path_factory.mktemp("place")
    graphs = {"cpu": build_graph()}
    write_bundle(folder / "model.bmz", describe(graphs), graphs)
    (folder / "images").mkdir()
    for name in ("a.jpg", "b.png"):
        Image.fromarray(np.full((48, 64, 3), 230, np.uint8)).save(folder / "images" / name)
    (folder / "drive.mp4").write_bytes(b"video")
    return folder


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder with OpenCV hidden."""
    return subprocess.run([sys.executable, *words], cwd=place, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_images_are_predicted_and_drawn(place: Path) -> None:
    done = run(place, "-c", _COMMAND, "predict", "model.bmz", "images", "--runtime", "onnxruntime", "--score", "0")
    assert done.returncode == 0, done.stderr
    for name in ("a", "b"):
        assert Image.open(place / f"out/{name}.overlay.jpg").size == (64, 48)


def test_folders_and_iterables_are_streamed(place: Path) -> None:
    program = _HIDE + (
        "from blendmask_edge import MaskPredictor, read_image\n"
        "with MaskPredictor('model.bmz', 'onnxruntime', 1, score_threshold=0) as predictor:\n"
        "    for source in ('images', [read_image('images/a.jpg')[..., ::-1]]):\n"
        "        print([len(instances.rles()) for _, instances in predictor.stream(source, channels='bgr')])"
    )
    done = run(place, "-c", program)
    assert done.stdout == "[3, 3]\n[3]\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("source", ["drive.mp4", "0", "rtsp://robot/front"])
def test_video_is_refused_before_anything_is_predicted(place: Path, source: str) -> None:
    done = run(place, "-c", _COMMAND, "predict", "model.bmz", "images/a.jpg", source, "-o", "refused")
    assert done.returncode == 1
    assert f"{source} needs OpenCV. Type: pip install" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "refused").exists()


@pytest.mark.parametrize(
    "call", ["predictor.stream(0)", "predictor.stream('drive.mp4')", "to_polygons(predictor(image))"]
)
def test_calls_that_need_it_raise_an_error_that_names_the_extra(place: Path, call: str) -> None:
    program = _HIDE + (
        "from blendmask_edge import DependencyError, MaskPredictor, read_image\n"
        "from blendmask_edge.integrations.polygons import to_polygons\n"
        "image = read_image('images/a.jpg')\n"
        "with MaskPredictor('model.bmz', 'onnxruntime', 1, score_threshold=0) as predictor:\n"
        f"    try: {call}\n"
        "    except DependencyError as error: print(error)"
    )
    done = run(place, "-c", program)
    assert "needs OpenCV. Type: pip install" in done.stdout, done.stderr
    assert "video" in done.stdout or "opencv-python-headless" in done.stdout
