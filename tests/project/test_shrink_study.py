"""The shrink study makes what is missing, measures it once, and goes on where it was cut off."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import typer

from bench.studies import shrink
from blendmask_edge.benchmark.side_by_side import time_side_by_side
from blendmask_edge.bundle import InputSpec, Recipe, write_bundle
from blendmask_edge.cli.app import app
from blendmask_quantize.model.config import get_config
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
            output.touch()
            return
        graphs = {name: build_graph(64, 64) for name in ("cpu", "tensorrt", "float")}
        size = InputSpec(height=64, width=64, pad_value=(0, 0, 0))
        config = msgspec.to_builtins(get_config("LITE0_RT"))
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
    """Three splits of one image with one object each."""
    folder = tmp_path / "scenes"
    for split in ("train", "val", "val_seen"):
        (folder / split).mkdir(parents=True)
        cv2.imwrite(str(folder / split / "a.jpg"), np.full((32, 48, 3), (40, 60, 250), np.uint8))
        entry = {"id": 1, "image_id": 1, "category_id": 10, "bbox": [4, 4, 16, 16], "area": 256, "iscrowd": 0}
        entry["segmentation"] = [[4, 4, 20, 4, 20, 20, 4, 20]]
        names = [{"id": 10, "name": "red"}]
        images = [{"id": 1, "file_name": "a.jpg", "height": 32, "width": 48}]
        document = {"images": images, "annotations": [entry], "categories": names}
        (folder / f"{split}.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path) -> Commands:
    """The command line that is called, and the study's own."""
    found = Commands()
    monkeypatch.setattr(shrink, "blendmask", found)
    monkeypatch.setattr(shrink, "with_comparable_float", lambda bundle, _, output: shutil.copy(bundle, output))
    monkeypatch.setattr(shrink, "time_quietly", partial(time_side_by_side, rounds=1, rest=0))
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "cache"))
    words = ["--data", data, "--work", tmp_path / "work", "--output", tmp_path, "--threads", 1]
    monkeypatch.setattr(sys, "argv", ["shrink", *map(str, words)])
    return found


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


def test_each_graph_has_its_accuracy_and_each_recipe_its_latency(commands: Commands, tmp_path: Path) -> None:
    shrink.main()
    assert_exist(commands)
    found = rows(tmp_path)
    quantized = (
        "ptq", "qat/labels", "qat/no-labels", "pruned-70/ptq", "pruned-50/ptq", "pruned-50/qat", "pruned-30/qat",
        "latency-50/qat", "edge", "edge-sparse",
    )  # fmt: skip
    graphs = {"float", "pruned-70", *(f"{name}/{variant}" for name in quantized for variant in ("cpu", "tensorrt"))}
    runs = {f"{name}/{runtime}" for name in ("float", "pruned-70", *quantized) for runtime in shrink.RUNTIMES}
    assert set(found) == {f"{graph}/{split}" for graph in graphs for split in ("val", "val_seen")} | runs
    assert found["float/onnxruntime"]["speedup_vs_float"] == 1
    assert found["edge/openvino"]["latency_p50_ms"] > 0
    assert {"mask_ap", "box_ap", "retention", "macs", "size_ratio"} <= set(found["edge/tensorrt/val_seen"])
    trained = {name: found[f"{name}/onnxruntime"]["training_images"] for name in ("float", "pruned-70", *quantized)}
    assert list(trained.values()) == [0, 1, 0, 6, 6, 1, 1, 6, 6, 6, 7, 7]
    assert found["edge/cpu/val"]["training_kept"] == 0


def test_what_cannot_be_pruned_that_far_has_a_row_that_says_so(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shrink.json").write_text(json.dumps({"rows": [{"name": "rt_r50/float/val", "mask_ap": 0.5}]}))
    monkeypatch.setattr(shrink, "EXPERIMENTS", (shrink.EXPERIMENTS[0], *shrink.EXPERIMENTS[7:8]))
    commands.fails_on = "latency-50.safetensors"
    shrink.main()
    found = rows(tmp_path)
    assert found["latency-50/qat"]["error"] == "`blendmask prune --latency 0.5` failed"
    assert found["ptq/openvino"]["latency_p50_ms"] > 0
    assert found["rt_r50/float/val"]["mask_ap"] == 0.5, "rows of another network stay"


@pytest.mark.slow
def test_study_that_was_cut_off_makes_only_what_is_missing(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.fails_on = "pruned-70-ptq.bmz"
    with pytest.raises(SystemExit):
        shrink.main()
    before, commands.fails_on = len(commands.given), ""
    with monkeypatch.context() as cut:
        cut.setattr(shrink, "time_quietly", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shrink.main()
    assert commands.made[before:] == [
        "pruned-70-ptq.bmz", "pruned-50-ptq.bmz", "pruned-50-qat.bmz", "pruned-30-qat.bmz", "latency-50-qat.bmz",
        "edge.bmz", "edge-sparse.bmz",
    ]  # fmt: skip
    monkeypatch.setattr(shrink, "blendmask", interrupted)
    monkeypatch.setattr(shrink, "accuracy", interrupted)
    shrink.main()
    resumed = [words for words in commands.given if "--resume" in words]
    assert {Path(words[words.index("--output") + 1]).name for words in resumed} == {
        "qat-labels.bmz", "qat-no-labels.bmz", *(f"{name}.safetensors" for name in shrink.TARGETS), "edge.bmz",
        "edge-sparse.bmz", "pruned-50-qat.bmz", "pruned-30-qat.bmz", "latency-50-qat.bmz",
    }  # fmt: skip


def test_work_of_another_setting_is_refused(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.fails_on = "ptq.bmz"
    with pytest.raises(SystemExit):
        shrink.main()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--qat-iterations", "7"])
    with pytest.raises(SystemExit, match="qat_iterations 400, not 7: name another --work"):
        shrink.main()
