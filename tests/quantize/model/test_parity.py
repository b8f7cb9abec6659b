"""Inference equals the reference's recorded numbers, every stage of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from blendmask_edge.imaging import sigmoid
from blendmask_edge.instances import Instances
from blendmask_quantize.model.blender import blend, pool_bases
from blendmask_quantize.model.config import InferenceConfig
from blendmask_quantize.model.detect import Candidates, detect, locations, select
from blendmask_quantize.model.labels import default_labels
from blendmask_quantize.model.predictor import TorchPredictor
from tests.quantize.parity import Reference, agreements, run
from tests.recorded import make
from tests.reference_values import CASES, PARITY, SHIPPED, recorded_cases

DTYPES = [torch.float32, torch.float64]
BLENDER = "units/blender.npz"
FOLDERS = {case: PARITY / case for case in recorded_cases()}
if PARITY != SHIPPED:
    FOLDERS["shipped"] = SHIPPED / make.CASE


@pytest.fixture(scope="module")
def nms_units(parity: Path):
    return np.load(parity / "units/nms.npz")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", FOLDERS)
def test_every_stage_agrees(case, dtype):
    reference = Reference(FOLDERS[case])
    compared = agreements(reference, dtype)
    assert {agreement.stage for agreement in compared} == reference.stages() - {"final.mask_uncertain"}
    assert [agreement for agreement in compared if not agreement.holds] == []


def test_every_network_was_compared():
    missing = [case for case in CASES if case not in FOLDERS]
    if missing:
        pytest.skip(f"the recorded numbers of {', '.join(missing)} are not beside this checkout")


@pytest.mark.parametrize("case", FOLDERS)
class TestTheWholeWay:
    @pytest.mark.slow
    def test_from_the_image_of_the_file_to_its_masks(self, case):
        """Resized by our code, to boxes and masks in the image; no pixel of any mask differs."""
        reference = Reference(FOLDERS[case])
        instances = TorchPredictor(reference.model(torch.float32), default_labels(12))(reference.images[0])
        boxes, classes = reference.stored["final.box"], reference.stored["final.class"]
        partners = nearest(instances, boxes, classes)
        assert sorted(partners) == list(range(len(instances)))
        np.testing.assert_allclose(instances.boxes[partners], boxes, rtol=0, atol=5e-3)
        np.testing.assert_allclose(instances.scores[partners], reference.stored["final.score"], rtol=0, atol=3e-5)
        certain = ~reference.masks("final.mask_uncertain")
        assert not ((instances.masks[partners] != reference.masks("final.mask")) & certain).any()

    @pytest.mark.slow
    def test_detect_is_the_stages_in_a_row(self, case):
        reference = Reference(FOLDERS[case])
        model = reference.model(torch.float64)
        result = detect(model, reference.network_input(model))
        staged = run(reference, torch.float64)
        rank = np.argsort(-staged["det.score"])
        np.testing.assert_array_equal(result.candidates.scores, staged["det.score"][rank])
        np.testing.assert_array_equal(result.candidates.boxes, staged["det.box"][rank])
        np.testing.assert_allclose(result.mask_logits, staged["det.mask_logits"][rank], atol=1e-12)


def nearest(instances: Instances, boxes: np.ndarray, classes: np.ndarray) -> list[int]:
    """The found instance of its class whose box is nearest to each box."""
    apart = np.abs(boxes[:, None] - instances.boxes[None]).max(axis=2)
    apart[classes[:, None] != instances.class_ids[None]] = np.inf
    return apart.argmin(axis=1).tolist()


@pytest.mark.skipif(PARITY == SHIPPED, reason="the whole recording is not beside this checkout")
def test_the_shipped_case_is_part_of_the_recording():
    shipped, whole = SHIPPED / make.CASE, PARITY / make.CASE
    result, expected = np.load(shipped / "inference.npz"), make.sampled(dict(np.load(whole / "inference.npz")))
    assert set(result.files) == set(expected)
    assert all(np.array_equal(result[name], values) for name, values in expected.items())
    assert (shipped / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    np.testing.assert_array_equal(Reference(shipped).images[0], Reference(whole).images[0])


class TestSelection:
    @pytest.mark.parametrize("case, threshold", [("a", 0.6), ("b", 0.6), ("c", 0.5)])
    def test_suppression(self, nms_units, case, threshold):
        result = self.as_candidates(nms_units, case)
        kept = select(result, InferenceConfig(nms_threshold=threshold, detections=0))
        assert kept.location.tolist() == nms_units[f"{case}.keep"].tolist()

    def test_equal_scores_at_the_cut_are_all_kept(self, nms_units):
        kept = select(self.as_candidates(nms_units, "topk_ties"), InferenceConfig(detections=10))
        np.testing.assert_array_equal(kept.scores, nms_units["topk_ties.kept_scores"])
        order = [np.lexsort(boxes.T) for boxes in (kept.boxes.numpy(), nms_units["topk_ties.kept_boxes"])]
        np.testing.assert_array_equal(kept.boxes[order[0]], nms_units["topk_ties.kept_boxes"][order[1]])

    @staticmethod
    def as_candidates(recorded, case: str) -> Candidates:
        boxes, scores = (torch.from_numpy(recorded[f"{case}.{name}"]) for name in ("boxes", "scores"))
        name = f"{case}.classes"
        classes = (
            torch.from_numpy(recorded[name]).long() if name in recorded else torch.zeros(len(scores), dtype=torch.int64)
        )
        return Candidates(torch.zeros_like(classes), torch.arange(len(scores)), classes, scores, boxes)


@pytest.mark.skipif(not (PARITY / BLENDER).exists(), reason="the recorded blends are not beside this checkout")
@pytest.mark.parametrize("size", [14, 7])
class TestBlender:
    @pytest.mark.parametrize("dtype, allowed", [(DTYPES[0], 5e-4), (DTYPES[1], 1e-5)])
    def test_blending(self, parity, size, dtype, allowed):
        pooled, vectors, wanted = self.recorded(parity, f"merge.m{size}", dtype, "rois", "coeffs", "logits")
        assert (blend(pooled, vectors, size) - wanted).abs().max() <= allowed * wanted.abs().max()

    @pytest.mark.parametrize("dtype, allowed", [(DTYPES[0], 5e-4), (DTYPES[1], 1e-5)])
    def test_pooling(self, parity, size, dtype, allowed):
        bases, boxes, wanted = self.recorded(parity, f"full.m{size}", dtype, "bases", "boxes", "roi_bases")
        pooled = pool_bases(bases, boxes, torch.zeros(len(boxes), dtype=torch.int64))
        assert (pooled[:, :, ::3, ::3] - wanted).abs().max() <= allowed * wanted.abs().max()

    @pytest.mark.parametrize("dtype, allowed", [(DTYPES[0], 1e-3), (DTYPES[1], 1e-5)])
    def test_pooling_and_blending(self, parity, size, dtype, allowed):
        bases, boxes, vectors = self.recorded(parity, f"full.m{size}", dtype, "bases", "boxes", "top_feat")
        pooled = pool_bases(bases, boxes, torch.zeros(len(boxes), dtype=torch.int64))
        result = sigmoid(blend(pooled, vectors, size).numpy())
        (wanted,) = self.recorded(parity, f"full.m{size}", dtype, "mask_prob")
        assert np.abs(result - wanted.numpy()).max() <= allowed

    @staticmethod
    def recorded(parity: Path, case: str, dtype: torch.dtype, *names: str) -> list[torch.Tensor]:
        arrays = np.load(parity / BLENDER)
        return [torch.from_numpy(arrays[f"{case}.{name}"]).to(dtype) for name in names]


def test_locations_are_row_major_centers(parity):
    recorded = json.loads((parity / "units/units.json").read_text())
    assert locations(3, 4, 16).tolist() == recorded["locations_h3_w4_stride16_xy"]
