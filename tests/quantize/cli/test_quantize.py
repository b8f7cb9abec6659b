"""The workstation's commands: what they print, and one message with the agreed exit code for every bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.cli.app import app
from blendmask_edge.errors import ConfigError
from blendmask_quantize import QuantizeOptions
from blendmask_quantize.api import quantize as api
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from tests.quantize.conftest import Made
from tests.quantize.small_networks import DEFORMABLE, FROZEN, small_network
from tests.quantize.tiny import LABELS, tiny_model

SIZE = ("--size", "64x96")


def call(*words: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="blendmask")


def refused(result: Result, exit_code: int, *parts: str) -> None:
    """See that a command said what is wrong, in one message, and nothing else."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    said = " ".join(result.stderr.replace("\u2502", " ").split())
    assert said.lower().count("error") >= 1
    for part in parts:
        assert part in said


# quantize


@pytest.fixture
def words(checkpoint_path: Path, photographs: Path, tmp_path: Path) -> list[object]:
    given = [
        "--calibration",
        photographs,
        "--count",
        17,
        "-o",
        tmp_path / "m.bmz",
        *SIZE,
        "--detections",
        20,
        "--steps",
        "none",
    ]
    return ["quantize", checkpoint_path, *given]


@pytest.mark.usefixtures("replayed")
def test_quantize_shows_one_table_and_the_next_command(words: list[object], scenes: Path, tmp_path: Path) -> None:
    measured = ("--eval-images", scenes, "--eval-annotations", scenes / "annotations.json")
    result = call(*words, *measured, "--estimator", "max", "--arithmetic")
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in ("float", "cpu", "tensorrt", "mask AP", "p50 ms"))
    assert "compared with the float graph, on 2 held-out calibration images" in result.stdout
    assert all(word in result.stdout for word in ("matched", "missed", "drift", "mask"))
    assert "warning: 17 calibration images can be read" in result.stdout
    assert f"Next: blendmask predict {tmp_path / 'm.bmz'} IMAGE..." in result.stdout
    assert "evaluating" in result.stderr
    spread = (
        r"mask AP [\d.]+ to [\d.]+, within [\d.]+, in 7 arithmetics that GPUs may use \(reference, integer, .*3 images"
    )
    for printed in (result.stdout, call("info", tmp_path / "m.bmz").stdout):
        assert re.search(spread, printed)


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_quantize_json_is_pure(words: list[object], tmp_path: Path) -> None:
    result = call(*words, "--estimator", "max", "--json")
    document = json.loads(result.stdout)
    assert document["bundle"] == str(tmp_path / "m.bmz")
    assert set(document["variants"]) == {"float", "cpu", "tensorrt"}
    assert document["variants"]["cpu"]["latency_p50_ms"] > 0
    assert document["calibration"]["count"] == 17
    assert document["variants"]["tensorrt"]["fidelity"]["mask_iou"] > 0.8
    assert document["variants"]["float"]["fidelity"] is None
    assert document["warnings"]


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_names_that_look_like_markup_are_printed_as_they_are(words: list[object], tmp_path: Path) -> None:
    path = tmp_path / "m[red].bmz"
    result = call(*words, "--estimator", "max", "-o", path)
    assert result.exit_code == 0, result.output
    assert f"Next: blendmask predict {path} IMAGE..." in result.stdout
    assert "m[red].bmz: 17 calibration images, max ranges" in result.stdout
    assert "AP" not in result.stdout, "nothing was measured"


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_a_refusal_of_the_guard_names_its_override_which_works(words: list[object], tmp_path: Path) -> None:
    few = [*words, "--estimator", "max", "--count", 5]
    refused(call(*few), 1, "5 calibration images can be read", "--allow few-images")
    assert not (tmp_path / "m.bmz").exists()
    assert call(*few, "--allow", "few-images").exit_code == 0
    record = Bundle.open(tmp_path / "m.bmz").manifest.calibration
    assert record is not None
    assert record.overrides == ["few-images"]


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize(
    "exit_code, change, parts",
    [
        (1, ("--recipe", "ptqq"), ["did you mean ptq"]),
        (1, ("--recipe", "nothing-like-it"), ["ptq"]),
        (1, ("--estimator", "median"), ["median", "mse"]),
        (1, ("--steps", "bias_correction,adaruond"), ["no step is called 'adaruond': did you mean adaround"]),
        (1, ("--steps", "x"), ["known are cross_layer_equalization, coordinate_descent, adaround, bias_correction"]),
        (2, ("--steps", ""), ["empty text after '--steps'"]),
        (1, ("--size", "65x96"), ["use 64x96"]),
        (1, ("--size", "0x0"), ["use 32x32"]),
        (2, ("--size", "big"), ["height x width"]),
        (2, ("--size", "64x96x3"), ["height x width"]),
        (2, ("--size", "-64x96"), ["height x width"]),
        (1, ("--arithmetic",), ["--arithmetic measures accuracy", "--eval-annotations"]),
        (2, ("--detections", "0"), ["greater than or equal to 1"]),
        (2, ("--detections", "101"), ["less than or equal to 100"]),
        (2, ("--count", "0"), ["greater than or equal to 1"]),
        (2, ("--seed", str(2**63)), ["less than or equal to 9223372036854775807"]),
        (1, ("--allow", "fewer-images"), ["fewer-images: unknown check", "few-images"]),
        (1, ("--config", "LITE0"), ["LITE0_RT"]),
        (1, ("--config", "LITE0_RT"), ["is a checkpoint of TINY, not of LITE0_RT"]),
        (1, ("--annotations", "a.json"), ["--annotations is of no use to recipe ptq"]),
        (1, ("--max-drop", "0%"), ["max_drop is 0.0", "0.01 for 1 %"]),
        (1, ("--max-drop", "100%"), ["max_drop is 1.0"]),
        (2, ("--max-drop", "little"), ["give percent or a number"]),
        (1, ("--max-drop", "1%", "--count", "20"), ["14 calibration images can be held out", "give 38 images or more"]),
        (1, ("--recipe", "edeg"), ["did you mean edge"]),
        (1, ("--recipe", "edge"), ["give --annotations"]),
        (1, ("--recipe", "edge", "--runtime", "openvino"), ["--runtime names what --latency times"]),
        (1, ("--macs", "0.5"), ["--macs", "is of no use to recipe ptq", "--recipe edge"]),
        (1, ("--prune-iterations", "9", "--recipe", "qat"), ["is of no use to recipe qat"]),
        (2, ("--prune-iterations", "-1"), ["greater than or equal to 0"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_a_bad_option_is_one_message(
    words: list[object], tmp_path: Path, exit_code: int, change: tuple[str, ...], parts: list[str]
) -> None:
    refused(call(*words, *change), exit_code, *parts)
    assert not list(tmp_path.iterdir())


def test_edge_takes_its_own_and_the_default_settings(
    words: list[object], scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[QuantizeOptions] = []

    def watched(*_: object, options: QuantizeOptions, **__: object) -> None:
        seen.append(options)
        raise ConfigError("seen")

    monkeypatch.setattr(api, "quantize", watched)
    edge = [*words, "--recipe", "edge", "--annotations", scenes / "annotations.json"]
    for more in ([], ["--macs", 0.5], ["--prune-iterations", 30, "--iterations", 20, "--resume"]):
        call(*edge, *more)
    plain, half, short = seen
    assert (plain.macs, plain.prune_iterations, plain.iterations) == (None, None, None), "the defaults"
    assert half.macs == 0.5
    assert (short.prune_iterations, short.iterations, short.resume) == (30, 20, True)


def missing(folder: Path) -> Path:
    return folder / "nowhere.safetensors"


def unreadable(folder: Path) -> Path:
    path = folder / "damaged.safetensors"
    path.write_bytes(b"\x00" * 100)
    return path


def unnamed(folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save_file(tiny_model().state_dict(), path)
    return path


def a_bundle(folder: Path) -> Path:
    path = folder / "m.bmz"
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    return path


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize(
    "make, parts",
    [
        (missing, ["no checkpoint at", "give the path"]),
        (unreadable, ["cannot be read as a checkpoint"]),
        (unnamed, ["does not name its configuration", "--config"]),
        (a_bundle, ["cannot be read as a checkpoint"]),
    ],
)
def test_a_checkpoint_that_is_none_is_one_message(
    words: list[object], tmp_path: Path, make: Any, parts: list[str]
) -> None:
    words[1] = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    refused(call(*words, "-o", tmp_path / "out.bmz"), 1, *parts)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("no_long_work")
def test_a_checkpoint_of_another_network_is_told_apart_by_its_weights(words: list[object], tmp_path: Path) -> None:
    words[1] = tmp_path / "weights.safetensors"
    save_file(small_network(FROZEN).state_dict(), words[1])
    refused(call(*words, "--config", "LITE0_RT"), 1, "does not match LITE0_RT", "unexpected")


@pytest.fixture
def deformable(tmp_path: Path) -> Path:
    """A saved network with deformable convolutions."""
    save_checkpoint(tmp_path / "deformable.safetensors", tiny_model(DEFORMABLE), LABELS)
    return tmp_path / "deformable.safetensors"


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize("recipe", ["ptq", "qat"])
def test_deformable_convolutions_are_refused_for_int8_with_the_reason(
    words: list[object], deformable: Path, recipe: str
) -> None:
    result = call("quantize", deformable, *words[2:], "--recipe", recipe)
    refused(result, 1, "cannot quantize TINY_DEFORMABLE", "deformable convolutions (res4, res5)", "such as R_101_3x")


@pytest.mark.usefixtures("no_long_work")
def test_images_that_are_none_are_one_message(words: list[object], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").write_text("no image")
    for index in range(20):
        (tmp_path / f"notes/{index}.jpg").write_text("no image")
    refused(call(*words, "--calibration", tmp_path / "empty"), 1, "No calibration images found")
    refused(call(*words, "--calibration", tmp_path / "notes"), 1, "17 files could not be read")
    refused(call(*words, "--calibration", tmp_path / "nowhere"), 1, "is not a folder")
    assert not (tmp_path / "m.bmz").exists()


@pytest.mark.usefixtures("no_long_work")
def test_a_folder_without_images_is_refused_before_the_checkpoint_is_read(words: list[object], tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").write_text("no image")
    words[1] = unreadable(tmp_path)
    refused(call(*words, "--calibration", tmp_path / "notes"), 1, "files that are not images: 1 .txt")


@pytest.mark.usefixtures("no_long_work")
def test_images_to_measure_on_go_with_their_annotations(words: list[object], scenes: Path, tmp_path: Path) -> None:
    refused(call(*words, "--eval-images", scenes), 2, "give both")
    refused(call(*words, "--eval-annotations", scenes / "annotations.json"), 2, "give both")
    both = ("--eval-images", tmp_path, "--eval-annotations", scenes / "annotations.json")
    refused(call(*words, *both), 1, "3 of 3 annotated images are not in")
    nowhere = ("--eval-images", scenes, "--eval-annotations", tmp_path / "nowhere.json")
    refused(call(*words, *nowhere), 1, "cannot be read as COCO annotations")


@pytest.mark.usefixtures("no_long_work")
def test_an_output_that_cannot_be_written_is_one_message(words: list[object], tmp_path: Path) -> None:
    refused(call(*words, "-o", tmp_path), 1, "is a folder")
    refused(call(*words, "-o", tmp_path / "missing/m.bmz"), 1, "Cannot write")
    refused(call(*words, "-o", "/proc/m.bmz"), 1, "Cannot write")


def test_what_is_needed_is_asked_for() -> None:
    for command in ("quantize", "evaluate"):
        assert call(command).exit_code == 2
        assert "--help" in call(command).stderr
        assert call(command, "--help").exit_code == 0


@pytest.mark.slow
def test_the_installed_command_fails_as_the_function_does(photographs: Path, tmp_path: Path) -> None:
    """Once as a user types it: nothing between the interpreter and the message."""
    program = Path(sys.executable).with_name("blendmask")
    words = [program, "quantize", "nowhere.pth", "--calibration", photographs, "-o", tmp_path / "m.bmz"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "error: no checkpoint at nowhere.pth: give the path of a .safetensors or .pth file\n"
    assert not list(tmp_path.iterdir())


# evaluate


def data(scenes: Path) -> tuple[object, ...]:
    return ("--images", scenes, "--annotations", scenes / "annotations.json")


def test_evaluate_gives_the_accuracy_that_the_manifest_states(made: Made, scenes: Path) -> None:
    manifest = Bundle.open(made.path).manifest
    for variant, (measured,) in manifest.metrics.items():
        result = call("evaluate", made.path, *data(scenes), "--variant", variant, "--json")
        document = json.loads(result.stdout)
        assert document.pop("model") == str(made.path)
        assert document.pop("images") == 3
        assert document == pytest.approx(measured.metrics)


def test_evaluate_measures_a_checkpoint_too(checkpoint_path: Path, scenes: Path) -> None:
    result = call("evaluate", checkpoint_path, *data(scenes), "--limit", 2)
    assert result.exit_code == 0, result.output
    assert "2 images" in result.stdout
    assert "50:95" in result.stdout


def test_evaluate_measures_deformable_convolutions_in_float(deformable: Path, scenes: Path) -> None:
    result = call("evaluate", deformable, *data(scenes), "--limit", 2)
    assert result.exit_code == 0, result.output
    assert "50:95" in result.stdout


@pytest.mark.parametrize(
    "option, part", [(("--config", "TINY"), "applies to checkpoints only"), (("--variant", "x"), "x")]
)
def test_options_that_a_bundle_has_no_use_for(made: Made, scenes: Path, option: tuple[str, str], part: str) -> None:
    result = call("evaluate", made.path, *data(scenes), *option)
    refused(result, 2 if option[0] == "--config" else 1, part)


def test_options_that_a_checkpoint_has_no_use_for(checkpoint_path: Path, scenes: Path) -> None:
    refused(
        call("evaluate", checkpoint_path, *data(scenes), "--variant", "cpu"), 2, "--variant applies to bundles only"
    )


def test_evaluate_refuses_what_does_not_belong_together(made: Made, scenes: Path, tmp_path: Path) -> None:
    refused(call("evaluate", tmp_path / "nowhere.bmz", *data(scenes)), 1, "Cannot read")
    refused(call("evaluate", made.path, "--images", tmp_path, *data(scenes)[2:]), 1, "annotated images are not in")
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, tiny_model(), type(LABELS)(("a", "b", "c"), (1, 3, 4)))
    refused(call("evaluate", other, *data(scenes)), 1, "categor")
    (tmp_path / "damaged.bmz").write_bytes(made.path.read_bytes()[:500])
    refused(call("evaluate", tmp_path / "damaged.bmz", *data(scenes)), 1, "not a valid bundle")
