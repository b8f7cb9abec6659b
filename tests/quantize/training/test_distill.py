"""A teacher of another architecture: the student comes nearer to it without labels, and resumes exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from torch import Tensor

from blendmask_calibration.sampling import list_images
from blendmask_edge.errors import CalibrationError, CheckpointError, ConfigError
from blendmask_edge.labels import Labels
from blendmask_quantize import distill, train
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import HeadConfig, ModelConfig
from blendmask_quantize.training import distill as training_distill
from blendmask_quantize.training.distill_weights import StudentWeights
from blendmask_quantize.training.images import PlainImages
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.stream import AugmentedStream
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
NAMES = {"distill_features", "distill_classes", "distill_centerness", "distill_boxes", "distill_masks"}

EVEN = StudentWeights(features=1.0)

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
    """Distill into a folder; gives the losses of every step."""

    def run(
        name: str = "run", training: TrainOptions = TRAINING, *, student: BlendMask | None = None,
        weights: StudentWeights = EVEN, resume: bool = False, last: int | None = None,
    ) -> Losses:  # fmt: skip
        student, losses = student or new_model(), []
        sources = [PlainImages(list_images(folder), teacher.labels, student.config, training.augmentation)]

        def on_step(step: int, numbers: dict[str, float]) -> None:
            losses.append(numbers)
            if step == last:
                raise Interrupted

        stream = AugmentedStream(sources, training.augmented_images, training.seed)
        assert training_distill.distill(
            student, teacher, stream, tmp_path / name, training, weights, resume=resume, on_step=on_step
        ).is_file()
        return losses

    return run


def weights_of(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).model.state_dict()


@pytest.mark.slow
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
    losses_of_step: Losses = []
    training = replace(TRAINING, iterations=1)
    source = PlainImages(list_images(folder), LABELS, frozen, PLAIN)
    stream = AugmentedStream([source], training.augmented_images, 0)
    training_distill.distill(
        tiny_model(frozen), same, stream, tmp_path / "run", training, StudentWeights(),
        on_step=lambda _, numbers: losses_of_step.append(numbers),
    )  # fmt: skip
    assert losses_of_step[0].pop("distill_features") == pytest.approx(losses_of_step[0].pop("total"))
    assert all(abs(value) < 1e-5 for value in losses_of_step[0].values())


def test_the_model_is_a_whole_network_and_says_who_taught_it(run: Callable[..., Losses], tmp_path: Path) -> None:
    run(weights=StudentWeights(masks=3.0))
    loaded = load_checkpoint(tmp_path / "run/model.safetensors")
    assert (loaded.config, loaded.labels) == (STUDENT, LABELS)
    (record,) = loaded.training
    assert (record.iterations, record.augmented_images, record.images) == (6, 12, 4)
    assert record.options["teacher"] == "teacher.safetensors"
    assert record.options["distill"]["masks"] == 3.0


@pytest.mark.slow
def test_the_teacher_stays_as_it_is(run: Callable[..., Losses], teacher: Checkpoint) -> None:
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    run()
    assert all(torch.equal(before[name], value) for name, value in teacher.model.state_dict().items())
    assert not teacher.model.training


@pytest.mark.slow
def test_a_resumed_run_ends_where_one_without_a_stop_does(run: Callable[..., Losses], tmp_path: Path) -> None:
    run("whole")
    with pytest.raises(Interrupted):
        run("halves", last=4)
    with pytest.raises(CheckpointError, match="--resume"):
        run("halves")
    assert len(run("halves", resume=True)) == 3
    whole, halves = (weights_of(tmp_path / name / "model.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


@pytest.mark.slow
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


class TestPublicFunction:
    @staticmethod
    def run(folder: Path, tmp_path: Path, **changes: Any) -> Path:
        save_checkpoint(tmp_path / "teacher.safetensors", tiny_model(), LABELS)
        given = {"config": STUDENT, "options": TRAINING, **changes}
        return distill(tmp_path / "teacher.safetensors", folder, tmp_path / "run", **given)

    @pytest.mark.slow
    def test_it_writes_a_student_with_the_classes_of_the_teacher(self, folder: Path, tmp_path: Path) -> None:
        loaded = load_checkpoint(self.run(folder, tmp_path, config=replace(STUDENT, num_classes=80)))
        assert (loaded.config, loaded.labels) == (STUDENT, LABELS)

    @pytest.mark.slow
    def test_a_run_of_other_images_or_another_teacher_is_not_resumed(self, folder: Path, tmp_path: Path) -> None:
        def stage(_: str, __: int) -> Callable[[], None]:
            done = iter(range(4))
            return lambda: None if next(done, None) is not None else interrupt()

        def interrupt() -> None:
            raise Interrupted

        with pytest.raises(Interrupted):
            self.run(folder, tmp_path, progress=stage)
        others = tmp_path / "others"
        write_images(others, some_images(2))
        with pytest.raises(CheckpointError, match="another image folder, images 4 instead of 2: resume"):
            self.run(others, tmp_path, resume=True)
        with pytest.raises(CheckpointError, match="seed 5 instead of 6: resume"):
            self.run(folder, tmp_path, resume=True, seed=6)
        assert self.run(folder, tmp_path, resume=True).is_file()
        with pytest.raises(CheckpointError, match="finished run"):
            self.run(folder, tmp_path, resume=True)

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"config": "LITE0"}, "did you mean LITE0_RT"),
            ({"learning_rate": 0.0}, "learning_rate is 0"),
            ({"config": replace(STUDENT, resolution=56)}, "cannot teach STUDENT"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, folder: Path, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            self.run(folder, tmp_path, **change)
        assert not (tmp_path / "run").exists()

    def test_folders_without_images_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(CalibrationError, match="holds no image"):
            self.run(tmp_path / "empty", tmp_path)
        with pytest.raises(CalibrationError, match="is not a folder"):
            self.run(tmp_path / "nowhere", tmp_path)


@pytest.mark.slow
class TestWithLabels:
    """`train(teacher=...)`: both kinds of losses in one run."""

    @staticmethod
    def run(folder: Path, tmp_path: Path, **changes: Any) -> Path:
        given = {"config": STUDENT, "options": TRAINING, **changes}
        return train(folder, folder / "annotations.json", tmp_path / "run", **given)

    def test_it_learns_from_the_annotations_and_the_teacher(
        self, folder: Path, teacher: Checkpoint, tmp_path: Path
    ) -> None:
        path = self.run(folder, tmp_path, teacher=teacher, iterations=30, batch=4)
        header, *rows = (line.split(",") for line in (tmp_path / "run/log.csv").read_text().splitlines())
        assert NAMES | {"loss_mask", "loss_fcos_cls", "loss_basis_sem"} < set(header)
        for name in ("distill_features", "loss_mask", "total"):
            column = [float(row[header.index(name)]) for row in rows]
            assert sum(column[-5:]) < sum(column[:5]), name
        loaded = load_checkpoint(path)
        assert (loaded.config, loaded.labels) == (STUDENT, LABELS)
        assert (loaded.training[0].options["teacher"], loaded.training[0].options["labeled"]) == (
            "teacher.safetensors",
            True,
        )

    def test_a_teacher_of_other_classes_is_refused(self, folder: Path, tmp_path: Path) -> None:
        other = Checkpoint(tiny_model(), Labels(("mug", "plate", "fork"), (2, 5, 9)), Path("other.safetensors"))
        with pytest.raises(ConfigError, match="knows the classes mug, plate, fork, the annotations cup, plate, fork"):
            self.run(folder, tmp_path, teacher=other)
