"""The studies of training: what is trained is kept, what is measured is kept, and a checkpoint says what it took."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from bench.studies import ablations, coco_start, learning_curve, training
from blendmask_quantize.checkpoints.checkpoint import TrainingRun, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import get_config
from blendmask_quantize.model.labels import default_labels

CONFIG = get_config("LITE0_RT")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three splits of one small image with one object each."""
    folder = tmp_path / "scenes"
    labels = default_labels(CONFIG.num_classes)
    for split in ("train", "val", "val_seen"):
        (folder / split).mkdir(parents=True)
        cv2.imwrite(str(folder / split / "a.jpg"), np.full((32, 48, 3), (40, 60, 250), np.uint8))
        entry = {"id": 1, "image_id": 1, "category_id": labels.category_ids[0], "bbox": [4, 4, 16, 16], "area": 256,
                 "iscrowd": 0, "segmentation": [[4, 4, 20, 4, 20, 20, 4, 20]]}  # fmt: skip
        images = [{"id": 1, "file_name": "a.jpg", "height": 32, "width": 48}]
        names = [{"id": i, "name": n} for i, n in zip(labels.category_ids, labels.names, strict=True)]
        document = {"images": images, "annotations": [entry], "categories": names}
        (folder / f"{split}.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the runs that were asked for; a stand-in writes random weights at once, or fails."""
    trained_names: list[str] = []

    def train(model: BlendMask, stream: Any, output: Path, options: Any, **_: Any) -> None:
        trained_names.append(output.name)
        if output.name == "k2" and "fail" in trained_names:
            raise KeyboardInterrupt
        run = TrainingRun(options.iterations, len(stream), stream.num_images, 0.25)
        output.mkdir(parents=True, exist_ok=True)
        save_checkpoint(output / "model.safetensors", model, stream.labels, training=(run,))

    def start(config: Any, *_: Any) -> BlendMask:
        torch.manual_seed(0)
        return BlendMask(config)

    monkeypatch.setattr(ablations, "train", train)
    monkeypatch.setattr(ablations, "new_network", start)
    return trained_names


def study(monkeypatch: pytest.MonkeyPatch, data: Path, work: Path, *more: str) -> dict[str, dict[str, Any]]:
    words = ["ablations.py", "--data", str(data), "--work", str(work), "--output", str(work), "--timed", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--rounds", "1", *more])
    ablations.main()
    rows = json.loads((work / "ablations.json").read_text())["rows"]
    return {row["name"]: row for row in rows}


@pytest.mark.slow
def test_every_variant_has_a_row_a_split(monkeypatch, data, trained, tmp_path):
    rows = study(monkeypatch, data, tmp_path / "work", "--iterations", "12")
    assert list(rows) == [f"{name}/{split}" for name in ablations.VARIANTS for split in ("val", "val_seen")]
    assert trained == [name for name in ablations.VARIANTS if name != "fast-nms"]
    for row in rows.values():
        assert {"mask_ap", "box_ap", "latency_p50_ms", "training_images"} <= set(row)
        assert (row["training_images"], row["iterations"], row["training_hours"]) == (1, 12, 0.25)
    assert rows["k8/val"]["macs"] > rows["base/val"]["macs"] > rows["k1/val"]["macs"]
    assert rows["no-semantic/val"]["macs"] == rows["base/val"]["macs"]


@pytest.mark.slow
def test_after_a_cut_it_goes_on_and_nothing_is_trained_twice(monkeypatch, data, trained, tmp_path):
    trained.append("fail")
    only = ("--only", "base", "k2")
    with pytest.raises(KeyboardInterrupt):
        study(monkeypatch, data, tmp_path / "work", *only)
    trained.clear()
    assert set(study(monkeypatch, data, tmp_path / "work", *only)) == {
        f"{name}/{split}" for name in ("base", "k2") for split in ("val", "val_seen")
    }
    assert trained == ["k2"]
    trained.clear()
    study(monkeypatch, data, tmp_path / "work", "--only", "fast-nms")
    assert trained == []


def test_training_alone_measures_nothing(monkeypatch, data, trained, tmp_path):
    words = ["ablations.py", "--data", str(data), "--work", str(tmp_path), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*words, "--train", "--only", "k1", "fast-nms"])
    ablations.main()
    assert trained == ["k1", "base"]
    assert not (tmp_path / "ablations.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_runs_of_another_length_are_not_mixed(monkeypatch, data, tmp_path):
    study(monkeypatch, data, tmp_path / "work", "--only", "base")
    with pytest.raises(SystemExit, match="give an empty --work"):
        study(monkeypatch, data, tmp_path / "work", "--only", "base", "--iterations", "9")


@pytest.mark.usefixtures("trained")
def test_data_that_lack_a_split_are_named(monkeypatch, data, tmp_path):
    (data / "val.json").unlink()
    with pytest.raises(SystemExit, match=r"lacks val\.json"):
        study(monkeypatch, data, tmp_path / "work")


@pytest.mark.slow
def test_the_training_study_says_what_a_checkpoint_took(monkeypatch, data, tmp_path):
    torch.manual_seed(0)
    runs = (TrainingRun(4000, 32000, 5843, 1.1), TrainingRun(1000, 8000, 1500, 0.3))
    for name, given in (("old", ()), ("new", runs)):
        save_checkpoint(tmp_path / "m.safetensors", BlendMask(CONFIG), default_labels(15), half=True, training=given)
        words = ["training.py", "--data", str(data), "--output", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", [*words, "--checkpoint", str(tmp_path / "m.safetensors")])
        training.main()
        row = json.loads((tmp_path / "training.json").read_text())["rows"][0]
        assert row["macs"] > 3e9
        assert 3e6 < row["parameters"] < 5e6
        assert ("training_hours" in row) == (name == "new")
    assert (row["iterations"], row["training_augmented_images"], row["training_images"]) == (5000, 40000, 5843)
    assert row["training_hours"] == pytest.approx(1.4)


@pytest.mark.slow
def test_the_learning_curve_has_a_row_for_each_copy_in_the_order_of_steps(monkeypatch, data, tmp_path):
    save_checkpoint(tmp_path / "m.safetensors", BlendMask(CONFIG), default_labels(15), half=True)
    for name, steps in (("a", 200), ("b", 50)):
        torch.manual_seed(steps)
        average = {f"module.{key}": value for key, value in BlendMask(CONFIG).state_dict().items()}
        state = {"iteration": steps, "average": {"n_averaged": torch.tensor(steps), **average}}
        torch.save(state, tmp_path / f"{name}.pt")
    words = ["--points", tmp_path, "--images", data / "val", "--annotations", data / "val.json"]
    words += ["--checkpoint", tmp_path / "m.safetensors", "--output", tmp_path]
    monkeypatch.setattr(sys, "argv", ["learning_curve.py", *map(str, words)])
    learning_curve.main()
    rows = json.loads((tmp_path / "learning_curve.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["step/50", "step/200"]
    assert all("mask_ap" in row for row in rows)


def test_a_folder_without_copies_is_one_message(monkeypatch, tmp_path):
    words = ["--points", tmp_path, "--images", tmp_path, "--annotations", tmp_path / "a.json"]
    monkeypatch.setattr(sys, "argv", ["learning_curve.py", *map(str, words)])
    with pytest.raises(SystemExit, match=r"holds no \.pt file"):
        learning_curve.main()


@pytest.mark.slow
def test_the_study_of_starting_times_every_part_of_a_synthetic_data_set(tmp_path: Path) -> None:
    coco_start.generate(tmp_path, 40, 300)
    rows = {row["name"]: row for row in coco_start.measure(tmp_path)}
    assert rows.keys() == {"read", "first-sample", "sample"}
    rows |= {row["name"]: row for row in coco_start.measure_reference(tmp_path)}
    assert all(row["seconds"] > 0 and row["other_work"] in (0, 1) for row in rows.values())
    assert 0 < rows["read"]["idle_megabytes"] <= rows["read"]["megabytes"]
