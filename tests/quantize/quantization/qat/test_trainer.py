"""Training with quantization as a run: it learns, resumes exactly, refuses what is not its own, keeps the better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from torch import Tensor

from blendmask_edge.errors import CheckpointError
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.bootstrap import Matches
from blendmask_edge.imaging import read_image
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.qat.data import QatData
from blendmask_quantize.quantization.qat.decision import Decision
from blendmask_quantize.quantization.qat.options import QatOptions
from blendmask_quantize.quantization.qat.teacher import QatTeacher
from blendmask_quantize.quantization.qat.trainer import QatResult, run_qat
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.distill_weights import DistillWeights
from blendmask_quantize.training.distillation import Teacher
from blendmask_quantize.training.images import PlainImages
from blendmask_quantize.training.log import LOG_FILE
from blendmask_quantize.training.loop import DivergedError
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.resume import RESUME_FILE
from blendmask_quantize.training.stream import Images
from tests.quantize.images import PLAIN, some_images, write_images
from tests.quantize.quantization.qat.matches import detecting
from tests.quantize.tiny import LABELS, TINY, tiny_model

SCHEDULE = TrainOptions(
    iterations=4, batch=2, learning_rate=1e-4, backbone_rate=1.0, weight_decay=0, warmup=1, ema=0.5,
    precision="32-true", workers=0, save_every=2, augmentation=PLAIN,
)  # fmt: skip
OPTIONS = QatOptions(training=SCHEDULE)


class Interrupted(Exception):
    """What stops a run in the middle."""


def even(_: Calibrated) -> dict[str, Matches]:
    return {"cpu": detecting(1), "tensorrt": detecting(1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    write_images(path, some_images(4))
    return path


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(tiny_model(), LABELS, Path("tiny.safetensors"))


@pytest.fixture(scope="module")
def inputs(folder: Path, checkpoint: Checkpoint) -> Tensor:
    pixels = np.stack([read_image(folder / f"{i}.png") for i in range(4)])
    return checkpoint.model.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def start(checkpoint: Checkpoint, inputs: Tensor) -> Calibrated:
    """Ranges that are far too narrow, so that there is something to learn."""
    traced = trace_network(checkpoint.model)
    ranges = observe_ranges(traced, inputs.split(1), "max")
    return Calibrated(traced, {name: replace(r, low=r.low / 2, high=r.high / 2) for name, r in ranges.items()})


def better_after(start: Calibrated) -> Callable[[Calibrated], dict[str, Matches]]:
    """A criterion that finds every trained network better than the start."""
    return lambda candidate: {variant: detecting(1 if candidate is start else 2) for variant in VARIANTS}


def qat_data(folder: Path, *, labeled: bool = False) -> QatData:
    paths = [folder / f"{i}.png" for i in range(4)]
    training: Images = PlainImages(paths, LABELS, TINY, PLAIN)
    if labeled:
        training = CocoImages.open(folder, folder / "annotations.json", TINY, PLAIN)
    return QatData(training, labeled, AnnotatedImages(COCO(), folder, (1, 2)), tuple(p.name for p in paths))


@pytest.fixture(scope="module")
def finished(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, QatResult]:
    """The folder of a whole run, and what it gave."""
    path = tmp_path_factory.mktemp("finished")
    return path, run_qat(checkpoint, start, qat_data(folder), better_after(start), OPTIONS, path)


def distance(checkpoint: Checkpoint, start: Calibrated, qat_result: QatResult, x: Tensor) -> float:
    """How far the rendered networks are from the float one."""
    teacher = Teacher(checkpoint.model, start.traced)
    with torch.no_grad():
        outputs = teacher(x)
        students = [qat_result.calibrated.render(variant)(x) for variant in VARIANTS]
        return sum(float(sum(teacher.losses(s, outputs, DistillWeights()).values())) for s in students)


def never(step: int, _: Mapping[str, float]) -> None:
    raise AssertionError(f"trained step {step} again")


def weights(qat_result: QatResult) -> dict[str, Tensor]:
    return qat_result.calibrated.traced.state_dict()


@pytest.mark.parametrize("labeled", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_few_steps_bring_it_nearer_to_the_float_network(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, inputs: Tensor, tmp_path: Path, labeled: bool
) -> None:
    options = replace(OPTIONS, training=replace(SCHEDULE, iterations=16, learning_rate=1e-3))
    qat_result = run_qat(checkpoint, start, qat_data(folder, labeled=labeled), better_after(start), options, tmp_path)
    untouched = QatResult(start, Decision({}, 0, 0, 0), "labels", 0, 0)
    before, after = (distance(checkpoint, start, result, inputs) for result in (untouched, qat_result))
    assert after < 0.9 * before
    header = (tmp_path / LOG_FILE).read_text().splitlines()[0]
    assert "distill_masks" in header
    assert ("loss_mask" in header) == labeled


WIDE = replace(TINY, pyramid_width=24)


@pytest.mark.slow
def test_a_wider_network_can_be_the_teacher(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, tmp_path: Path
) -> None:
    wide = Checkpoint(tiny_model(WIDE, seed=3), LABELS, Path("wide.safetensors"))
    options = replace(OPTIONS, training=replace(SCHEDULE, iterations=1))
    run_qat(checkpoint, start, qat_data(folder), even, options, tmp_path, teacher=wide)
    header = (tmp_path / LOG_FILE).read_text().splitlines()[0]
    assert "distill_masks" in header
    assert "distill_towers" not in header, "their channels differ"
    with pytest.raises(CheckpointError, match="another run"):
        run_qat(checkpoint, start, qat_data(folder), even, options, tmp_path, resume=True)


@pytest.mark.slow
def test_it_learns_from_a_wider_network_that_is_given_as_teacher(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, inputs: Tensor, tmp_path: Path
) -> None:
    wide = Checkpoint(tiny_model(WIDE, seed=3), LABELS, Path("wide.safetensors"))
    options = replace(OPTIONS, training=replace(SCHEDULE, iterations=8, batch=2, learning_rate=2e-3))
    trained = run_qat(checkpoint, start, qat_data(folder), better_after(start), options, tmp_path, teacher=wide)
    taught = QatTeacher(checkpoint.model, trace_network(checkpoint.model), wide)
    pixels = torch.from_numpy(np.stack([read_image(folder / f"{i}.png") for i in range(4)])).permute(0, 3, 1, 2)

    def distance_to_teacher(calibrated: Calibrated) -> float:
        with torch.no_grad():
            found = taught.losses(calibrated.render("cpu")(inputs), pixels, DistillWeights())
        assert {"distill_masks", "distill_bases", "distill_classes"} <= set(found)
        assert "distill_towers" not in found, "their channels differ"
        return float(sum(found.values()))

    assert distance_to_teacher(trained.calibrated) < 0.9 * distance_to_teacher(start)


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_end(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, finished: tuple[Path, QatResult], tmp_path: Path
) -> None:
    whole = finished[1]

    def stop(step: int, _: Mapping[str, float]) -> None:
        if step == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_qat(checkpoint, start, qat_data(folder), even, OPTIONS, tmp_path / "parts", on_step=stop)
    steps: list[int] = []
    resumed = run_qat(
        checkpoint, start, qat_data(folder), better_after(start), OPTIONS, tmp_path / "parts", resume=True,
        on_step=lambda step, _: steps.append(step),
    )  # fmt: skip
    assert steps == [2, 3]
    assert resumed.calibrated.ranges == whole.calibrated.ranges
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


def test_a_finished_run_is_evaluated_again_without_training(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, finished: tuple[Path, QatResult]
) -> None:
    path, first = finished
    criterion = better_after(start)
    again = run_qat(checkpoint, start, qat_data(folder), criterion, OPTIONS, path, resume=True, on_step=never)
    assert all(torch.equal(value, weights(first)[name]) for name, value in weights(again).items())


def test_a_run_is_resumed_where_sums_in_another_order_gave_ranges_with_other_last_digits(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, finished: tuple[Path, QatResult]
) -> None:
    ranges = {name: replace(found, high=found.high * (1 + 1e-6)) for name, found in start.ranges.items()}
    again = Calibrated(start.traced, ranges)
    run_qat(checkpoint, again, qat_data(folder), even, OPTIONS, finished[0], resume=True, on_step=never)


def test_an_unfinished_run_is_not_overwritten_unasked(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, tmp_path: Path
) -> None:
    (tmp_path / RESUME_FILE).write_bytes(b"")
    with pytest.raises(CheckpointError, match="--resume"):
        run_qat(checkpoint, start, qat_data(folder), even, OPTIONS, tmp_path)


def test_a_run_with_other_options_is_not_resumed(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, finished: tuple[Path, QatResult]
) -> None:
    other = replace(OPTIONS, range_rate=OPTIONS.range_rate / 2)
    with pytest.raises(CheckpointError, match="another run"):
        run_qat(checkpoint, start, qat_data(folder), even, other, finished[0], resume=True)


@pytest.mark.parametrize("detected, kept", [pytest.param(0, "ptq", marks=pytest.mark.slow), (1, "ptq"), (2, "qat")])
def test_it_keeps_ptq_where_training_did_not_help(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, finished: tuple[Path, QatResult], detected: int, kept: str
) -> None:
    def criterion(candidate: Calibrated) -> dict[str, Matches]:
        return {"cpu": detecting(1 if candidate is start else detected), "tensorrt": detecting(1)}

    qat_result = run_qat(checkpoint, start, qat_data(folder), criterion, OPTIONS, finished[0], resume=True)
    assert qat_result.kept == kept
    assert (qat_result.calibrated is start) == (kept == "ptq")
    assert set(qat_result.record()["mask_ap"]["ptq"]) == set(VARIANTS)
    assert qat_result.record()["mask_ap"]["ptq"]["cpu"] == pytest.approx(0.5, abs=0.01)
    assert ("PTQ is kept" in str(qat_result)) == (kept == "ptq")
    assert "2 held-out images" in str(qat_result)


@pytest.mark.slow
def test_the_same_seed_trains_the_same_network(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, finished: tuple[Path, QatResult], tmp_path: Path
) -> None:
    first, second = finished[1], run_qat(checkpoint, start, qat_data(folder), better_after(start), OPTIONS, tmp_path)
    assert first.kept == second.kept == "qat"
    assert first.calibrated.ranges == second.calibrated.ranges
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


def test_a_loss_that_is_no_number_ends_the_run(
    folder: Path, checkpoint: Checkpoint, start: Calibrated, tmp_path: Path
) -> None:
    wild = replace(OPTIONS, training=replace(SCHEDULE, learning_rate=1e30, clip=1e30))
    with pytest.raises(DivergedError, match="learning-rate"):
        run_qat(checkpoint, start, qat_data(folder), even, wild, tmp_path)
