"""Losses: equal to the reference's, and the gradients go where they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.training.losses import (
    LossOptions,
    attention_of,
    dice_loss,
    focal_loss,
    location_loss,
    training_losses,
)
from blendmask_quantize.training.targets import InstanceTargets, Targets, assign
from tests.reference_values import recorded_cases

CLASSES, BASES, ATTENTION, WIDTH, SIDE = 3, 2, 4, 6, 96
STRIDES = (8, 16)
SIZES = [(SIDE // stride, SIDE // stride) for stride in STRIDES]
BOXES = [torch.tensor([[10.0, 14, 60, 50], [40, 40, 94, 90]]), torch.tensor([[4.0, 4, 90, 88]])]
LABELS = [torch.tensor([0, 2]), torch.tensor([1])]
NAMES = {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr", "loss_mask", "loss_basis_sem"}


class Step:
    """Seeded predictions for the two images above, or for the chosen ones."""

    def __init__(self, images: tuple[int, ...] = (0, 1), *, empty: bool = False) -> None:
        boxes = [BOXES[i][:0] if empty else BOXES[i] for i in images]
        labels = [LABELS[i][:0] if empty else LABELS[i] for i in images]
        self.targets: Targets = assign(boxes, labels, SIZES, STRIDES, (48,), CLASSES)
        masks = [torch.rand((2, 28, 28), generator=seeded(7 + i)) > 0.5 for i in images]
        self.instances = InstanceTargets.from_images(boxes, [m[: len(b)] for m, b in zip(masks, boxes, strict=True)])
        semantic = torch.randint(0, CLASSES + 1, (2, SIDE, SIDE), generator=seeded(2))
        self.semantic = semantic[list(images)]
        self.top_layer = nn.Conv2d(WIDTH, BASES * ATTENTION**2, 3, padding=1)
        with torch.no_grad():
            for parameter in self.top_layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=seeded(3)) / 5)
        self.predictions = self._predict(list(images))

    @staticmethod
    def _predict(images: list[int]) -> Predictions:
        generator = seeded(4)

        def maps(channels: int, size: int) -> Tensor:
            return torch.randn((2, channels, size, size), generator=generator)[images].requires_grad_()

        def levels(channels: int) -> tuple[Tensor, ...]:
            return tuple(maps(channels, size) for size, _ in SIZES)

        regression = tuple(level.detach().abs().requires_grad_() for level in levels(4))
        return Predictions(
            levels(CLASSES), regression, levels(1), levels(WIDTH), maps(BASES, SIDE // 4), maps(CLASSES + 1, SIDE // 8)
        )

    def losses(self, options: LossOptions | None = None, **keywords) -> dict[str, Tensor]:
        return training_losses(
            self.predictions,
            self.targets,
            self.instances,
            self.semantic,
            attention_of(self.top_layer, self.predictions.towers, self.targets),
            options or LossOptions(),
            **keywords,
        )


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_same(result: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert result.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(result[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


class TestAgainstTheReference:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_focal_loss_is_computed_in_float32(self, parity, dtype):
        recorded = np.load(parity / "units/losses.npz")
        logits, ground_truth = (torch.from_numpy(recorded[k]).to(dtype) for k in ("focal_logits", "focal_targets"))
        labels = torch.where(ground_truth.any(dim=1), ground_truth.argmax(dim=1), logits.shape[1])
        result = focal_loss(logits, labels)
        assert result.dtype == torch.float32
        assert result.item() == pytest.approx(recorded["focal_sum_f32"].item(), rel=1e-7)
        rows = [focal_loss(logits[i : i + 1], labels[i : i + 1]).item() for i in range(len(labels))]
        np.testing.assert_allclose(rows, recorded["focal_elementwise_f32"].sum(axis=1), rtol=1e-6)

    def test_location_loss(self, parity):
        recorded = np.load(parity / "units/losses.npz")
        one, other, weight = (torch.from_numpy(recorded[k]) for k in ("pred_ltrb", "target_ltrb", "ctr_target"))
        ones = torch.ones_like(weight)
        single = torch.stack([location_loss(one[i : i + 1], other[i : i + 1], ones[:1]) for i in range(len(one))])
        np.testing.assert_allclose(1 - single, recorded["giou"], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(location_loss(one, other, ones), recorded["giou_loss_sum"], rtol=1e-12)
        np.testing.assert_allclose(location_loss(one, other, weight), recorded["giou_loss_weighted_sum"], rtol=1e-12)

    @pytest.mark.parametrize("case", recorded_cases("training/forward.npz"))
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-7)])
    def test_detector_losses_of_recorded_head_outputs(self, recording, case, dtype, tolerance):
        step = recording(case)
        recorded = np.load(step.folder / "training/forward.npz")

        def levels(name: str) -> tuple[Tensor, ...]:
            count = len(step.head["FPN_STRIDES"])
            return tuple(torch.from_numpy(recorded[f"head.{name}.p{3 + i}"]).to(dtype) for i in range(count))

        bases = torch.from_numpy(recorded["basis.bases"]).to(dtype)
        predictions = Predictions(levels("logits"), levels("reg"), levels("ctr"), (), bases, None)

        def uniform(rows: Tensor) -> Tensor:
            return torch.zeros((len(rows), 4 * 14 * 14), dtype=dtype)

        result = training_losses(predictions, step.assigned(), step.instances(), None, uniform)
        wanted = step.json("training/meta.json")["losses_f64"]
        for name in ("loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"):
            assert result[name].item() == pytest.approx(wanted[name], rel=tolerance), name

    @pytest.mark.parametrize("case", recorded_cases("training/targets.npz"))
    def test_the_semantic_target_takes_the_top_left_pixel_of_each_location(self, recording, case):
        step = recording(case)
        locations = torch.from_numpy(step.arrays["sem_target_downsampled"]).long()
        logits = torch.randn((2, 13, 36, 36), generator=seeded(0))
        result = semantic_loss(logits, step.semantic())
        torch.testing.assert_close(result, 0.3 * F.cross_entropy(logits, locations))


def semantic_loss(logits: Tensor, semantic: Tensor) -> Tensor:
    step = Step(empty=True)
    predictions = step.predictions._replace(semantic=logits)
    return training_losses(predictions, step.targets, step.instances, semantic, no_attention)["loss_basis_sem"]


def no_attention(rows: Tensor) -> Tensor:
    raise AssertionError(f"attention was asked for at {rows}")


class TestLosses:
    def test_there_are_five_under_the_reference_names(self):
        losses = Step().losses()
        assert set(losses) == NAMES
        assert all(value.shape == () and value.isfinite() and value > 0 for value in losses.values())

    def test_the_order_of_images_does_not_matter(self):
        assert_same(Step((1, 0)).losses(), Step((0, 1)).losses())

    def test_perfect_boxes_cost_nothing(self):
        step = Step()
        exact = []
        for level, (height, width) in enumerate(SIZES):
            rows = step.targets.regression[step.targets.level == level]
            exact.append(rows.reshape(2, height, width, 4).permute(0, 3, 1, 2))
        step.predictions = step.predictions._replace(regression=tuple(exact))
        assert step.losses()["loss_fcos_loc"].item() == pytest.approx(0, abs=1e-6)

    def test_the_mask_loss_is_the_weighted_mean_cross_entropy_of_each_positive(self):
        step = Step()
        dense = [step.top_layer(tower) for tower in step.predictions.towers]
        total = 0.0
        for row in step.targets.positives.tolist():
            level, image, y, x, index = (
                int(getattr(step.targets, name)[row]) for name in ("level", "image", "y", "x", "instance_index")
            )
            vector = dense[level][image, :, y, x].reshape(1, BASES, ATTENTION, ATTENTION)
            weights = F.interpolate(vector, size=(28, 28), mode="bilinear").softmax(dim=1)[0]
            crop = sample_bases(step.predictions.bases[image], step.instances.boxes[index], 28)
            ground_truth = step.instances.masks[index].float()
            error = F.binary_cross_entropy_with_logits((crop * weights).sum(dim=0), ground_truth)
            total = total + error * step.targets.centerness[row]
        torch.testing.assert_close(step.losses()["loss_mask"], total / step.targets.centerness.sum())

    def test_losses_stay_in_float32_when_the_network_runs_in_bfloat16(self):
        step = Step()
        halves = [
            value.bfloat16() if isinstance(value, Tensor) else tuple(v.bfloat16() for v in value)
            for value in step.predictions
        ]
        step.predictions = Predictions(*halves)
        step.top_layer.bfloat16()
        losses = step.losses()
        assert {value.dtype for value in losses.values()} == {torch.float32}
        for name, value in Step().losses().items():
            assert losses[name].item() == pytest.approx(value.item(), rel=0.02), name

    def test_without_a_semantic_map_that_loss_is_left_out(self):
        step = Step()
        step.semantic = None
        assert set(step.losses()) == NAMES - {"loss_basis_sem"}

    def test_a_semantic_map_without_semantic_logits_is_refused(self):
        step = Step()
        step.predictions = step.predictions._replace(semantic=None)
        with pytest.raises(ConfigError, match="training mode"):
            step.losses()

    def test_weights_scale_the_semantic_loss(self):
        once, twice = (Step().losses(LossOptions(semantic_weight=w))["loss_basis_sem"] for w in (1.0, 2.0))
        torch.testing.assert_close(twice, 2 * once)

    def test_the_overlap_loss_is_left_out_unless_asked_for(self):
        assert_same(
            {k: v for k, v in Step().losses(LossOptions(dice_weight=1.0)).items() if k in NAMES}, Step().losses()
        )
        once, twice = (Step().losses(LossOptions(dice_weight=w))["loss_dice"] for w in (1.0, 2.0))
        torch.testing.assert_close(twice, 2 * once)
        assert 0 < once < 1

    def test_the_overlap_loss_counts_a_thin_object_as_a_full_one(self):
        thin, full = torch.zeros(1, 28, 28, dtype=torch.bool), torch.ones(1, 28, 28, dtype=torch.bool)
        thin[:, :, 13:15] = True
        one, nothing = torch.ones(1), torch.full((1, 28, 28), -20.0)
        for ground_truth in (thin, full):
            assert dice_loss(torch.where(ground_truth, 20.0, -20.0), ground_truth, one) == pytest.approx(0, abs=1e-3)
            assert dice_loss(nothing, ground_truth, one) == pytest.approx(1, abs=0.02)
            assert dice_loss(nothing, ground_truth, 3 * one) == pytest.approx(3, abs=0.06)


def sample_bases(bases: Tensor, box: Tensor, resolution: int) -> Tensor:
    """(K, R, R): one bilinear sample in each bin's center, written with another operator than the blender's."""
    x0, y0, x1, y1 = (box / 4).tolist()
    steps = (torch.arange(resolution) + 0.5) / resolution
    xs, ys = x0 + steps * (x1 - x0), y0 + steps * (y1 - y0)
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1) / (SIDE // 4) * 2 - 1
    return F.grid_sample(bases[None], grid[None], padding_mode="border", align_corners=False)[0]


class TestGradients:
    def test_every_loss_reaches_the_outputs_it_judges_and_no_others(self):
        reached = {}
        for name in NAMES:
            step = Step()
            step.losses()[name].backward()
            outputs = step.predictions._asdict() | {"top_layer": step.top_layer.weight}
            reached[name] = {
                key
                for key, value in outputs.items()
                if any(v.grad is not None and v.grad.any() for v in (value if isinstance(value, tuple) else (value,)))
            }
        assert reached == {
            "loss_fcos_cls": {"logits"},
            "loss_fcos_loc": {"regression"},
            "loss_fcos_ctr": {"centerness"},
            "loss_mask": {"bases", "towers", "top_layer"},
            "loss_basis_sem": {"semantic"},
        }

    def test_boxes_and_centerness_learn_at_positives_only(self):
        step = Step()
        sum(step.losses().values()).backward()
        for maps in (step.predictions.regression, step.predictions.centerness):
            touched = torch.cat([level.grad.abs().sum(dim=1).flatten() for level in maps]).nonzero().flatten()
            assert touched.tolist() == step.targets.positives.tolist()

    def test_without_positives_everything_is_finite_and_only_the_bases_see_the_mask_loss(self):
        step = Step(empty=True)
        losses = step.losses()
        sum(losses.values()).backward()
        for name in ("loss_fcos_loc", "loss_fcos_ctr", "loss_mask"):
            assert losses[name].item() == 0, name
        assert losses["loss_fcos_cls"] > 0
        assert step.top_layer.weight.grad is None
        for maps in ((step.predictions.bases,), step.predictions.regression, step.predictions.centerness):
            assert all(level.grad is not None and not level.grad.any() for level in maps)


class TestSampledMaskPositives:
    def test_a_generous_limit_changes_nothing(self):
        count = len(Step().targets.positives)
        assert_same(Step().losses(LossOptions(mask_positives=count)), Step().losses())

    def test_the_mean_over_all_draws_is_the_full_loss(self):
        step = Step()
        count = len(step.targets.positives)
        drawn = {
            round(step.losses(LossOptions(mask_positives=1), generator=seeded(seed))["loss_mask"].item(), 6)
            for seed in range(12 * count)
        }
        assert len(drawn) == count
        assert sum(drawn) / count == pytest.approx(step.losses()["loss_mask"].item(), rel=1e-4)

    def test_only_the_mask_loss_is_sampled_and_by_the_given_generator(self):
        options = LossOptions(mask_positives=2)
        result = Step().losses(options, generator=seeded(5))
        assert_same(result, Step().losses(options, generator=seeded(5)))
        full = Step().losses()
        assert result.pop("loss_mask") != full.pop("loss_mask")
        assert_same(result, full)

    def test_the_top_layer_is_evaluated_at_the_drawn_positives_only(self):
        step, asked = Step(), []
        attention = attention_of(step.top_layer, step.predictions.towers, step.targets)

        def watched(rows: Tensor) -> Tensor:
            asked.append(rows)
            return attention(rows)

        options = LossOptions(mask_positives=3)
        training_losses(step.predictions, step.targets, step.instances, None, watched, options, generator=seeded(1))
        (rows,) = asked
        assert len(rows) == 3
        assert set(rows.tolist()) <= set(step.targets.positives.tolist())
        assert rows.tolist() == sorted(rows.tolist())

    def test_an_empty_draw_is_refused(self):
        with pytest.raises(ConfigError, match="at least 1"):
            LossOptions(mask_positives=0)


class TestAttention:
    def test_it_equals_the_dense_top_layer_at_the_rows(self):
        step = Step()
        rows = torch.arange(0, len(step.targets.labels), 5)
        result = attention_of(step.top_layer, step.predictions.towers, step.targets)(rows)
        dense = [step.top_layer(tower).permute(0, 2, 3, 1).flatten(0, 2) for tower in step.predictions.towers]
        torch.testing.assert_close(result, torch.cat(dense)[rows])


class TestSeveralProcesses:
    def test_two_processes_average_to_the_loss_of_the_joint_batch(self):
        """Gradients are averaged over processes, so the averaged losses must be those of one large batch."""
        exchanged: list[Tensor] = []

        def record(value: Tensor) -> Tensor:
            exchanged.append(value)
            return value

        for image in (0, 1):
            Step((image,)).losses(reduce_mean=record)
        mean = torch.stack(exchanged).mean(dim=0)
        apart = [Step((image,)).losses(reduce_mean=lambda _: mean) for image in (0, 1)]
        joint = Step().losses()
        assert_same({name: (apart[0][name] + apart[1][name]) / 2 for name in joint}, joint)
