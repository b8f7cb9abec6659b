"""Arguments of the public functions: refused before torch is loaded, in the product's own errors, each by its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from blendmask_edge.errors import BlendMaskError
from blendmask_quantize import (
    QuantizeOptions,
    distill,
    evaluate,
    export_onnx,
    list_configs,
    load_checkpoint,
    prune,
    quantize,
    register_backbone,
    register_config,
    sensitivity,
    train,
    visualize,
)
from blendmask_quantize.model.config import ModelConfig, get_config
from blendmask_quantize.quantization.refine.names import STEP_NAMES
from blendmask_quantize.quantization.refine.steps import RANGES, STEPS
from tests.quantize.tiny import TINY

NAN = float("nan")
FUNCTIONS = {
    "quantize": quantize, "prune": prune, "evaluate": evaluate, "export_onnx": export_onnx, "train": train,
    "load_checkpoint": load_checkpoint, "visualize": visualize, "distill": distill,
    "sensitivity": sensitivity,
}  # fmt: skip
NEEDS_TORCH = ("load_checkpoint",)
"""Functions that may load torch before they look at all of their arguments."""

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("quantize", {"checkpoint": "nowhere.pth"}, "no checkpoint at nowhere.pth"),
    ("quantize", {"checkpoint": b"a.pth"}, "checkpoint is b'a.pth'"),
    ("quantize", {"checkpoint": None}, "checkpoint is None"),
    ("quantize", {"max_drop": 10**400}, "max_drop is 1000"),
    ("sensitivity", {"variants": 5}, "variants is 5"),
    ("sensitivity", {"ignored": 1.5}, "ignored is 1.5"),
    ("sensitivity", {"allow": "few-images"}, "allow is 'few-images'"),
    ("quantize", {"macs": 10**400}, "macs is 1000"),
    ("quantize", {"candidates": 5000}, "candidates is 5000, expected a whole number from 1 to 3840"),
    ("export_onnx", {"candidates": 0}, "candidates is 0, expected a whole number from 1 to 3840"),
    ("quantize", {"output": ""}, "output is ''"),
    ("quantize", {"calibration": ""}, "source is ''"),
    ("train", {"output": ""}, "output is ''"),
    ("quantize", {"calibration": "nowhere"}, "nowhere is not a folder"),
    ("quantize", {"calibration": 3}, "of type int"),
    ("quantize", {"calibration": b"images"}, "of type bytes"),
    ("quantize", {"output": "."}, "is a folder"),
    ("quantize", {"output": b"m.bmz"}, "output is b'm.bmz'"),
    ("quantize", {"output": "nowhere/m.bmz"}, "Cannot write"),
    ("quantize", {"output": "a\0.bmz"}, "output is 'a"),
    ("quantize", {"recipe": "ptqq"}, "did you mean ptq"),
    ("quantize", {"recipe": None}, "recipe is None"),
    ("quantize", {"config": "R_51_3x"}, "did you mean R_50_3x"),
    ("quantize", {"config": "nowhere.yaml"}, "nowhere.yaml"),
    ("quantize", {"config": 50}, "config is 50"),
    ("quantize", {"classes": 3}, "classes is 3"),
    ("quantize", {"classes": "nowhere.txt"}, "nowhere.txt cannot be read as names"),
    ("quantize", {"options": {"size": (64, 96)}}, "options is {'size'"),
    ("quantize", {"progress": 3}, "progress is 3"),
    ("quantize", {"ignore": ("stem",)}, "did you mean ignored"),
    ("quantize", {"ignored": "stem"}, "ignored is 'stem', expected a tuple of names"),
    ("quantize", {"ignored": (3,)}, "ignored is"),
    ("quantize", {"size": (64.5, 96)}, "size is (64.5, 96), expected height and width"),
    ("quantize", {"size": 64}, "size is 64"),
    ("quantize", {"size": (64, 96, 3)}, "size is"),
    ("quantize", {"size": (65, 96)}, "not a multiple of 32"),
    ("quantize", {"size": (10**9, 96)}, "use 16384x96"),
    ("quantize", {"detections": 101}, "detections is 101, expected a whole number from 1 to 100"),
    ("quantize", {"detections": "20"}, "detections is '20'"),
    ("quantize", {"count": 0}, "count is 0"),
    ("quantize", {"count": 20_000}, "count is 20000, expected a whole number from 1 to 4096"),
    ("quantize", {"count": True}, "count is True"),
    ("quantize", {"seed": -1}, "seed is -1"),
    ("quantize", {"seed": 2**70}, "seed is"),
    ("quantize", {"estimator": 3}, "estimator is 3"),
    ("quantize", {"recipe": "int4"}, "int4 is not supported"),
    ("quantize", {"recipe": "nowhere.yaml"}, "nowhere.yaml cannot be read"),
    ("quantize", {"estimator": "median"}, "Unknown estimator 'median'"),
    ("quantize", {"steps": "bias_correction"}, "steps is 'bias_correction'"),
    ("quantize", {"steps": ("adaruond",)}, "did you mean adaround"),
    ("quantize", {"allow": "few-images"}, "allow is 'few-images'"),
    ("quantize", {"allow": ("fewer-images",)}, "unknown check"),
    ("quantize", {"evaluation": "images"}, "evaluation is 'images'"),
    ("quantize", {"evaluation": ("nowhere", "nowhere.json")}, "nowhere is not a folder"),
    ("quantize", {"license": ""}, "license is ''"),
    ("quantize", {"license": "a\nb"}, "license is"),
    ("quantize", {"keep_float": 1}, "keep_float is 1"),
    ("quantize", {"resume": "yes", "recipe": "qat"}, "resume is 'yes'"),
    ("quantize", {"iterations": 5}, "--iterations is of no use"),
    ("quantize", {"iterations": 0, "recipe": "qat"}, "iterations is 0"),
    ("quantize", {"learning_rate": NAN, "recipe": "qat"}, "learning_rate is nan"),
    ("quantize", {"annotations": 3, "recipe": "qat"}, "annotations is 3"),
    ("quantize", {"annotations": "nowhere.json", "recipe": "qat"}, "no such file"),
    ("quantize", {"max_drop": 0.0}, "max_drop is 0.0"),
    ("quantize", {"max_drop": 1}, "max_drop is 1"),
    ("quantize", {"max_drop": 0.0001}, "within the noise of a measurement"),
    ("quantize", {"max_drop": "1%"}, "max_drop is '1%'"),
    ("quantize", {"max_drop": 0.01, "max_float_macs": 1.5}, "max_float_macs is 1.5"),
    ("quantize", {"max_float_macs": 0.2}, "give --max-drop too"),
    ("quantize", {"max_drop": 0.01, "annotations": "nowhere.json"}, "no such file"),
    ("quantize", {"teacher": "nowhere.pth", "recipe": "qat"}, "no checkpoint at nowhere.pth"),
    ("quantize", {"teacher": "nowhere.pth"}, "--teacher is of no use"),
    ("quantize", {"macs": 1.5, "recipe": "edge"}, "macs is 1.5"),
    ("quantize", {"macs": NAN, "recipe": "edge"}, "macs is nan"),
    ("quantize", {"prune_iterations": -1, "recipe": "edge"}, "prune_iterations is -1"),
    ("prune", {"checkpoint": "nowhere.pth"}, "no checkpoint"),
    ("prune", {"images": "nowhere"}, "nowhere is not a folder"),
    ("prune", {"images": 3}, "images is 3"),
    ("prune", {"images": [b"a"]}, "images[0] is b'a'"),
    ("prune", {"images": []}, "0 folders of images and 1 annotation files"),
    ("prune", {"annotations": "nowhere.json"}, "no such file"),
    ("prune", {"output": "p.pth"}, "p.pth is not a .safetensors file"),
    ("prune", {"output": "nowhere/p.safetensors"}, "Cannot write"),
    ("prune", {"macs": 0}, "macs is 0"),
    ("prune", {"macs": "0.5"}, "macs is '0.5'"),
    ("prune", {"macs": 0.5, "latency": 0.5}, "macs and latency are both given"),
    ("prune", {"latency": 2}, "latency is 2"),
    ("prune", {"latency": 0.5, "runtime": "tensorrt"}, "prune to a share of macs and measure"),
    ("prune", {"importance": "taylr"}, "did you mean taylor"),
    ("prune", {"protect": "backbone"}, "protect is 'backbone'"),
    ("prune", {"protect": ("re:(",)}, "is not a regular expression"),
    ("prune", {"protected": ("backbone",)}, "did you mean protect"),
    ("prune", {"options": 3}, "options is 3"),
    ("quantize", {"parameters": 0.5}, "is of no use to recipe ptq"),
    ("quantize", {"runtime": 3, "recipe": "edge"}, "runtime is 3"),
    ("prune", {"resume": None}, "resume is None"),
    ("prune", {"config": "R_51_3x"}, "did you mean R_50_3x"),
    ("prune", {"progress": "bar"}, "progress is 'bar'"),
    ("evaluate", {"model": "nowhere.pth"}, "no checkpoint"),
    ("evaluate", {"model": "nowhere.bmz"}, "Cannot read nowhere.bmz"),
    ("evaluate", {"model": 3}, "model is 3"),
    ("evaluate", {"images": "nowhere"}, "nowhere is not a folder"),
    ("evaluate", {"images": None}, "images is None"),
    ("evaluate", {"annotations": "nowhere.json"}, "no such file"),
    ("evaluate", {"annotations": b"a.json"}, "annotations is b'a.json'"),
    ("evaluate", {"variant": "cpu"}, "--variant applies to bundles only"),
    ("evaluate", {"runtime": "openvino"}, "--runtime applies to bundles only"),
    ("evaluate", {"model": "m.bmz", "variant": 3}, "variant is 3"),
    ("evaluate", {"model": "m.bmz", "runtime": "abacus"}, "Unknown runtime 'abacus'"),
    ("evaluate", {"model": "m.bmz", "runtime": None}, "runtime is None"),
    ("evaluate", {"model": "m.bmz", "config": "R_50_3x"}, "--config applies to checkpoints only"),
    ("evaluate", {"model": "m.bmz", "classes": "a,b,c"}, "--classes applies to checkpoints only"),
    ("evaluate", {"limit": 0}, "limit is 0"),
    ("evaluate", {"limit": 1.5}, "limit is 1.5"),
    ("evaluate", {"config": "R_51_3x"}, "did you mean R_50_3x"),
    ("export_onnx", {"checkpoint": "nowhere.pth"}, "no checkpoint"),
    ("export_onnx", {"output": "."}, "is a folder"),
    ("export_onnx", {"output": 3}, "output is 3"),
    ("export_onnx", {"size": (65, 96)}, "use 64x96"),
    ("export_onnx", {"size": "64x96"}, "size is '64x96'"),
    ("export_onnx", {"detections": 0}, "detections is 0"),
    ("export_onnx", {"config": "R_51_3x"}, "did you mean R_50_3x"),
    ("train", {"images": None}, "images is None"),
    ("train", {"annotations": "nowhere.json"}, "no such file"),
    ("train", {"weights": b"a.pth"}, "weights is b'a.pth'"),
    ("train", {"weights": "nowhere.pth"}, "no checkpoint"),
    ("train", {"config": 50}, "config is 50"),
    ("train", {"config": "R_51_3x"}, "did you mean R_50_3x"),
    ("train", {"output": b"run"}, "output is b'run'"),
    ("train", {"options": {"batch": 2}}, "options is"),
    ("train", {"keep_empty": 1}, "keep_empty is 1"),
    ("train", {"resume": None}, "resume is None"),
    ("train", {"progress": 3}, "progress is 3"),
    ("visualize", {"checkpoint": "nowhere.pth"}, "no checkpoint"),
    ("visualize", {"image": "nowhere.jpg"}, "nowhere.jpg"),
    ("visualize", {"image": 3}, "int"),
    ("visualize", {"output": "f.jpg"}, "ends in .png"),
    ("visualize", {"output": b"f.png"}, "output is b'f.png'"),
    ("visualize", {"instances": -1}, "instances is -1"),
    ("visualize", {"instances": "6"}, "instances is '6'"),
    ("visualize", {"score": NAN}, "score is nan"),
    ("visualize", {"config": "R_51_3x"}, "did you mean R_50_3x"),
    ("distill", {"teacher": b"a.pth"}, "teacher is b'a.pth'"),
    ("distill", {"images": 3}, "images is 3"),
    ("distill", {"config": None}, "config is None"),
    ("distill", {"output": None}, "output is None"),
    ("distill", {"resume": 1}, "resume is 1"),
    ("distill", {"iteration": 5}, "did you mean iterations"),
    ("load_checkpoint", {"path": b"a.pth"}, "path is b'a.pth'"),
    ("load_checkpoint", {"path": None}, "path is None"),
    ("load_checkpoint", {"path": "nowhere.pth"}, "no checkpoint"),
    ("load_checkpoint", {"config": 3}, "config is 3"),
    ("load_checkpoint", {"classes": 3}, "classes is 3"),
]
BUNDLE = str(Path(__file__).parents[2] / "golden" / "schema3.bmz")
WRONG += [
    (name, {argument: BUNDLE}, "schema3.bmz is a bundle, expected a checkpoint: give the .safetensors or .pth file")
    for name, argument in (
        ("quantize", "checkpoint"), ("prune", "checkpoint"), ("export_onnx", "checkpoint"), ("visualize", "checkpoint"),
        ("sensitivity", "checkpoint"), ("distill", "teacher"), ("train", "weights"), ("train", "teacher"),
        ("load_checkpoint", "path"),
    )
]  # fmt: skip
LONG = 300 * "x"
"""More than a file system takes as a name."""
WRONG += [
    (name, {argument: f"{LONG}{suffix}", **others}, LONG[:60])
    for name, argument, suffix, others in (
        ("quantize", "checkpoint", ".pth", {}), ("quantize", "calibration", "", {}), ("quantize", "output", ".bmz", {}),
        ("quantize", "classes", ".txt", {}), ("quantize", "config", ".yaml", {}),
        ("quantize", "annotations", ".json", {"recipe": "qat"}), ("prune", "checkpoint", ".pth", {}),
        ("prune", "images", "", {}), ("prune", "annotations", "", {}), ("prune", "output", ".safetensors", {}),
        ("evaluate", "model", ".pth", {}), ("evaluate", "model", ".bmz", {}), ("evaluate", "images", "", {}),
        ("evaluate", "annotations", "", {}), ("export_onnx", "output", "", {}), ("train", "images", "", {}),
        ("train", "annotations", "", {}), ("train", "weights", "", {}), ("train", "output", "", {}),
        ("visualize", "image", "", {}), ("visualize", "output", ".png", {}), ("distill", "teacher", "", {}),
        ("distill", "images", "", {}), ("distill", "output", "", {}), ("load_checkpoint", "path", "", {}),
        ("load_checkpoint", "config", "", {}),
    )
]  # fmt: skip


@pytest.fixture
def given(checkpoint_path: Path, photographs: Path, scenes: Path, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Arguments of each function that are right, as text."""
    data = {"images": str(scenes), "annotations": str(scenes / "annotations.json")}
    checkpoint = str(checkpoint_path)
    return {
        "quantize": {"checkpoint": checkpoint, "calibration": str(photographs), "output": str(tmp_path / "m.bmz")},
        "prune": {"checkpoint": checkpoint, **data, "output": str(tmp_path / "p.safetensors")},
        "evaluate": {"model": checkpoint, **data},
        "sensitivity": {"checkpoint": checkpoint, "calibration": str(photographs)},
        "export_onnx": {"checkpoint": checkpoint, "output": str(tmp_path / "m.onnx")},
        "train": {**data, "output": str(tmp_path / "run")},
        "load_checkpoint": {"path": checkpoint},
        "visualize": {"checkpoint": checkpoint, "image": str(scenes / "0.png")},
        "distill": {
            "teacher": checkpoint,
            "images": str(scenes),
            "output": str(tmp_path / "run"),
            "config": "LITE0_RT",
        },
    }


