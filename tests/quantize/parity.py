"""How closely the network agrees with the reference's recorded numbers, stage by stage.

Free of the test runner, so that a study can publish the same numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blendmask_edge import read_image
from blendmask_edge.bundle.tensors import Outputs
from blendmask_edge.imaging import ImageTransform, resize, sigmoid
from blendmask_edge.instances import Instances
from blendmask_quantize.checkpoints.adelaidet_configs import config_from_authors
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint
from blendmask_quantize.model.blender import blend, pool_bases
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.detect import Candidates, attention, candidates, locations, select
from blendmask_quantize.model.labels import default_labels
from blendmask_quantize.model.nms import suppress

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Tolerance:
    """Largest error in float32 and float64; of the largest recorded magnitude where `relative`."""

    single: float
    double: float
    relative: bool = False


FEATURES = Tolerance(5e-5, 1e-6, relative=True)
DEFORMABLE_FEATURES = Tolerance(2e-4, 1e-6, relative=True)
LOGITS = Tolerance(5e-4, 1e-5, relative=True)
SCORES = Tolerance(3e-5, 1e-7)
BOXES = Tolerance(5e-3, 1e-4)
PROBABILITIES = Tolerance(1e-3, 1e-5)
EXACT = Tolerance(0, 0)

_BY_LAST_NAME = {
    "score": SCORES, "scores_all": SCORES, "box": BOXES, "roi_bases": LOGITS, "mask_logits": LOGITS,
    "mask_prob": PROBABILITIES, "mask_bce_mean": LOGITS,
}  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """One recorded array beside ours.

    Attributes:
        stage: its name in `inference.npz`.
        error: largest error, as the tolerance measures it; for exact arrays the number of elements that differ;
            infinite where the shapes do.
        allowed: the most it may be.
    """

    stage: str
    error: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the error is within what is allowed."""
        return self.error <= self.allowed

    @property
    def error_over_allowed(self) -> float:
        """The error as a share of what is allowed, at most 1 where it holds; infinite for exact arrays that differ."""
        if self.allowed:
            return self.error / self.allowed
        return 0.0 if self.holds else float("inf")


