"""The commands do what they say, leave nothing half done, and fail with one message and the agreed exit code."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from typer.testing import CliRunner

from blendmask_edge import InferenceError, MaskPredictor
from blendmask_edge.batch import files
from blendmask_edge.bundle import write_bundle
from blendmask_edge.cli import app as app_module
from blendmask_edge.cli.app import app
from blendmask_edge.errors import install_command

pytest.importorskip("onnxruntime")

ADDED = """
import typer

def register(app: typer.Typer) -> None:
    @app.command()
    def stretch() -> None:
        typer.echo("stretched")

    @app.command()
    def needy() -> None:
        import a_package_that_is_not_there

    @app.command()
    def stopped() -> None:
        raise KeyboardInterrupt
"""


def call(*words: object) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="blendmask")


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "m.bmz", "a.png", "-o", ""),
        ("predict", "m.bmz", "a.png", "--output="),
        ("predict", "m.bmz", ""),
        ("report", "m.bmz", "--output", ""),
        ("bench", "m.bmz", "--images", "", "--annotations", "a.json"),
        ("bench", "m.bmz", "--images", "p", "--annotations", "a.json", "--record", ""),
        ("quantize", "c.pth", "--calibration", "p", "-o", ""),
        ("train", "--images", "p", "--annotations", "a.json", "--output", ""),
        ("export", "c.pth", "-o", ""),
        ("sign", "m.bmz", "--key", "k.pem", "-o", ""),
    ],
)
def test_empty_text_stands_for_no_path(words: Tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 2
    assert "empty text after" in result.output
    assert not any(tmp_path.iterdir())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of a red and a white image and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "red.png"), np.full((40, 60, 3), (0, 0, 255), np.uint8))
    cv2.imwrite(str(folder / "white.jpg"), np.full((32, 48, 3), 255, np.uint8))
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_predict_writes_overlays_and_coco_that_coco_reads(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = call("predict", bundle_path, images, "-o", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["instances.json", "red.overlay.jpg", "white.overlay.jpg"]
    assert "4 instances of score 0.2 or more in 2 images: 2 red" in result.output
    assert str(out) in result.output
    assert "Next: blendmask" in result.output
    coco = COCO(out / "instances.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == [
        str(images / "red.png"),
        str(images / "white.jpg"),
    ]
    red = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert [coco.cats[annotation["category_id"]]["name"] for annotation in red] == ["red"]
    assert coco.annToMask(red[0]).sum() == red[0]["area"] > 0
    assert cv2.imread(str(out / "red.overlay.jpg")).shape == (40, 60, 3)


def test_predict_json_is_pure(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    result = call("predict", bundle_path, images / "red.png", "-o", tmp_path / "o", "--json", "--threads", 1)
    document = json.loads(result.stdout)
    assert document["output"] == str(tmp_path / "o")
    assert len(document["annotations"]) == 1
    written = json.loads((tmp_path / "o/instances.json").read_text())
    assert written == {key: document[key] for key in ("images", "annotations", "categories")}


def test_score_and_variant_are_obeyed(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    words = ["predict", bundle_path, images / "white.jpg", "-o", tmp_path / "o", "--variant", "float", "--json"]
    assert len(json.loads(call(*words, "--score", "0.9").stdout)["annotations"]) == 3
    assert call(*words, "--score", "2").exit_code == 1


def test_overlap_across_classes_is_left_out_when_asked(images: Path, tmp_path: Path, overlapping_bundle: Path) -> None:
    output = ["-o", tmp_path / "o", "--json"]
    words = ["predict", overlapping_bundle, images / "white.jpg", *output, "--runtime", "onnxruntime"]
    assert len(json.loads(call(*words).stdout)["annotations"]) == 3
    assert len(json.loads(call(*words, "--agnostic-nms").stdout)["annotations"]) == 1


def test_instances_are_shown_from_the_display_threshold(
    bundle_path: Path, images: Path, tmp_path: Path, rewrite: Any, manifest_json: Dict[str, Any]
) -> None:
    strict = rewrite({"manifest.json": json.dumps({**manifest_json, "display_threshold": 0.97})})
    cv2.imwrite(str(images / "bright.png"), np.full((32, 48, 3), (250, 245, 255), np.uint8))
    words = [images / "bright.png", "-o", tmp_path / "o", "--json", "--runtime", "onnxruntime"]
    assert len(json.loads(call("predict", bundle_path, *words).stdout)["annotations"]) == 3
    assert len(json.loads(call("predict", strict, *words).stdout)["annotations"]) == 2
    assert "display threshold  score 0.97, not measured" in call("info", strict).output


def test_nothing_found_is_said_with_what_to_try(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(images / "black.png"), np.zeros((32, 48, 3), np.uint8))
    words = ["predict", bundle_path, images / "black.png", "-o", tmp_path / "o", "--runtime", "onnxruntime"]
    assert "No instance of score 0.2 or more in 1 image. Try a lower --score" in call(*words).output
    assert "Are they images of what it was trained for?" in call(*words, "--score", "0.05").output
    assert json.loads((tmp_path / "o/instances.json").read_text())["annotations"] == []


def test_images_of_one_name_get_overlays_of_their_own(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/red.png").write_bytes((images / "red.png").read_bytes())
    out = tmp_path / "out"
    assert call("predict", bundle_path, images / "red.png", tmp_path / "other/red.png", "-o", out).exit_code == 0
    assert {path.name for path in out.iterdir()} == {"instances.json", "red.overlay.jpg", "red-2.overlay.jpg"}


def test_damaged_image_is_reported_and_the_rest_goes_on(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    (images / "damaged.png").write_bytes(b"damaged")
    out = tmp_path / "new/out"
    done = blendmask("predict", bundle_path, images, "-o", out, "--json")
    assert done.returncode == 1
    assert "1 of 3 files failed" in done.stderr
    document = json.loads(done.stdout)
    assert [Path(failed["file_name"]).name for failed in document["failed"]] == ["damaged.png"]
    assert "damaged.png is not an image" in document["failed"][0]["error"]
    assert sorted(path.name for path in out.iterdir()) == ["instances.json", "red.overlay.jpg", "white.overlay.jpg"]
    assert len(json.loads((out / "instances.json").read_text())["images"]) == 2


def test_an_interruption_keeps_what_is_done(
    bundle_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = files.read_image

    def interrupted(path: Path) -> Any:
        if path.name == "white.jpg":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(files, "read_image", interrupted)
    result = call("predict", bundle_path, images, "-o", tmp_path / "out", "--runtime", "onnxruntime")
    assert result.exit_code == 130
    assert "interrupted; the results cover 1 images" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["instances.json", "red.overlay.jpg"]
    result = call("predict", bundle_path, images / "white.jpg", "-o", tmp_path / "none", "--runtime", "onnxruntime")
    assert result.exit_code == 130
    assert not (tmp_path / "none").exists()


def test_an_image_that_the_runtime_fails_on_is_reported_alone(
    bundle_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = MaskPredictor.__call__

    def failing(predictor: MaskPredictor, image: Any, **options: Any) -> Any:
        if image.shape[0] == 40:
            raise InferenceError("The runtime failed.")
        return predict(predictor, image, **options)

    monkeypatch.setattr(MaskPredictor, "__call__", failing)
    result = call("predict", bundle_path, images, "-o", tmp_path / "out", "--runtime", "onnxruntime")
    assert result.exit_code == 1
    assert "1 of 2 files failed" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["instances.json", "white.overlay.jpg"]


def test_nothing_readable_leaves_older_results_as_they_were(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call("predict", bundle_path, images, "-o", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (images / "damaged.png").write_bytes(b"damaged")
    result = call("predict", bundle_path, images / "damaged.png", "-o", out)
    assert result.exit_code == 1
    assert result.output.count("error: ") == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_image_too_large_for_an_overlay_is_reported_alone(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(images / "long.png"), np.zeros((2, 65_535, 3), np.uint8))
    result = call("predict", bundle_path, images, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "in 2 images" in result.output


def write_video(path: Path, frames: int, size: Tuple[int, int] = (48, 64)) -> Path:
    """Write a video of red frames, 10 a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size[::-1])
    for _ in range(frames):
        writer.write(np.full((*size, 3), (0, 0, 255), np.uint8))
    writer.release()
    return path


