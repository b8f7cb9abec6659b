"""The float network as a predictor: any image in, instances in the image's own pixels out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blendmask_edge.errors import ConfigError, ImageError
from blendmask_edge.imaging import preprocess, resize, resized_size
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import CONFIGS
from blendmask_quantize.model.detect import detect
from blendmask_quantize.model.predictor import TorchPredictor, pad_value
from tests.quantize.tiny import LABELS, TINY, tiny_model


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> BlendMask:
    return tiny_model()


@pytest.fixture(scope="module")
def predict(model: BlendMask) -> TorchPredictor:
    return TorchPredictor(model, LABELS)


def input_of(predict: TorchPredictor, image: np.ndarray) -> Tensor:
    """What the network is given for an image."""
    seen: list[Tensor] = []
    backbone = predict.model.backbone
    handle = backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        predict(image)
    finally:
        handle.remove()
    return seen[0]


class TestInput:
    @given(height=st.integers(1, 700), width=st.integers(1, 700))
    def test_it_is_resized_as_the_reference_does_then_padded_with_zeros(self, predict, model, height, width):
        image = noise(height, width)
        size = resized_size(height, width, TINY.input.test_short, TINY.input.test_long)
        resized = torch.from_numpy(resize(image, size)).permute(2, 0, 1)[None]
        found = input_of(predict, image)
        assert found.shape[2:] == tuple(-(-side // 32) * 32 for side in size)
        torch.testing.assert_close(found[:, :, : size[0], : size[1]], model.normalize(resized), rtol=0, atol=0)
        assert not found[:, :, size[0] :].any()
        assert not found[..., size[1] :].any()

    def test_channels_follow_the_configuration(self):
        model = tiny_model(replace(TINY, input=replace(TINY.input, channels="bgr")))
        predict = TorchPredictor(model, LABELS)
        image = np.broadcast_to(np.array([127, 127, 255], np.uint8), (64, 96, 3)).copy()
        assert input_of(predict, image)[0, :, 5, 5].tolist() == [2, 0, 0]

    @given(height=st.integers(1, 400), width=st.integers(1, 400))
    def test_with_a_size_it_is_fitted_as_a_bundle_does(self, model, height, width):
        image = noise(height, width)
        fitted = TorchPredictor(model, LABELS, size=(64, 96))
        prepared = preprocess(image, (64, 96), pad_value(TINY.input))
        expected = model.normalize(torch.from_numpy(prepared.image).permute(0, 3, 1, 2))
        torch.testing.assert_close(input_of(fitted, image), expected, rtol=0, atol=0)

    def test_a_size_beside_the_divisor_is_padded_to_it(self, model):
        fitted = TorchPredictor(model, LABELS, size=(50, 70))
        assert input_of(fitted, noise(100, 140)).shape == (1, 3, 64, 96)

    def test_a_size_without_pixels_is_refused(self, model):
        with pytest.raises(ConfigError, match="input size is 0x96: give height and width"):
            TorchPredictor(model, LABELS, (0, 96))(noise(64, 96))


class TestClipping:
    """An object that leaves the image: its mask is that of the whole box, or of the visible part."""

    def test_the_configuration_chooses_and_the_caller_overrules(self, model):
        clipped = replace(TINY, inference=replace(TINY.inference, clip_before_pooling=True))
        other, image = tiny_model(clipped), noise(64, 96)
        whole, part = TorchPredictor(model, LABELS)(image), TorchPredictor(other, LABELS)(image)
        assert len(whole) == len(part) > 10
        assert not np.array_equal(whole.mask_logits, part.mask_logits)
        for found, wanted in (
            (TorchPredictor(model, LABELS, clip_before_pooling=True)(image), part),
            (TorchPredictor(other, LABELS, clip_before_pooling=False)(image), whole),
        ):
            np.testing.assert_array_equal(found.mask_logits, wanted.mask_logits)
            np.testing.assert_array_equal(found.boxes, wanted.boxes)

    def test_only_boxes_over_the_border_change(self, model):
        image = noise(64, 96)
        whole, part = (TorchPredictor(model, LABELS, clip_before_pooling=clip)(image) for clip in (False, True))
        np.testing.assert_array_equal(whole.boxes, part.boxes)
        boxes = detect(model, model.normalize(torch.from_numpy(image).permute(2, 0, 1)[None])).candidates.boxes
        boxes = boxes[(boxes[:, 2] > 0) & (boxes[:, 3] > 0) & (boxes[:, 0] < 96) & (boxes[:, 1] < 64)]
        inside = ((boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= 96) & (boxes[:, 3] <= 64)).numpy()
        assert 0 < inside.sum() < len(inside) == len(whole)
        same = (whole.mask_logits == part.mask_logits).all(axis=(1, 2))
        assert same[inside].all()
        assert not same[~inside].all()

    def test_padding_is_outside_the_image(self, model):
        """An image of 50 x 70 in an input of 64 x 96: what lies below row 50 is cut off too."""
        x = model.normalize(torch.from_numpy(noise(64, 96)).permute(2, 0, 1)[None])
        boxes = detect(model, x, (50, 70), clip_before_pooling=True).candidates.boxes
        assert boxes[:, 2:].amax(dim=0).tolist() == [70, 50]
        assert (boxes <= torch.tensor([70, 50, 70, 50])).all()
        assert boxes.min() == 0

    def test_ours_clips_and_the_released_ones_do_as_the_reference(self):
        assert {n for n, config in CONFIGS.items() if config.inference.clip_before_pooling} == {"LITE0_RT"}


class TestInstances:
    def test_a_image_of_the_network_size_gives_what_the_network_found(self, predict, model):
        image = noise(64, 96)
        instances = predict(image)
        found = detect(model, model.normalize(torch.from_numpy(image).permute(2, 0, 1)[None]))
        clipped = found.candidates.boxes.clamp(min=0).minimum(torch.tensor([96.0, 64, 96, 64]))
        visible = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(dim=1)
        assert visible.sum() > 10
        np.testing.assert_allclose(instances.boxes, clipped[visible], atol=1e-4)
        np.testing.assert_array_equal(instances.class_ids, found.candidates.class_id[visible])
        np.testing.assert_allclose(instances.mask_logits, found.mask_logits[visible], atol=1e-4)

    @pytest.mark.parametrize("factor", [2, 3])
    def test_boxes_are_in_pixels_of_the_image(self, predict, factor):
        """A flat image looks the same to the network at every size."""
        small = predict(np.full((64, 96, 3), 90, np.uint8))
        large = predict(np.full((64 * factor, 96 * factor, 3), 90, np.uint8))
        assert len(small) == len(large) > 0
        np.testing.assert_allclose(large.boxes, small.boxes * factor, atol=1e-3)
        assert large.masks.shape == (len(small), 64 * factor, 96 * factor)

    def test_each_side_has_its_own_scale(self, predict):
        """1000 x 10 pixels become 96 x 1, which is what an image of that size stays."""
        thin, tiny = (predict(np.full((*size, 3), 90, np.uint8)) for size in ((1000, 10), (96, 1)))
        assert len(thin) == len(tiny) > 0
        scale = np.array([10, 1000 / 96] * 2)
        np.testing.assert_allclose(thin.boxes, tiny.boxes * scale, atol=1e-3)

    @given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 9))
    def test_results_lie_inside_the_image_in_descending_order(self, predict, height, width, seed):
        instances = predict(noise(height, width, seed))
        assert instances.image_size == (height, width)
        x0, y0, x1, y1 = instances.boxes.T
        assert ((x0 >= 0) & (x0 < x1) & (x1 <= width) & (y0 >= 0) & (y0 < y1) & (y1 <= height)).all()
        assert (np.diff(instances.scores) <= 0).all()
        assert (instances.scores > np.sqrt(TINY.inference.score_threshold)).all()
        assert instances.masks.shape == (len(instances), height, width)

    def test_names_and_category_ids_are_those_of_the_labels(self, predict):
        instances = predict(noise(64, 96))
        assert set(instances.class_names) <= set(LABELS.names)
        assert {result["category_id"] for result in instances.to_coco(7)} <= set(LABELS.category_ids)

    @pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (6000, 8000)])
    def test_images_of_every_size(self, predict, size):
        assert predict(np.full((*size, 3), 120, np.uint8)).image_size == size


@pytest.mark.parametrize("image, found", [
    (np.zeros((64, 96), np.uint8), r"\(64, 96\)"),
    (np.zeros((64, 96, 4), np.uint8), r"\(64, 96, 4\)"),
    (np.zeros((64, 96, 1), np.uint8), r"\(64, 96, 1\)"),
    (np.zeros((64, 96, 3), np.uint16), "uint16"),
    (np.zeros((64, 96, 3), np.float32), "float32"),
    (np.zeros((0, 96, 3), np.uint8), "96 x 0"),
    ("image.jpg", "str"),
    (None, "NoneType"),
])  # fmt: skip
def test_what_is_no_image_is_refused(predict, image, found):
    with pytest.raises(ImageError, match=found):
        predict(image)
