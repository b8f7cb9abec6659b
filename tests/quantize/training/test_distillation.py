"""The teacher's losses: zero for its own words, each moved by its own output, masks as inference blends them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.detect import detect
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.training.distill_weights import DistillWeights
from blendmask_quantize.training.distillation import DETECTIONS, Teacher, TeacherOutputs, divergence
from tests.quantize.tiny import tiny_model

NAMES = {"classes", "centerness", "boxes", "towers", "bases", "masks"}


@pytest.fixture(scope="module")
def model() -> BlendMask:
    return tiny_model()


@pytest.fixture(scope="module")
def teacher(model: BlendMask) -> Teacher:
    return Teacher(model, trace_network(model))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn((2, 3, 64, 96), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def outputs(teacher: Teacher, x: Tensor) -> TeacherOutputs:
    return teacher(x)


def scaled(predictions: Predictions, name: str, factor: float = 1.2) -> Predictions:
    part = getattr(predictions, name)
    changed = part * factor if isinstance(part, Tensor) else tuple(level * factor for level in part)
    return predictions._replace(**{name: changed})


def moved(teacher: Teacher, outputs: TeacherOutputs, student: Predictions) -> set[str]:
    losses = teacher.losses(student, outputs, DistillWeights())
    return {name.removeprefix("distill_") for name, loss in losses.items() if loss.item() != 0}


def test_a_student_that_says_the_same_has_no_loss(teacher: Teacher, outputs: TeacherOutputs) -> None:
    losses = teacher.losses(outputs.predictions, outputs, DistillWeights())
    assert {name.removeprefix("distill_") for name in losses} == NAMES
    assert all(loss.item() == 0 for loss in losses.values())


@pytest.mark.parametrize(
    "output, names",
    [
        ("logits", {"classes"}),
        ("centerness", {"centerness"}),
        ("regression", {"boxes"}),
        ("towers", {"towers", "masks"}),
        ("bases", {"bases", "masks"}),
    ],
)
def test_each_output_moves_the_losses_that_read_it(
    teacher: Teacher, outputs: TeacherOutputs, output: str, names: set[str]
) -> None:
    assert moved(teacher, outputs, scaled(outputs.predictions, output)) == names


def test_the_weights_scale_the_losses(teacher: Teacher, outputs: TeacherOutputs) -> None:
    student = scaled(outputs.predictions, "bases")
    plain = teacher.losses(student, outputs, DistillWeights())
    heavy = teacher.losses(student, outputs, DistillWeights(bases=3.0, masks=0.0))
    assert heavy["distill_bases"].item() == pytest.approx(3 * plain["distill_bases"].item())
    assert heavy["distill_masks"].item() == 0


def test_the_masks_are_those_that_inference_blends(model: BlendMask, outputs: TeacherOutputs, x: Tensor) -> None:
    for image in range(2):
        eager = detect(model, x[image : image + 1])
        mine = outputs.instances.image == image
        assert 0 < mine.sum() <= DETECTIONS
        kept = eager.candidates[torch.arange(int(mine.sum()))]
        torch.testing.assert_close(outputs.instances.boxes[mine], kept.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(outputs.mask_logits[mine], eager.mask_logits[: mine.sum()], rtol=1e-3, atol=1e-3)


def test_images_without_instances_teach_that_there_are_none(model: BlendMask, x: Tensor) -> None:
    blind = tiny_model()
    with torch.no_grad():
        blind.proposal_generator.fcos_head.cls_logits.weight.zero_()
        blind.proposal_generator.fcos_head.cls_logits.bias.fill_(-9)
    teacher = Teacher(blind, trace_network(blind))
    outputs = teacher(x)
    assert len(outputs.positives) == len(outputs.instances.scores) == 0
    logits = tuple(level.clone().requires_grad_() for level in trace_network(model)(x).logits)
    losses = teacher.losses(outputs.predictions._replace(logits=logits), outputs, DistillWeights())
    sum(losses.values(), torch.zeros(())).backward()
    assert all(level.grad is not None and level.grad.isfinite().all() and level.grad.any() for level in logits)


def test_it_has_no_gradient_of_its_own(teacher: Teacher, outputs: TeacherOutputs) -> None:
    student = outputs.predictions._replace(
        bases=(outputs.predictions.bases * 1.1).requires_grad_(),
        towers=tuple((tower * 1.1).requires_grad_() for tower in outputs.predictions.towers),
    )
    losses = teacher.losses(student, outputs, DistillWeights())
    sum(losses.values(), torch.zeros(())).backward()
    assert student.bases.grad is not None
    assert student.towers[0].grad is not None
    assert all(parameter.grad is None for parameter in teacher.top_layer.parameters())


logits = st.floats(-12, 12, width=32)


@given(logits, logits)
def test_the_divergence_is_least_at_the_teacher(student: float, teacher: float) -> None:
    s = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    t = torch.tensor(teacher, dtype=torch.float64)
    loss = divergence(s, t)
    loss.backward()
    assert loss.item() >= -1e-12
    assert s.grad is not None
    assert s.grad.item() == pytest.approx((s.sigmoid() - t.sigmoid()).item(), abs=1e-9)