def test_video_becomes_an_overlay_video_and_an_image_a_frame(bundle_path: Path, tmp_path: Path) -> None:
    video, out = write_video(tmp_path / "drive.avi", 3), tmp_path / "out"
    result = call("predict", bundle_path, video, "-o", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["drive.overlay.mp4", "instances.json"]
    document = json.loads((out / "instances.json").read_text())
    assert [(image["file_name"], image["frame"]) for image in document["images"]] == [(str(video), i) for i in range(3)]
    assert [annotation["image_id"] for annotation in document["annotations"]] == [1, 2, 3]
    overlay = cv2.VideoCapture(str(out / "drive.overlay.mp4"))
    assert overlay.get(cv2.CAP_PROP_FPS) == 10
    frames = [overlay.read()[1] for _ in range(3)]
    assert all(np.ptp(frame[..., 0]) > 60 for frame in frames)


@pytest.mark.parametrize("content", [b"", b"no video", "no frames"])
def test_video_without_frames_is_one_message(content: object, bundle_path: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "drive.avi", 0)
    if isinstance(content, bytes):
        video.write_bytes(content)
    result = call("predict", bundle_path, video, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "drive.avi" in result.output
    assert result.output.count("error: ") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("is_output", [False, True])
def test_video_of_a_name_that_opencv_cannot_take_is_one_message(
    is_output: bool, bundle_path: Path, tmp_path: Path
) -> None:
    video, odd = write_video(tmp_path / "drive.avi", 1), os.fsdecode(os.fsencode(tmp_path) + b"/\xff.avi")
    if not is_output:
        video = video.rename(odd)
    done = blendmask("predict", bundle_path, video, "-o", odd if is_output else tmp_path / "out")
    assert done.returncode == 1
    assert "not UTF-8" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_file_names_of_any_bytes_are_predicted_and_printed(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(images) + b"/\xff\x1b[2J.png"))
    (images / "red.png").rename(odd)
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/o\xff"))
    done = blendmask("predict", bundle_path, images, "-o", out, "--runtime", "onnxruntime")
    assert (done.returncode, done.stderr) == (0, "")
    assert "o\\udcff" in done.stdout
    written = json.loads((out / "instances.json").read_text())
    assert str(odd) in [image["file_name"] for image in written["images"]]
    odd.write_bytes(b"damaged")
    failed = blendmask("predict", bundle_path, images, "-o", out, "--runtime", "onnxruntime", "--json")
    assert failed.returncode == 1
    assert "\x1b" not in failed.stderr
    assert json.loads(failed.stdout)["failed"][0]["file_name"] == str(odd)


@pytest.mark.parametrize("words", [["no.jpg"], ["empty"], ["notes.txt"]])
def test_wrong_images_are_one_message(bundle_path: Path, images: Path, tmp_path: Path, words: List[str]) -> None:
    (images / "empty").mkdir()
    result = call("predict", bundle_path, *[images / word for word in words], "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert words[0] in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file_is_refused(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    result = call("predict", bundle_path, images, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "Cannot write" in result.output
    assert (tmp_path / "out").read_text() == "a file"


def test_folder_in_the_way_of_one_result_leaves_none_of_them(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "out/white.overlay.jpg").mkdir(parents=True)
    result = call("predict", bundle_path, images, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "white.overlay.jpg there is a folder" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["white.overlay.jpg"]


@pytest.mark.parametrize("step", ["mkdir", "write_bytes", "replace"])
def test_disk_that_fills_up_while_predicting_leaves_older_results_as_they_were(
    step: str, bundle_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    call("predict", bundle_path, images, "-o", out, "--runtime", "onnxruntime")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, step, full)
    words = ["predict", bundle_path, images, "-o", out, "--score", "0.9", "--runtime", "onnxruntime"]
    result = call(*words)
    assert result.exit_code == 1
    assert f"Cannot write {out}: No space left on device" in result.output
    assert "Traceback" not in result.output
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_output_that_cannot_be_written_is_said_before_any_image_is_read(
    bundle_path: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("blendmask_edge.batch.files.read_image", read)
    (tmp_path / "file").write_text("in the way")
    result = call("predict", bundle_path, images, "-o", tmp_path / "file/out", "--runtime", "onnxruntime")
    assert result.exit_code == 1
    assert "Cannot write" in result.output


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--runtime", "onnxruntme"], "Did you mean onnxruntime?"),
        (["--variant", "cpuu"], "no 'cpuu' graph. Choose one of: cpu, float"),
        (["--score", "2"], "expected a number from 0 to 1"),
        (["--threads", "0"], "expected an integer from 1 to 256"),
    ],
)
def test_wrong_option_of_predict_is_refused_before_anything_is_written(
    bundle_path: Path, images: Path, tmp_path: Path, words: List[str], expected: str
) -> None:
    result = call("predict", bundle_path, images, "-o", tmp_path / "out", *words)
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    assert expected in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["info"], ["check", "--target", "cpu"], ["predict", "a.jpg"]])
def test_bundle_of_a_later_release_is_one_message_that_says_to_upgrade(command: List[str]) -> None:
    future = Path(__file__).parents[2] / "golden/future.bmz"
    name, *rest = command
    words = [str(Path(__file__))] if name == "predict" else rest
    result = call(name, future, *words)
    assert result.exit_code == 1
    assert "schema version 1000" in result.output
    assert "Upgrade blendmask-edge" in result.output


