"""A teacher of another architecture: the student comes nearer to it without labels, and resumes exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest
import torch
from torch import Tensor

from blendmask_edge.errors import CalibrationError, CheckpointError, ConfigError
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import HeadConfig, ModelConfig
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.stream import AugmentedStream
from blendmask_quantize.training.teach import TeachOptions, TeachWeights, teach, unlabeled
from tests.quantize.images import PLAIN, some_images, write_images
from tests.quantize.tiny import LABELS, TINY, tiny_model

STUDENT = replace(
    TINY, name="STUDENT", pyramid_width=32, head=HeadConfig(norm="GN", shared_convs=1, size_bounds=(32, 64)),
    bases=replace(TINY.bases, count=2), attention_size=2, input=replace(TINY.input, channels="bgr"),
)  # fmt: skip
"""Other widths, normalization, bases and input than the teacher's."""

TRAINING = TrainOptions(
    iterations=6, batch=2, learning_rate=3e-3, backbone_rate=1.0, frozen_stages=0, warmup=2, ema=0.5,
    precision="32-true", workers=0, save_every=3, seed=5, augmentation=PLAIN,
)  # fmt: skip
NAMES = {"teach_features", "teach_classes", "teach_centerness", "teach_boxes", "teach_masks"}

EVEN = TeachWeights(features=1.0)

Losses = list[dict[str, float]]


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def new_model(config: ModelConfig = STUDENT) -> BlendMask:
    torch.manual_seed(0)
    return BlendMask(config)


@pytest.fixture(scope="module")
def teacher() -> Checkpoint:
    return Checkpoint(tiny_model(), LABELS, Path("teacher.safetensors"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, some_images())
    return folder


@pytest.fixture
def run(teacher: Checkpoint, folder: Path, tmp_path: Path) -> Callable[..., Losses]:
    """Teach into a folder; gives the losses of every step."""

    def run(
        name: str = "run", training: TrainOptions = TRAINING, *, student: BlendMask | None = None,
        weights: TeachWeights = EVEN, resume: bool = False, last: int | None = None,
    ) -> Losses:  # fmt: skip
        student, losses = student or new_model(), []
        sources = unlabeled([folder], teacher, student.config, training.augmentation)

        def on_step(step: int, numbers: dict[str, float]) -> None:
            losses.append(numbers)
            if step == last:
                raise Interrupted

        options = TeachOptions(training, weights)
        stream = AugmentedStream(sources, training.augmented_images, training.seed)
        assert teach(student, teacher, stream, tmp_path / name, options, resume=resume, on_step=on_step).is_file()
        return losses

    return run


def weights_of(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).model.state_dict()


def test_the_student_comes_nearer_in_everything(run: Callable[..., Losses]) -> None:
    losses = run(training=replace(TRAINING, iterations=40, batch=4))
    assert {*losses[0]} == {*NAMES, "total"}
    for name in NAMES:
        first, last = (sum(step[name] for step in part) for part in (losses[:5], losses[-5:]))
        assert last < first, name
    assert sum(step["total"] for step in losses[-5:]) < 0.8 * sum(step["total"] for step in losses[:5])


def test_a_student_that_says_the_same_has_nothing_to_learn_but_the_adapters(
    folder: Path, tmp_path: Path
) -> None:  # fmt: skip
    frozen = replace(
        TINY, backbone=replace(TINY.backbone, norm="FrozenBN"), bases=replace(TINY.bases, norm="FrozenBN"),
        head=replace(TINY.head, norm="GN"), pyramid_width=32,
    )  # fmt: skip
    model = tiny_model(frozen)
    same = Checkpoint(model, LABELS, Path("teacher.safetensors"))
    found: Losses = []
    training = replace(TRAINING, iterations=1)
    stream = AugmentedStream(unlabeled([folder], same, frozen, PLAIN), training.augmented_images, 0)
    teach(
        tiny_model(frozen), same, stream, tmp_path / "run", TeachOptions(training), on_step=lambda _, n: found.append(n)
    )
    assert found[0].pop("teach_features") == pytest.approx(found[0].pop("total"))
    assert all(abs(value) < 1e-5 for value in found[0].values())


def test_the_model_is_a_whole_network_and_says_who_taught_it(run: Callable[..., Losses], tmp_path: Path) -> None:
    run(weights=TeachWeights(masks=3.0))
    loaded = load_checkpoint(tmp_path / "run/model.safetensors")
    assert (loaded.config, loaded.labels) == (STUDENT, LABELS)
    (record,) = loaded.training
    assert (record.iterations, record.augmented_images, record.images) == (6, 12, 4)
    assert record.options["teacher"] == "teacher.safetensors"
    assert record.options["teach"]["masks"] == 3.0


def test_the_teacher_stays_as_it_is(run: Callable[..., Losses], teacher: Checkpoint) -> None:
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    run()
    assert all(torch.equal(before[name], value) for name, value in teacher.model.state_dict().items())
    assert not teacher.model.training


def test_a_resumed_run_ends_where_one_without_a_stop_does(run: Callable[..., Losses], tmp_path: Path) -> None:
    run("whole")
    with pytest.raises(Interrupted):
        run("halves", last=4)
    with pytest.raises(CheckpointError, match="--resume"):
        run("halves")
    assert len(run("halves", resume=True)) == 3
    whole, halves = (weights_of(tmp_path / name / "model.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_frozen_stages_stay_as_they_are(run: Callable[..., Losses], tmp_path: Path) -> None:
    before = new_model().state_dict()
    run(training=replace(TRAINING, frozen_stages=1))
    after = weights_of(tmp_path / "run/model.safetensors")
    stem = [name for name in before if name.startswith("backbone.bottom_up.stem")]
    assert stem
    assert all(torch.equal(before[name], after[name]) for name in stem)
    assert not torch.equal(before["backbone.fpn_output3.weight"], after["backbone.fpn_output3.weight"])


@pytest.mark.parametrize(
    "config, what",
    [
        (replace(STUDENT, num_classes=4), "classes 3, the student 4"),
        (
            replace(STUDENT, extra_levels=1, head=HeadConfig(strides=(8, 16, 32, 64), size_bounds=(32, 64, 128))),
            r"strides \(8, 16, 32\)",
        ),
        (replace(STUDENT, resolution=56), "a mask resolution of 28, the student 56"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(run: Callable[..., Losses], config: ModelConfig, what: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot teach STUDENT.*{what}"):
        run(student=new_model(config))


def test_a_folder_without_images_is_refused(teacher: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="holds no image"):
        unlabeled([tmp_path], teacher, STUDENT, PLAIN)
