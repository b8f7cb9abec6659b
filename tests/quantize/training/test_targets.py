"""Targets: equal to the reference's, and true to their rules on any instances."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from blendmask_edge.errors import ConfigError
from blendmask_quantize.training.targets import InstanceTargets, Targets, assign, centerness, mask_targets
from tests.reference_values import recorded_cases

SIDE, CLASSES = 192, 5
STRIDES, BOUNDS = (8, 16, 32), (64, 128)
SIZES = [(SIDE // stride, SIDE // stride) for stride in STRIDES]
BACKGROUND = CLASSES


def assigned(boxes: list[torch.Tensor], classes: list[torch.Tensor] | None = None) -> Targets:
    classes = classes or [torch.arange(len(of_image)) % CLASSES for of_image in boxes]
    return assign(boxes, classes, SIZES, STRIDES, BOUNDS, CLASSES)


def box(*corners: float) -> torch.Tensor:
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def centers(targets: Targets, rows: torch.Tensor) -> torch.Tensor:
    stride = torch.tensor(STRIDES)[targets.level[rows]]
    return torch.stack([targets.x[rows] * stride + stride // 2, targets.y[rows] * stride + stride // 2], dim=1)


def label_at(targets: Targets, level: int, location: int) -> int:
    """Label of the diagonal location of the first image."""
    here = (targets.level == level) & (targets.image == 0) & (targets.y == location) & (targets.x == location)
    return targets.labels[here].item()


@st.composite
def instances(draw: st.DrawFn, most: int = 6) -> torch.Tensor:
    """(M, 4) boxes with quarter-pixel corners, M may be 0."""
    quarter = st.integers(0, SIDE * 4 - 4)
    rows = draw(
        st.lists(st.tuples(quarter, quarter, st.integers(4, SIDE * 4), st.integers(4, SIDE * 4)), max_size=most)
    )
    table = torch.tensor([(x, y, min(x + w, SIDE * 4), min(y + h, SIDE * 4)) for x, y, w, h in rows])
    return table.reshape(-1, 4).float() / 4


class TestAgainstTheReference:
    @pytest.mark.parametrize("levels", ["five_levels", "four_levels", "three_levels"])
    def test_realistic_canvases(self, parity, levels):
        about = json.loads((parity / "units/units.json").read_text())[f"targets.{levels}"]
        recorded = np.load(parity / "units/targets.npz")
        boxes = [torch.from_numpy(recorded[f"{levels}.img{i}.boxes"]) for i in range(3)]
        classes = [torch.from_numpy(recorded[f"{levels}.img{i}.classes"]).long() for i in range(3)]
        bounds = [upper for _, upper in about["sizes_of_interest"][:-1]]
        sizes = [tuple(size) for size in recorded[f"{levels}.level_hw"].tolist()]
        result = assign(boxes, classes, sizes, about["strides"], bounds, about["background_label"], about["radius"])
        self.assert_equal(result, {key.removeprefix(f"{levels}."): recorded[key] for key in recorded.files})

    @pytest.mark.parametrize("case", recorded_cases("training/targets.npz"))
    def test_training_batch(self, recording, case):
        recorded, result = recording(case).arrays, recording(case).assigned()
        self.assert_equal(result, recorded)
        np.testing.assert_array_equal(result.level, recorded["level"])
        np.testing.assert_array_equal(result.image, recorded["image"])
        stride = torch.tensor(recording(case).head["FPN_STRIDES"])[result.level]
        xy = torch.stack([result.x, result.y], dim=1) * stride[:, None] + stride[:, None] // 2
        np.testing.assert_array_equal(xy, recorded["loc_xy"])

    @staticmethod
    def assert_equal(result: Targets, recorded: dict[str, np.ndarray]) -> None:
        rows = result.positives
        np.testing.assert_array_equal(result.labels, recorded["labels"])
        np.testing.assert_array_equal(rows, recorded["pos_inds"])
        np.testing.assert_array_equal(result.instance_index[rows], recorded["pos_gt_inds"])
        np.testing.assert_array_equal(result.regression[rows], recorded["pos_reg_targets"])
        # MKL's square root, which torch takes on Intel's processors, may differ in the last bit.
        np.testing.assert_array_max_ulp(result.centerness[rows].numpy(), recorded["pos_ctr_targets"], maxulp=1)

    def test_centerness(self, parity):
        recorded = np.load(parity / "units/losses.npz")
        result = centerness(torch.from_numpy(recorded["target_ltrb"]))
        np.testing.assert_allclose(result, recorded["ctr_target"], rtol=1e-7)

    def test_polygon_masks(self, recording):
        polygons = recording("r50").json("training/gt_polygons_resized.json")
        result = [mask_targets(polygons[f"img{i}"], boxes) for i, boxes in enumerate(recording("r50").boxes)]
        assert torch.equal(torch.cat(result), recording("r50").object_masks)

    def test_bitmap_masks(self, recording):
        step = recording("rt_bnhead")
        result = [mask_targets(bitmaps, boxes) for bitmaps, boxes in zip(step.bitmaps, step.boxes, strict=True)]
        assert torch.equal(torch.cat(result), step.object_masks)


@pytest.fixture(scope="module")
def coco(parity) -> COCO:
    if not (parity / "training_data").is_dir():
        pytest.skip("the annotations of the recorded training step are not beside this checkout")
    return COCO(parity / "training_data/gt_coco.json")


class TestFromTheAnnotationFile:
    """The recorded batch again, starting from the COCO file."""

    @staticmethod
    def annotations(coco: COCO, image: int, *, crowd: bool) -> list[dict]:
        return [a for a in coco.imgToAnns[image + 1] if crowd or not a["iscrowd"]]

    @staticmethod
    def scale(coco: COCO, image: int, resized: np.ndarray) -> np.ndarray:
        about = coco.imgs[image + 1]
        return np.array([resized.shape[1] / about["width"], resized.shape[0] / about["height"]])

    @pytest.mark.parametrize("image", [0, 1])
    def test_boxes_classes_and_both_kinds_of_masks(self, coco, recording, image):
        polygon_step, bitmap_step = recording("r50"), recording("rt_bnhead")
        bitmaps = bitmap_step.bitmaps[image]
        chosen = self.annotations(coco, image, crowd=False)
        scale = self.scale(coco, image, bitmaps[0].numpy())
        corners = np.array([a["bbox"] for a in chosen])
        corners[:, 2:] += corners[:, :2]
        limits = np.tile(bitmaps.shape[:0:-1], 2)
        boxes = torch.from_numpy((corners * np.tile(scale, 2)).clip(0, limits).astype(np.float32))
        torch.testing.assert_close(boxes, polygon_step.boxes[image], rtol=0, atol=2e-5)
        classes = [sorted(coco.cats).index(a["category_id"]) for a in chosen]
        assert classes == polygon_step.classes[image].tolist()

        polygons = [[(np.reshape(p, (-1, 2)) * scale).ravel() for p in a["segmentation"]] for a in chosen]
        first = 0 if image == 0 else len(polygon_step.boxes[0])
        wanted = slice(first, first + len(chosen))
        exact = polygon_step.boxes[image]
        assert torch.equal(mask_targets(polygons, exact), polygon_step.object_masks[wanted])
        drawn = torch.from_numpy(np.stack([rasterise(p, *bitmaps.shape[1:]) for p in polygons]))
        assert torch.equal(drawn, bitmaps)
        assert torch.equal(mask_targets(drawn, exact), bitmap_step.object_masks[wanted])

    @pytest.mark.parametrize("image", [0, 1])
    def test_semantic_map_paints_annotations_in_order_with_crowds(self, coco, recording, image):
        recorded = recording("r50").arrays[f"img{image}.sem_target"]
        about = coco.imgs[image + 1]
        painted = np.zeros((about["height"], about["width"]), np.uint8)
        for annotation in self.annotations(coco, image, crowd=True):
            painted[coco.annToMask(annotation) > 0] = sorted(coco.cats).index(annotation["category_id"]) + 1
        resized = Image.fromarray(painted).resize(recorded.shape[::-1], Image.Resampling.NEAREST)
        np.testing.assert_array_equal(np.asarray(resized), recorded)


def rasterise(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    parts = coco_mask.frPyObjects([p.tolist() for p in polygons], height, width)
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)


class TestAssignment:
    @given(st.lists(instances(), min_size=1, max_size=3))
    def test_a_positive_lies_in_its_box_near_the_center_at_a_fitting_size(self, boxes):
        result = assigned(boxes)
        rows = result.positives
        of = torch.cat(boxes)[result.instance_index[rows]]
        stride = torch.tensor(STRIDES)[result.level[rows], None]
        point = centers(result, rows)
        sides = torch.cat([point - of[:, :2], of[:, 2:] - point], dim=1)
        assert (sides > 0).all()
        assert ((point - (of[:, :2] + of[:, 2:]) / 2).abs() < 1.5 * stride).all()
        limits = torch.tensor([(-1, 64), (64, 128), (128, 1e8)])[result.level[rows]]
        longest = sides.amax(dim=1)
        assert ((limits[:, 0] <= longest) & (longest <= limits[:, 1])).all()
        torch.testing.assert_close(result.regression[rows] * stride, sides)

    @given(st.lists(instances(), min_size=1, max_size=3))
    def test_background_is_everything_else(self, boxes):
        result = assigned(boxes)
        background = torch.ones(len(result.labels), dtype=torch.bool)
        background[result.positives] = False
        assert (result.labels[background] == BACKGROUND).all()
        assert (result.instance_index[background] == -1).all()
        assert not result.regression[background].any()
        assert not result.centerness[background].any()
        assert (result.labels[result.positives] < BACKGROUND).all()
        assert ((result.centerness[result.positives] > 0) & (result.centerness[result.positives] <= 1)).all()

    @given(instances(), st.randoms(use_true_random=False))
    def test_the_order_of_instances_of_different_size_does_not_matter(self, boxes, random):
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        boxes = boxes[[i for i, value in enumerate(area) if not (area[:i] == value).any()]]
        order = torch.arange(len(boxes))[random.sample(range(len(boxes)), len(boxes))]
        classes = torch.arange(len(boxes)) % CLASSES
        result, shuffled = assigned([boxes], [classes]), assigned([boxes[order]], [classes[order]])
        assert torch.equal(shuffled.labels, result.labels)
        assert torch.equal(shuffled.regression, result.regression)
        rows = result.positives
        assert torch.equal(order[shuffled.instance_index[rows]], result.instance_index[rows])

    @given(st.lists(instances(), min_size=2, max_size=4))
    def test_an_image_gets_the_same_targets_alone_and_in_a_batch(self, boxes):
        batch = assigned(boxes)
        first = 0
        for image, of_image in enumerate(boxes):
            alone, rows = assigned([of_image]), batch.image == image
            for name in ("labels", "level", "y", "x", "regression", "centerness"):
                assert torch.equal(getattr(batch, name)[rows], getattr(alone, name)), name
            here = alone.positives
            assert torch.equal(batch.instance_index[rows][here], alone.instance_index[here] + first)
            first += len(of_image)

    @given(instances())
    def test_a_mirrored_image_gets_mirrored_targets(self, boxes):
        mirrored = torch.stack([SIDE - boxes[:, 2], boxes[:, 1], SIDE - boxes[:, 0], boxes[:, 3]], dim=1)
        result, opposite = assigned([boxes]), assigned([mirrored])
        columns = torch.tensor([width for _, width in SIZES])[result.level]
        partner = torch.arange(len(result.x)) - result.x + (columns - 1 - result.x)
        assert torch.equal(opposite.labels[partner], result.labels)
        assert torch.equal(opposite.regression[partner][:, [2, 1, 0, 3]], result.regression)

    def test_locations_run_by_level_then_image_then_row(self):
        result = assigned([box(), box()])
        location = torch.stack([result.level, result.image, result.y, result.x], dim=1).tolist()
        assert location == sorted(location)
        assert len(location) == 2 * sum(height * width for height, width in SIZES)

    def test_images_without_instances_are_background_only(self):
        result = assigned([box(), box(10, 10, 60, 60), box()])
        assert set(result.image[result.positives].tolist()) == {1}
        assert (result.labels[result.image != 1] == BACKGROUND).all()
        assert set(result.instance_index[result.positives].tolist()) == {0}

    def test_a_batch_without_any_instance_has_no_positives(self):
        result = assigned([box(), box()])
        assert len(result.positives) == 0
        assert (result.labels == BACKGROUND).all()

    def test_the_smaller_of_two_instances_wins_where_they_overlap(self):
        result = assigned([box(20, 20, 76, 76, 46, 46, 66, 66)], [torch.tensor([3, 1])])
        assert label_at(result, 0, 5) == 3  # center 44: in the larger only
        assert label_at(result, 0, 6) == 1  # center 52: in both

    def test_the_first_of_two_equal_instances_wins(self):
        result = assigned([box(20, 20, 70, 70, 20, 20, 70, 70)], [torch.tensor([2, 4])])
        assert set(result.labels.tolist()) == {2, BACKGROUND}

    def test_a_size_on_the_border_belongs_to_both_levels(self):
        # Center 68 of the finest level: 64 from the left side of the first box, and 64.25 from the second's.
        assert label_at(assigned([box(4, 4, 120, 120)]), 0, 8) == 0
        assert label_at(assigned([box(3.75, 3.75, 120, 120)]), 0, 8) == BACKGROUND
        # Center 72 of the second level: 64 and 63.75 away.
        assert label_at(assigned([box(8, 8, 120, 120)]), 1, 4) == 0
        assert label_at(assigned([box(8.25, 8.25, 120, 120)]), 1, 4) == BACKGROUND

    def test_an_instance_that_covers_no_location_center_has_no_positives(self):
        assert len(assigned([box(5, 5, 11, 11)]).positives) == 0

    def test_a_location_on_the_edge_of_a_box_is_outside(self):
        # The location center (12, 12) lies on the left and top sides.
        assert len(assigned([box(12, 12, 19, 19)]).positives) == 0

    def test_disagreeing_levels_are_refused_with_the_numbers(self):
        with pytest.raises(ConfigError, match="3 levels, 3 strides and 3 size bounds"):
            assign([box()], [torch.zeros(0, dtype=torch.int64)], SIZES, STRIDES, (64, 128, 256), CLASSES)


class TestMaskTargets:
    def test_a_mask_that_fills_its_box_is_all_true(self):
        where = box(16, 24, 48, 40)
        bitmap = torch.zeros((1, 64, 64), dtype=torch.uint8)
        bitmap[0, 24:40, 16:48] = 1
        assert mask_targets(bitmap, where).all()
        assert mask_targets([[np.array([16, 24, 48, 24, 48, 40, 16, 40])]], where).all()

    @given(st.integers(-40, 40), st.integers(-40, 40))
    def test_shifting_object_and_box_together_changes_nothing(self, dx, dy):
        triangle, where = np.array([50.25, 60, 90, 75.5, 60, 110]), box(50, 60, 90, 110)
        shift = np.array([dx, dy])
        moved = mask_targets([[triangle + np.tile(shift, 3)]], where + torch.tensor([dx, dy, dx, dy]))
        assert torch.equal(moved, mask_targets([[triangle]], where))

    def test_parts_of_an_object_are_joined(self):
        left, right = np.array([0, 0, 10, 0, 10, 20, 0, 20]), np.array([30, 0, 40, 0, 40, 20, 30, 20])
        where = box(0, 0, 40, 20)
        both = mask_targets([[left, right]], where)
        assert torch.equal(both, mask_targets([[left]], where) | mask_targets([[right]], where))
        assert both[0, 28].nonzero().flatten().tolist() == [*range(14), *range(42, 56)]

    def test_polygons_and_bitmaps_agree_on_a_large_object(self):
        outline = np.array([30.5, 20, 150, 60.5, 120, 170, 40, 140.0])
        where = box(30.5, 20, 150, 170)
        bitmap = torch.from_numpy(rasterise([outline], SIDE, SIDE))[None]
        one, other = mask_targets([[outline]], where), mask_targets(bitmap, where)
        assert (one & other).sum() / (one | other).sum() > 0.97

    def test_the_resolution_can_be_chosen(self):
        assert mask_targets([[np.array([0, 0, 8, 0, 8, 8.0])]], box(0, 0, 8, 8), resolution=28).shape == (1, 28, 28)

    def test_a_box_without_width_is_scaled_as_if_it_had_a_tenth_of_a_pixel(self):
        sliver = np.array([5, 5, 5.05, 5, 5.05, 9, 5, 9])
        result = mask_targets([[sliver]], box(5, 5, 5, 9))
        assert result[0, 28].nonzero().flatten().tolist() == list(range(28))

    def test_a_half_covered_sample_counts_as_mask(self):
        stripes = (torch.arange(8) % 2).expand(1, 8, 8)
        assert mask_targets(stripes, box(0.5, 0, 4.5, 4), resolution=4).all()

    def test_no_instances_give_no_targets(self):
        assert mask_targets([], box()).shape == (0, 56, 56)
        assert mask_targets(torch.zeros((0, 32, 32), dtype=torch.uint8), box()).shape == (0, 56, 56)

    def test_instances_of_a_batch_keep_their_image(self):
        masks = [torch.zeros((count, 56, 56), dtype=torch.bool) for count in (2, 0, 1)]
        joined = InstanceTargets.from_images([box(0, 0, 1, 1, 2, 2, 3, 3), box(), box(4, 4, 5, 5)], masks)
        assert joined.image.tolist() == [0, 0, 2]
        assert joined.boxes[:, 0].tolist() == [0, 2, 4]
        assert joined.masks.shape == (3, 56, 56)