def test_what_a_manifest_says_cannot_play_with_the_terminal(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Any, images: Path
) -> None:
    graphs = {"cpu": tiny_graph}
    names = ["red\x1b[2J", "gre\ren", "blue\x9b1m"]
    manifest = make_manifest(graphs, classes=names, license="MIT\x1b]0;owned\x07", generator="a\u202eb")
    path = write_bundle(tmp_path / "a.bmz", manifest, graphs)
    out = tmp_path / "out"
    for words in (["info", path], ["predict", path, images, "-o", out, "--runtime", "onnxruntime"]):
        result = call(*words)
        assert result.exit_code == 0
        assert not set(result.output) & set("\x1b\r\x9b\x07\u202e")


def test_what_is_no_bundle_is_one_message(images: Path) -> None:
    for words in (["info"], ["predict"]):
        result = call(*words, images / "red.png", *([images] if words == ["predict"] else []))
        assert result.exit_code == 1
        assert "error: " in result.output
        assert "red.png is not a valid bundle" in result.output
        assert "Traceback" not in result.output


def test_info_tells_what_the_bundle_is(bundle_path: Path) -> None:
    result = call("info", bundle_path)
    assert result.exit_code == 0
    for text in (
        "TINY",
        "32 x 48",
        "3: red, green, blue",
        "ptq 1",
        "int8, opset 17",
        "mask_ap 0.25 on 5 images",
        "20 of 21 instances of the float graph found, 2 spurious, mask IoU 0.950, score drift 0.010 on 5 images",
        "Next:",
    ):
        assert text in " ".join(result.output.split())