@dataclass(frozen=True)
class Reference:
    """The recorded inference of one case."""

    folder: Path

    @cached_property
    def stored(self) -> Arrays:
        """Arrays as they lie in the file, samples and packed bits included."""
        return dict(np.load(self.folder / "inference.npz"))

    @cached_property
    def about(self) -> dict[str, Any]:
        """Sizes, and shape and largest magnitude of every array."""
        return self.json("inference.json")

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the case."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @property
    def config(self) -> ModelConfig:
        """The case's configuration; what its recording says of DLA's widths has no key in the reference."""
        keys = self.json("config.json")
        config = config_from_authors(keys, self.folder.name)
        widths = keys.get("dla34_reduced_level_channels", config.backbone.level_widths)
        return replace(config, backbone=replace(config.backbone, level_widths=tuple(widths)))

    def checkpoint(self) -> Checkpoint:
        """The case's network with its weights, in evaluation mode."""
        return load_checkpoint(self.folder / "weights.safetensors", self.config)

    def model(self, dtype: torch.dtype) -> BlendMask:
        """The network of `checkpoint` in `dtype`."""
        return self.checkpoint().model.to(dtype)

    @cached_property
    def images(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The image, and what the reference resized it to: (H, W, 3) uint8 RGB."""
        if (self.folder / "image.npz").exists():
            arrays = np.load(self.folder / "image.npz")
            return arrays["rgb_original"], np.ascontiguousarray(arrays["bgr_resized"][..., ::-1])
        image = read_image(self.folder / "image.png")
        return image, resize(image, tuple(self.about["resized_hw"]))

    def network_input(self, model: BlendMask) -> Tensor:
        """The resized image, normalized and zero padded at the right and bottom, (1, 3, H, W)."""
        x = model.normalize(torch.from_numpy(self.images[1]).permute(2, 0, 1)[None])
        height, width = self.about["padded_hw"]
        return torch.nn.functional.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))

    def stages(self) -> set[str]:
        """Names of everything that was recorded."""
        return {name.removesuffix(end) for name in self.stored for end in _ends(name)}

    def masks(self, name: str) -> NDArray[np.bool_]:
        """A packed array of booleans."""
        shape = self.about["arrays"][name]["shape"]
        return np.unpackbits(self.stored[f"{name}.packed"], count=int(np.prod(shape))).reshape(shape).astype(bool)


def _ends(name: str) -> tuple[str, ...]:
    ends = tuple(end for end in (".idx", ".val", ".packed", ".first10") if name.endswith(end))
    return ends or ("",)


def agreements(reference: Reference, dtype: torch.dtype) -> list[Agreement]:
    """Run the network on the recorded image and compare every stage."""
    return [compare(reference, stage, ours, dtype) for stage, ours in run(reference, dtype).items()]


@torch.no_grad()
def run(reference: Reference, dtype: torch.dtype) -> Arrays:
    """Our values of every stage by its recorded name, detections in the recorded order."""
    model = reference.model(dtype)
    x = reference.network_input(model)
    arrays, predictions = features(model, x)
    config = model.config
    result = candidates(predictions, config.head.strides, config.inference)
    survivors = result[suppress(result.boxes, result.scores, result.class_id, config.inference.nms_threshold)]
    kept = _in_recorded_order(reference, select(result, config.inference), predictions, config.head.strides)
    arrays |= _described("cand", _canonical(result), predictions, config.head.strides)
    arrays |= {"nms.num_before_topk": np.array(len(survivors.scores))}
    arrays |= _numbers(**{"nms.scores_all": survivors.scores.sort(descending=True).values})
    detected = _described("det", kept, predictions, config.head.strides) | _masks(model, predictions, kept)
    del detected["det.loc_index"]
    return arrays | detected | _final(reference, detected)


def features(model: BlendMask, x: Tensor) -> tuple[Arrays, Predictions]:
    """Outputs of backbone, pyramid, basis module and head by their recorded names, the dense attention included."""
    caught = _watch(model)
    predictions = model(x)
    pyramid = caught.pop("pyramid").levels
    attention = [_dense_attention(model, tower) for tower in predictions.towers]
    maps = {
        "fpn": pyramid, "head.logits": predictions.logits, "head.reg": predictions.regression,
        "head.ctr": predictions.centerness, "head.top": attention,
    }  # fmt: skip
    levels = {f"{name}.p{i + 3}": level for name, of_level in maps.items() for i, level in enumerate(of_level)}
    semantic = model.basis_module.semantic(pyramid[0]) if predictions.semantic is None else predictions.semantic
    assert semantic is not None, "every recorded network has the semantic head"
    bases = {"basis.bases": predictions.bases, "basis.seg_logits": semantic}
    return _numbers(input=x, **caught, **levels, **bases), predictions


def _watch(model: BlendMask) -> dict[str, Any]:
    """What backbone, pyramid, basis module and towers return from now on, by name."""
    caught: dict[str, Any] = {}

    def watch(module: nn.Module, name: str) -> None:
        module.register_forward_hook(lambda _, __, output: caught.update({name: output}))

    def watch_tower(tower: nn.Module, name: str) -> None:
        tower.register_forward_hook(lambda _, inputs, output: caught.update({f"{name}.p{inputs[1] + 3}": output}))

    for part, module in model.backbone.bottom_up.named_children():
        watch(module, f"bottom_up.{part}")
    for index in range(3):
        watch(model.basis_module.get_submodule(f"refine.{index}"), f"basis.refine{index}")
    tower = model.basis_module.get_submodule("tower")
    tower.register_forward_pre_hook(lambda _, inputs: caught.update({"basis.sum": inputs[0]}))
    watch(model.backbone, "pyramid")
    for name in ("share_tower", "cls_tower", "bbox_tower"):
        tower = model.proposal_generator.fcos_head.get_submodule(name)
        if len(list(tower.children())):
            watch_tower(tower, f"head.{name}")
    return caught


def _dense_attention(model: BlendMask, tower: Tensor) -> Tensor:
    assert model.top_layer is not None, "every recorded network has attention"
    return model.top_layer(tower)


def _described(name: str, result: Candidates, predictions: Predictions, strides: tuple[int, ...]) -> Arrays:
    """Level, location, position, class, score and box of candidates."""
    positions = result.boxes.new_zeros((len(result.level), 2))
    for level, stride in enumerate(strides):
        mine = result.level == level
        height, width = predictions.logits[level].shape[-2:]
        positions[mine] = locations(height, width, stride)[result.location[mine]].to(positions)
    parts = {
        "level": result.level, "loc_index": result.location, "loc_xy": positions, "class": result.class_id,
        "score": result.scores, "box": result.boxes,
    }  # fmt: skip
    return _numbers(**{f"{name}.{part}": value for part, value in parts.items()})


def _canonical(result: Candidates) -> Candidates:
    order = np.lexsort((result.class_id.numpy(), result.location.numpy(), result.level.numpy()))
    return result[torch.from_numpy(order)]


def _in_recorded_order(
    reference: Reference, kept: Candidates, predictions: Predictions, strides: tuple[int, ...]
) -> Candidates:
    """Detections in the recorded order, which near-equal scores may swap; untouched where their number differs."""
    stored = reference.stored
    if len(kept.scores) != len(stored["det.score"]):
        return kept
    ours = _described("det", kept, predictions, strides)
    rank = [
        np.lexsort((a["det.class"], a["det.loc_xy"][:, 0], a["det.loc_xy"][:, 1], a["det.level"]))
        for a in (ours, stored)
    ]
    order = np.empty(len(rank[0]), np.int64)
    order[rank[1]] = rank[0]
    return kept[torch.from_numpy(order)]


def _masks(model: BlendMask, predictions: Predictions, kept: Candidates) -> Arrays:
    """Attention, pooled bases and blended masks of the detections."""
    vectors = attention(model, predictions, kept)
    pooled = pool_bases(predictions.bases, kept.boxes, torch.zeros_like(kept.level), model.config.resolution)
    logits = blend(pooled, vectors, model.config.attention_size)
    arrays = _numbers(**{"det.top_feat": vectors, "det.roi_bases": pooled, "det.mask_logits": logits})
    return arrays | {"det.mask_prob": sigmoid(arrays["det.mask_logits"])}


def _final(reference: Reference, detected: Arrays) -> Arrays:
    """Instances of the original image, made from the detections."""
    (height, width), resized = reference.about["original_hw"], reference.about["resized_hw"]
    boxes, scores, logits = (detected[f"det.{name}"].astype(np.float32) for name in ("box", "score", "mask_logits"))
    parts: list[NDArray[Any]] = [boxes, scores, detected["det.class"].astype(np.int32), logits]
    outputs = Outputs(*(part[None] for part in parts))
    labels = default_labels(12)
    transform = ImageTransform((height, width), (resized[0], resized[1]))
    instances = Instances.from_outputs(outputs, transform, labels)
    keep = np.flatnonzero(np.isin(scores, instances.scores))
    rows = np.argsort(np.argsort(-scores[keep], kind="stable"))
    ordered = instances[rows]
    return {
        "final.keep": keep, "final.box": ordered.boxes, "final.score": ordered.scores, "final.class": ordered.class_ids,
        "final.mask": ordered.masks,
    }  # fmt: skip


def _numbers(**tensors: Tensor) -> Arrays:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def compare(reference: Reference, stage: str, ours: NDArray[Any], dtype: torch.dtype) -> Agreement:
    """How closely our values of one stage agree with the recorded ones, computed in `dtype`."""
    if stage == "final.mask":
        return Agreement(stage, _differing_pixels(reference, ours), 0)
    recorded = reference.stored
    tolerance = _tolerance(stage, reference)
    allowed = tolerance.double if dtype == torch.float64 else tolerance.single
    if list(ours.shape) != reference.about["arrays"][stage]["shape"]:
        return Agreement(stage, float("inf"), allowed)
    pairs = [(ours, recorded[stage])] if stage in recorded else []
    if f"{stage}.idx" in recorded:
        pairs.append((ours.flatten()[recorded[f"{stage}.idx"]], recorded[f"{stage}.val"]))
    if f"{stage}.first10" in recorded:
        pairs.append((ours[:10], recorded[f"{stage}.first10"]))
    if tolerance is EXACT:
        return Agreement(stage, float(sum((mine != theirs).sum() for mine, theirs in pairs)), allowed)
    error = max(float(np.abs(mine.astype(np.float64) - theirs).max()) for mine, theirs in pairs)
    return Agreement(
        stage, error / reference.about["arrays"][stage]["absmax"] if tolerance.relative else error, allowed
    )


def _tolerance(stage: str, reference: Reference) -> Tolerance:
    part, recorded = stage.rpartition(".")[2], reference.stored
    if part in _BY_LAST_NAME:
        return _BY_LAST_NAME[part]
    if part == "loc_xy" or (stage in recorded and recorded[stage].dtype == np.int32):
        return EXACT
    return DEFORMABLE_FEATURES if reference.config.backbone.deform_stages else FEATURES


def _differing_pixels(reference: Reference, masks: NDArray[np.bool_]) -> float:
    expected = reference.masks("final.mask")
    if masks.shape != expected.shape:
        return float("inf")
    return float(((masks != expected) & ~reference.masks("final.mask_uncertain")).sum())
