"""`blendmask targets`, `check` and `compile`: what they print, and how they exit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Callable

import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from blendmask_edge.compilation import toolchain as toolchain_module
from blendmask_edge.devices import load_table
from blendmask_edge.hardware.cuda import Gpu
from tests.sdk.devices.fake_tensorrt import make_tensorrt

MakeBundle = Callable[..., Any]


def call(*words: object) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="blendmask")


def test_targets_lists_every_device_and_the_next_command() -> None:
    result = call("targets")
    assert result.exit_code == 0
    for target in load_table().targets:
        assert target.name in result.output
    assert result.output.rstrip().endswith("Next: blendmask check M.bmz --target T")


def test_one_target_is_shown_with_sources_and_marks() -> None:
    result = call("targets", "1080ti")
    assert result.exit_code == 0
    assert "tensorrt last   8.6.1 [documented: NVIDIA/TensorRT#3826" in result.output
    assert "--target gtx-1080-ti" in result.output


def test_targets_json_is_the_table() -> None:
    document = json.loads(call("targets", "--json").stdout)
    assert {"stated", "architecture", "targets", "jetpacks", "parsers", "operators", "limits"} <= set(document)
    one = json.loads(call("targets", "jetson-thor", "--json").stdout)
    assert one["architecture"]["sm"] == "11.0"
    assert [row["name"] for row in one["jetpacks"]] == ["7.0", "7.2.2"]


def test_check_says_yes_with_zero(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    result = call("check", bundle.path, "--target", "orin-nx")
    assert result.exit_code == 0
    assert result.output.startswith("Yes: INT8 by TensorRT 10.3 on Jetson Orin NX.")
    assert f"Next, on the device: blendmask compile {bundle.path} --target jetson-orin-nx" in result.output


def test_check_says_no_with_one_and_the_way_that_works(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    result = call("check", bundle.path, "--target", "gtx-1080-ti", "--precision", "fp16")
    assert result.exit_code == 1
    assert result.output.startswith("No: FP16 by TensorRT 8.6.1 on GTX 1080 Ti.")
    assert "Works instead: INT8 by TensorRT 8.6.1" in result.output
    following = result.output.rstrip().splitlines()[-1].replace("Next: blendmask ", "").split()
    assert following[0] == "check"
    assert call(*following).exit_code == 0


def test_check_of_a_cpu_leads_to_predict(make_bundle: MakeBundle) -> None:
    result = call("check", make_bundle().path, "--target", "x86-vnni")
    assert result.output.splitlines()[-1].endswith(" IMAGE... --runtime onnxruntime")


def test_next_command_runs_the_graph_that_was_checked(make_bundle: MakeBundle) -> None:
    """By itself the CUDA provider would take the float graph, and the CPU the quantized one."""
    for words, variant in (
        (["ada", "--runtime", "onnxruntime-cuda"], "tensorrt"),
        (["x86-vnni", "--precision", "fp32"], "float"),
    ):
        result = call("check", make_bundle().path, "--target", *words)
        assert result.exit_code == 0, result.output
        assert result.output.splitlines()[-1].endswith(f" --variant {variant}")


def test_check_json_is_pure_and_keeps_the_exit_code(make_bundle: MakeBundle) -> None:
    words = ["check", make_bundle().path, "--target", "gtx-1080-ti", "--tensorrt", "10.3", "--json"]
    result = call(*words)
    document = json.loads(result.stdout)
    assert (result.exit_code, document["ok"]) == (1, False)
    assert document["route"]["tensorrt"] == "8.6.1"
    assert {reason["mark"] for reason in document["reasons"]} <= {"verified", "documented", "unverified"}


def test_runtime_may_be_written_either_way(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    for name in ("torch-tensorrt", "torch_tensorrt"):
        result = call("check", bundle.path, "--target", "jetson-orin-nx", "--runtime", name)
        assert "Torch-TensorRT 2.8.0 with TensorRT 10.3" in result.output
        assert result.output.rstrip().endswith("--precision int8 --runtime torch_tensorrt")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--target", "jetson-orin-nanno"], "jetson-orin-nano"),
        (["--target", "ada", "--precision", "int3"], "known: int8, fp16, fp32"),
        (["--target", "ada", "--tensorrt", "11"], "too vague"),
        (["--target", "ada", "--runtime", "tflite"], "Unknown runtime 'tflite'"),
    ],
)
@pytest.mark.parametrize("command", ["check"])
def test_wrong_values_are_one_message(make_bundle: MakeBundle, command: str, words: Any, message: str) -> None:
    result = call(command, make_bundle().path, *words)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("words", [["check", "m.bmz"], ["compile", "m.bmz"], ["compile", "m.bmz", "--workspace", "0"]])
def test_wrong_usage_exits_with_two(words: Any) -> None:
    assert call(*words).exit_code == 2


def test_compile_without_a_gpu_is_one_message_with_the_next_step(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: None)
    result = call("compile", make_bundle().path, "--target", "jetson-orin-nano")
    assert result.exit_code == 1
    assert "the CUDA driver shows no GPU" in result.output
    assert "flash JetPack 6.1 or 6.2" in result.output
    assert "blendmask compile m.bmz --target jetson-orin-nano" in result.output


def test_compile_says_where_the_engine_lies(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: Gpu("Orin", "8.7", "12.6/540"))
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt("10.3.0"))
    words = ["compile", make_bundle().path, "--target", "jetson-orin-nano"]
    first = json.loads(call(*words, "--json").stdout)
    assert first["path"].endswith(".engine")
    assert not first["reused"]
    again = call(*words)
    assert again.exit_code == 0
    assert f"Found the engine in {first['path']}" in again.output
    assert "--runtime tensorrt" in again.output


def test_compile_by_torch_tensorrt_without_a_gpu_is_one_message(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "blendmask_quantize.export.torch_tensorrt.program", None)
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: None)
    result = call("compile", make_bundle().path, "--target", "jetson-orin-nano", "--runtime", "torch-tensorrt")
    assert result.exit_code == 1
    assert "To get Torch-TensorRT there" in result.output
    assert "--runtime torch_tensorrt" in result.output


def test_check_loads_no_runtime_and_no_framework(make_bundle: MakeBundle) -> None:
    code = (
        "import sys; from blendmask_edge.cli.app import app\n"
        f"try: app(['check', {str(make_bundle().path)!r}, '--target', 'ada', '--json'])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('torch', 'onnx', 'onnxruntime', 'tensorrt', 'cv2') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