def test_info_json_is_the_manifest(bundle_path: Path) -> None:
    manifest = json.loads(call("info", bundle_path, "--json").stdout)
    assert manifest["classes"] == ["red", "green", "blue"]
    assert set(manifest["graphs"]) == {"cpu", "float"}


@pytest.mark.parametrize(
    "words", [["info"], ["predict", "a.bmz"], ["predict", "a.bmz", "b.jpg", "--threads", "x"], ["--nonsense"]]
)
def test_wrong_usage_exits_with_two(words: List[str]) -> None:
    assert call(*words).exit_code == 2


def test_version_is_printed() -> None:
    import blendmask_edge

    assert call("--version").stdout.strip() == blendmask_edge.__version__


def install_commands(folder: Path, source: str, extra: str) -> None:
    """Lay out an installed package whose entry point adds commands."""
    (folder / f"{extra}_package.py").write_text(source)
    record = folder / f"{extra}_package-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {extra}-package\nVersion: 1\n")
    (record / "entry_points.txt").write_text(f"[blendmask.commands]\n{extra} = {extra}_package:register\n")


def test_another_package_adds_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_commands(tmp_path, ADDED, "stretching")
    monkeypatch.syspath_prepend(tmp_path)
    assert call("stretch").output == "stretched\n"
    assert "stretch" in call("--help").output