@pytest.mark.parametrize("name, change, message", WRONG, ids=[f"{name}-{change!s:.60}" for name, change, _ in WRONG])
def test_a_wrong_argument_is_one_message_that_names_it(
    given: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
    change: dict[str, Any], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BlendMaskError) as refused:
        FUNCTIONS[name](**{**given[name], **change})
    assert message in str(refused.value)
    assert len(str(refused.value)) < 600
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, of",
    [("quantize", "checkpoint"), ("prune", "checkpoint"), ("export_onnx", "checkpoint"), ("visualize", "image")],
)
def test_no_input_is_replaced_by_the_output(given: dict[str, dict[str, Any]], name: str, of: str) -> None:
    path = Path(given[name][of])
    before, other = path.read_bytes(), path.parent / ".." / path.parent.name / path.name
    with pytest.raises(BlendMaskError, match="is also an input"):
        FUNCTIONS[name](**{**given[name], "output": other})
    assert path.read_bytes() == before


def test_they_are_refused_without_torch(given: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """All in one process, which has not loaded torch at the end."""
    calls = [(name, {**given[name], **change}) for name, change, _ in WRONG if name not in NEEDS_TORCH]
    program = (
        "import sys, blendmask_quantize\n"
        "from blendmask_edge.errors import BlendMaskError\n"
        "for name, arguments in eval(sys.stdin.read(), {'nan': float('nan')}):\n"
        "    try: getattr(blendmask_quantize, name)(**arguments)\n"
        "    except BlendMaskError: pass\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name}({arguments}) loaded torch')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], input=repr(calls), capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_loaded_checkpoint_has_its_configuration(checkpoint_path: Path, photographs: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(checkpoint_path)
    for name, value in (("configuration", TINY), ("classes", "a,b,c")):
        changes = {"config": value} if name == "configuration" else {"classes": value}
        with pytest.raises(BlendMaskError, match=f"give the {name} to load_checkpoint"):
            quantize(checkpoint, photographs, tmp_path / "m.bmz", size=(64, 96), **changes)
    with pytest.raises(BlendMaskError, match="use 64x96"):
        export_onnx(checkpoint, tmp_path / "m.onnx", size=(65, 96))


def test_every_option_of_quantize_is_checked() -> None:
    from blendmask_quantize.api.quantize_options import _KINDS

    objects = {"qat", "pruning"}
    assert set(_KINDS) == set(QuantizeOptions.__dataclass_fields__) - objects


def test_the_steps_that_can_be_named_are_those_there_are() -> None:
    assert set(STEP_NAMES) == set(STEPS) - {RANGES}


@pytest.mark.parametrize(
    "content", [b"", b"\x01", b"\xff" * 8, json.dumps({"__metadata__": 3}).encode(), b"\x02\0\0\0\0\0\0\0{}"]
)
def test_a_damaged_checkpoint_is_told_by_who_reads_it(tmp_path: Path, content: bytes) -> None:
    """Its configuration is looked for before torch is loaded; that must neither fail nor say something else."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(BlendMaskError, match=r"a\.safetensors"):
        export_onnx(path, tmp_path / "m.onnx", size=(64, 96))


def test_a_checkpoint_that_states_no_configuration_is_checked_once_it_is_read(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(BlendMaskError, match=r"a\.pth"):
        export_onnx(tmp_path / "a.pth", tmp_path / "m.onnx", size=(65, 96))


def test_a_registered_configuration_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: get_config(name) for name in list_configs()}
    monkeypatch.setattr("blendmask_quantize.model.config.CONFIGS", known)
    config = register_config(ModelConfig("OWN", num_classes=3))
    assert "OWN" in list_configs()
    assert get_config("OWN") is config
    with pytest.raises(BlendMaskError, match="already"):
        register_config(ModelConfig("OWN", num_classes=4))


@pytest.mark.parametrize("config", [None, "R_50_3x", {"name": "OWN"}, ModelConfig("", num_classes=3)])
def test_only_configurations_can_be_registered(config: Any) -> None:
    with pytest.raises(BlendMaskError):
        register_config(config)


@pytest.mark.parametrize("name, builder", [("", print), (None, print), (3, print), ("own", None), ("own", "print")])
def test_only_builders_can_be_registered(name: Any, builder: Any) -> None:
    with pytest.raises(BlendMaskError, match="the backbone"):
        register_backbone(name, builder)
