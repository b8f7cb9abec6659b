"""The shrink study makes what is missing, measures it once, and continues where it was cut off."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import typer

from bench.shrink import accuracy, making, speed
from bench.shrink.experiments import CHOICES, EXPERIMENTS, PRUNED
from bench.studies import shrink
from blendmask_edge import Bundle
from blendmask_edge.benchmark.side_by_side import time_side_by_side
from blendmask_edge.bundle import GraphEntry, InputSpec, Recipe, write_bundle
from blendmask_edge.cli.app import app
from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from tests.quantize.tiny import TINY, tiny_model
from tests.sdk.small_bundles import build_graph, describe

pytest.importorskip("openvino")

pytestmark = pytest.mark.slow

PRUNING = {"trained_on": 7, "ratio": 0.7}


class Commands:
    """Stands for the command line: writes a bundle or a checkpoint at once, and remembers what was asked for."""

    def __init__(self) -> None:
        self.given: list[list[str]] = []
        self.fails_on = ""

    def __call__(self, *words: object) -> None:
        given = [str(word) for word in words]
        self.given.append(given)
        output = Path(given[given.index("--output") + 1])
        if output.name == self.fails_on:
            sys.exit(1)
        if given[0] == "prune":
            save_checkpoint(output, tiny_model(), Labels(("red", "green", "blue"), (10, 20, 35)))
            return
        graphs = {name: build_graph(64, 64) for name in ("cpu", "tensorrt", "float")}
        size = InputSpec(height=64, width=64, pad_value=(0, 0, 0))
        config = msgspec.to_builtins(TINY)
        name = given[given.index("--recipe") + 1]
        qat_options = {"qat": {"trained_on": 6, "kept": "ptq"}} if name != "ptq" else {}
        recipe = Recipe(
            name=name, version="1", options={**qat_options, **({"pruning": PRUNING} if name.startswith("edge") else {})}
        )
        write_bundle(output, describe(graphs, config=config, input=size, recipe=recipe), graphs)

    @property
    def made(self) -> list[str]:
        return [Path(words[words.index("--output") + 1]).name for words in self.given]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three splits of two images with one object each."""
    folder = tmp_path / "scenes"
    for split in ("train", "val", "val_seen"):
        (folder / split).mkdir(parents=True)
        images, entries = [], []
        for number in (1, 2):
            cv2.imwrite(str(folder / split / f"{number}.jpg"), np.full((64, 64, 3), (40, 60, 250), np.uint8))
            images.append({"id": number, "file_name": f"{number}.jpg", "height": 64, "width": 64})
            square = {"segmentation": [[4, 4, 20, 4, 20, 20, 4, 20]], "bbox": [4, 4, 16, 16], "area": 256}
            entries.append({"id": number, "image_id": number, "category_id": 10, "iscrowd": 0, **square})
        document = {"images": images, "annotations": entries, "categories": [{"id": 10, "name": "red"}]}
        (folder / f"{split}.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path) -> Commands:
    """The command line that is called, and the study's own."""
    found = Commands()
    monkeypatch.setattr(making, "blendmask", found)
    monkeypatch.setattr(speed, "with_comparable_float", comparable)
    monkeypatch.setattr(speed, "time_quietly", partial(time_side_by_side, rounds=1, rest=0))
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "cache"))
    words = ["--data", data, "--work", tmp_path / "work", "--output", tmp_path, "--threads", 1]
    monkeypatch.setattr(sys, "argv", ["shrink", *map(str, words)])
    return found


def comparable(bundle: Path, _: Path, output: Path, *, dense: bool) -> None:
    """Stands for the float graphs to time beside a bundle: a copy, of which one variant is also called `dense`."""
    opened = Bundle.open(bundle)
    graphs = {name: opened.graph(name) for name in opened.manifest.graphs} | (
        {"dense": opened.graph("float")} if dense else {}
    )
    entries = {name: GraphEntry.describe(name, data, opset=17, precision="int8") for name, data in graphs.items()}
    write_bundle(output, msgspec.structs.replace(opened.manifest, graphs=entries), graphs)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "shrink.json").read_text())["rows"]
    return {row["name"].removeprefix("shipped/"): row for row in found}


def assert_exist(commands: Commands) -> None:
    """See that every command and option that the study calls can be typed."""
    group = typer.main.get_command(app)
    context = group.make_context("blendmask", ["info"], resilient_parsing=True)
    for name, *words in commands.given:
        command = group.get_command(context, name)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


QUANTIZED = [each.name for each in EXPERIMENTS]
FLOATS = ["float", *PRUNED]


