"""`quantize` with recipe qat: what it refuses before long work, and one bundle from end to end."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.errors import AnnotationError, CheckpointError, ConfigError
from blendmask_quantize import CalibrationDataset, QuantizeOptions, quantize
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.pipeline import comparison, qat_stages, stages
from blendmask_quantize.pipeline.job import make_job
from blendmask_quantize.pipeline.recipe_names import RECIPES, get_recipe
from blendmask_quantize.quantization.qat.options import schedule
from blendmask_quantize.quantization.qat.trainer import QatResult, run_qat
from blendmask_quantize.runs.run_folder import RunFolder
from blendmask_quantize.training.resume import RESUME_FILE
from tests.quantize.images import PLAIN, SIZE, some_images, write_images
from tests.quantize.tiny import LABELS, tiny_model

# Painted rectangles are no photographs, and the guard knows.
ALLOWED = (
    "few-images", "near-duplicates", "small-images", "blank-images", "channel-order", "colorless-images",
    "not-photographs",
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(tiny_model(), LABELS, Path("tiny.safetensors"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    write_images(path, some_images(20))
    return path


@pytest.fixture
def options(folder: Path) -> QuantizeOptions:
    qat_options = schedule(iterations=2, learning_rate=1e-4)
    training = replace(qat_options.training, batch=2, workers=0, augmentation=PLAIN)
    return QuantizeOptions(
        count=4, allow=ALLOWED, size=SIZE, detections=10, annotations=folder / "annotations.json",
        qat=replace(qat_options, training=training),
    )  # fmt: skip


@pytest.fixture
def no_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("long work began")

    for module, name in ((stages, "observe_images"), (qat_stages, "run_qat"), (comparison, "export_onnx")):
        monkeypatch.setattr(module, name, fail)


def test_qat_is_a_recipe_that_trains() -> None:
    assert get_recipe("qat").trains
    assert not get_recipe("ptq").trains
    assert [recipe.name for recipe in RECIPES.values() if recipe.prunes] == ["edge", "edge-sparse"]


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize(
    "given, change", [("--annotations", {}), ("--iterations", {"annotations": None, "iterations": 5})]
)
def test_ptq_refuses_what_only_training_uses(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, given: str, change: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=f"{given} .* qat"):
        quantize(checkpoint, options.annotations.parent, tmp_path / "m.bmz", options=replace(options, **change))


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize("command, message", [("blendmask quantize --recipe qat", "--resume"), ("other", "`other`")])
def test_an_unfinished_run_is_found_before_calibration(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, command: str, message: str
) -> None:
    run = RunFolder.beside(tmp_path / "m.bmz", command)
    with contextlib.suppress(KeyboardInterrupt), run.active():
        (run.path / RESUME_FILE).touch()
        raise KeyboardInterrupt
    with pytest.raises(CheckpointError, match=message):
        quantize(checkpoint, options.annotations.parent, tmp_path / "m.bmz", "qat", options=options)


def test_networks_are_compared_with_the_detections_that_were_asked_for(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A criterion that took 100 detections would choose by instances that the bundle does not return."""
    counts: list[int] = []

    class Done(Exception):
        pass

    class Watched(qat_stages.MaskCriterion):
        def __call__(self, calibrated: Any) -> Any:
            predictor = self.predictor_of(calibrated.traced)
            counts.extend(len(predictor(self.held_out.read(image_id))) for image_id in self.held_out.ids)
            raise Done

    def decide(*arguments: Any, **_: Any) -> None:
        calibrated, criterion = arguments[1], arguments[3]
        criterion(calibrated)

    monkeypatch.setattr(qat_stages, "MaskCriterion", Watched)
    monkeypatch.setattr(qat_stages, "run_qat", decide)
    few = replace(options, detections=3, estimator="max", steps=())
    with pytest.raises(Done):
        quantize(checkpoint, options.annotations.parent, tmp_path / "m.bmz", "qat", options=few)
    assert max(counts) == 3


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize("changed, message", [("annotations.json", "annotations file"), ("0.png", "image folder")])
def test_a_run_on_other_images_or_annotations_is_not_resumed(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, changed: str, message: str
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(options.annotations.parent, folder)
    own = replace(options, annotations=folder / "annotations.json", resume=True)
    output = tmp_path / "m.bmz"
    job = make_job(checkpoint, CalibrationDataset(folder), output, get_recipe("qat"), own)
    settings = qat_stages.calibration_settings(job) | qat_stages.image_settings(job)
    run = RunFolder.beside(output, job.command, settings)
    with contextlib.suppress(KeyboardInterrupt), run.active():
        (run.path / RESUME_FILE).touch()
        raise KeyboardInterrupt
    with (folder / changed).open("ab") as file:
        file.write(b" ")
    with pytest.raises(CheckpointError, match=f"another {message}: resume"):
        quantize(checkpoint, folder, output, "qat", options=own)


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize("labeled", [False, True])
def test_accuracy_is_not_measured_on_what_was_trained_on(
    checkpoint: Checkpoint, options: QuantizeOptions, folder: Path, tmp_path: Path, labeled: bool
) -> None:
    same = (folder, folder / "annotations.json")
    annotations = options.annotations if labeled else None
    other = replace(options, evaluation=same, annotations=annotations)
    with pytest.raises(AnnotationError, match="20 of the evaluation images are also trained on"):
        quantize(checkpoint, folder, tmp_path / "m.bmz", "qat", options=other)


@pytest.mark.slow
def test_one_command_gives_a_bundle_that_says_how_it_was_trained(
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path
) -> None:
    report = quantize(checkpoint, options.annotations.parent, tmp_path / "m.bmz", "qat", options=options)
    recipe = Bundle.open(tmp_path / "m.bmz").manifest.recipe
    assert recipe.name == "qat"
    assert recipe.options["qat"] == report.training["qat"].record()
    assert recipe.options["qat"]["trained_on"] + recipe.options["qat"]["held_out"] == 20
    assert not (tmp_path / "m.run").exists()


class Trained(Exception):
    """Ends a run once it is decided which network is kept."""


@pytest.mark.slow
@pytest.mark.parametrize("labeled", [True, False])
def test_the_same_command_trains_the_same_network_and_decides_the_same_way(
    checkpoint: Checkpoint, options: QuantizeOptions, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    labeled: bool,
) -> None:  # fmt: skip
    results: list[QatResult] = []

    def keep(*args: Any, **options: Any) -> None:
        results.append(run_qat(*args, **options))
        raise Trained

    monkeypatch.setattr(qat_stages, "run_qat", keep)
    annotations = options.annotations if labeled else None
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with pytest.raises(Trained):
            quantize(
                checkpoint, folder, tmp_path / name / "m.bmz", "qat", options=replace(options, annotations=annotations)
            )
    first, second = results
    assert first.record() == second.record()
    assert first.calibrated.ranges == second.calibrated.ranges
    weights = second.calibrated.traced.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.calibrated.traced.state_dict().items())