def test_command_whose_package_is_missing_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_commands(tmp_path, ADDED, "lifting")
    monkeypatch.syspath_prepend(tmp_path)
    result = call("needy")
    assert result.exit_code == 1
    assert "a_package_that_is_not_there" in result.output
    assert f"Type: {install_command('lifting')}" in result.output


def test_python_too_old_for_the_workstation_says_so_and_helps_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blendmask_edge.cli.command_group.WORKSTATION_PYTHON", (99, 0))
    result = call("quantize", "a.safetensors")
    assert result.exit_code == 1
    assert "need Python 99.0 or newer" in result.output
    assert "pip install" not in result.output
    listed = call("--help")
    assert listed.exit_code == 0
    assert "predict" in listed.output
    assert "quantize" not in listed.output
    assert call("predit").exit_code == 2


def test_package_that_cannot_be_imported_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_commands(tmp_path, "import a_missing_framework", "pulling")
    monkeypatch.syspath_prepend(tmp_path)
    result = call("pull")
    assert result.exit_code == 1
    assert "Type: pip install" in result.output
    assert call("--help").exit_code == 0


def test_interrupt_exits_with_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_commands(tmp_path, ADDED, "stopping")
    monkeypatch.syspath_prepend(tmp_path)
    assert call("stopped").exit_code == 130


def blendmask(*words: object, **variables: str) -> Any:
    """Run the command line in a process of its own."""
    code = "from blendmask_edge.cli.app import main; main()"
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})


def test_a_real_process_keeps_stdout_and_stderr_apart(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    done = blendmask("predict", bundle_path, images, "-o", tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["annotations"]) == 4
    failed = blendmask("info", tmp_path / "no.bmz")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error: Cannot read")
    assert len(failed.stderr.strip().splitlines()) == 1


def test_image_whose_pixels_are_missing_is_one_message(bundle_path: Path, tmp_path: Path) -> None:
    tags = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 122), (277, 1), (278, 4), (279, 16)]
    entries = b"".join(struct.pack("<HHLL", tag, 3, 1, value) for tag, value in tags)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4 + 8))
    failed = blendmask("predict", bundle_path, tmp_path / "a.tif", "-o", tmp_path / "out")
    assert failed.returncode == 1
    assert len(failed.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_image_that_a_library_warns_of_is_read_without_a_word(bundle_path: Path, tmp_path: Path) -> None:
    tags = [(256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 134), (277, 1), (278, 4), (279, 16)]
    entries = b"".join(struct.pack("<HHLL", tag, 3, 1, value) for tag, value in tags)
    entries += struct.pack("<HHLL", 300, 16, 100, 8)  # numbers of 8 bytes, more than the file holds
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<LH", 8, len(tags) + 1) + entries + bytes(4 + 16))
    done = blendmask("predict", bundle_path, tmp_path / "a.tif", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "PIL" not in done.stderr
    assert "arning" not in done.stderr


def test_info_loads_no_framework_and_no_runtime(bundle_path: Path) -> None:
    code = (
        "import sys; from blendmask_edge.cli.app import app\n"
        f"try: app(['info', {str(bundle_path)!r}])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('torch', 'onnxruntime', 'cv2', 'blendmask_quantize') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("given, taken", [(None, str(2**28)), ("abc", str(2**28)), ("", str(2**28)), ("1000", "1000")])
def test_pixel_limit_of_opencv_is_a_number(given: Optional[str], taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV ends the process where it is something else."""
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", given or "")
    if given is None:
        monkeypatch.delenv("OPENCV_IO_MAX_IMAGE_PIXELS")
    monkeypatch.setattr(app_module, "app", lambda **_: None)
    app_module.main()
    assert os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] == taken