def test_each_graph_has_its_accuracy_and_each_recipe_its_latency(commands: Commands, tmp_path: Path) -> None:
    shrink.main()
    assert_exist(commands)
    found = rows(tmp_path)
    graphs = {*FLOATS, *(f"{name}/{variant}" for name in QUANTIZED for variant in ("cpu", "tensorrt"))}
    runs = {f"{name}/{runtime}" for name in ("dense", *FLOATS, *QUANTIZED) for runtime in speed.RUNTIMES}
    choices = {f"choice/{name}" for name in CHOICES}
    assert set(found) == {f"{graph}/{split}" for graph in graphs for split in ("val", "val_seen")} | runs | choices
    assert found["dense/onnxruntime"]["speedup_vs_float"] == 1
    assert found["edge/openvino"]["latency_p50_ms"] > 0
    kept = found["edge/tensorrt/val_seen"]
    assert kept["retention_low"] <= kept["retention"] == 1 <= kept["retention_high"]
    assert {"mask_ap", "mask_ap_low", "box_ap", "macs", "size_ratio"} <= set(kept)
    trained = {name: found[f"{name}/onnxruntime"]["training_images"] for name in QUANTIZED}
    assert [trained[name] for name in ("ptq", "qat/labels", "pruned-50/ptq", "pruned-50/qat", "edge")] == [
        0,
        6,
        2,
        6,
        7,
    ]
    assert found["edge/cpu/val"]["training_kept"] == 0


def test_choices_are_trained_and_evaluated_on_different_training_images(commands: Commands, tmp_path: Path) -> None:
    sys.argv += ["--part", "choice", "--held-out", "1"]
    shrink.main()
    assert set(rows(tmp_path)) == {f"choice/{name}" for name in CHOICES}
    ids = {
        name: {image["id"] for image in json.loads((tmp_path / "work" / f"{name}.json").read_text())["images"]}
        for name in ("fit", "held-out")
    }
    assert ids == {"fit": {1}, "held-out": {2}}
    assert {words[words.index("--annotations") + 1] for words in commands.given} == {
        str(tmp_path / "work" / "fit.json")
    }


def test_what_cannot_be_pruned_that_far_has_a_row_that_says_so(commands: Commands, tmp_path: Path) -> None:
    former = [{"name": "rt_r50/float/val", "mask_ap": 0.5}, {"name": "shipped/edge/cpu/val", "mask_ap": 0.4}]
    (tmp_path / "shrink.json").write_text(json.dumps({"rows": former}))
    sys.argv += ["--part", "accuracy", "speed", "--only", "latency-50/*"]
    commands.fails_on = "latency-50.safetensors"
    shrink.main()
    found = rows(tmp_path)
    assert found["latency-50/qat"]["error"] == "`blendmask prune --latency 0.5` failed"
    assert found["ptq/openvino"]["latency_p50_ms"] > 0
    assert found["rt_r50/float/val"]["mask_ap"] == 0.5, "rows of another network stay"
    assert found["edge/cpu/val"]["mask_ap"] == 0.4, "rows of experiments that are not asked for stay"


def test_study_that_was_cut_off_makes_only_what_is_missing(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sys.argv += ["--part", "accuracy", "speed"]
    commands.fails_on = "pruned-70-ptq.bmz"
    with pytest.raises(SystemExit):
        shrink.main()
    assert "qat/no-labels/tensorrt/val" in rows(tmp_path), "what was measured before is written"
    before, commands.fails_on = len(commands.given), ""
    with monkeypatch.context() as cut:
        cut.setattr(speed, "time_quietly", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shrink.main()
    assert sorted(commands.made[before:]) == sorted(
        [
            *(f"{each.file_name}.bmz" for each in EXPERIMENTS[3:]),
            *(f"{name}.safetensors" for name in PRUNED if name != "pruned-70"),
        ]
    )
    monkeypatch.setattr(making, "blendmask", interrupted)
    monkeypatch.setattr(accuracy, "predict_annotated", interrupted)
    shrink.main()
    slow = [words for words in commands.given if words[0] == "prune" or "ptq" not in words]
    assert all("--resume" in words for words in slow)


def test_work_of_another_setting_is_refused(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.argv += ["--part", "accuracy"]
    commands.fails_on = "ptq.bmz"
    with pytest.raises(SystemExit):
        shrink.main()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--qat-iterations", "7"])
    with pytest.raises(SystemExit, match="qat_iterations 400, not 7: name another --work"):
        shrink.main()
