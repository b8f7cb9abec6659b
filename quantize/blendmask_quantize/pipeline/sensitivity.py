"""How sensitive a network is to the quantization of each layer and block, measured on held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from blendmask_calibration.checks.guard import check_channel_order
from blendmask_calibration.dataset import CalibrationDataset
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.model.macs import macs_by_layer
from blendmask_quantize.model.patterns import Pattern
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.pipeline.calibration_set import CalibrationSet, HoldOut, for_users, load_calibration_set
from blendmask_quantize.pipeline.ground_truth import check_labels, held_out_truth
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.pipeline.settings import CalibrationSettings
from blendmask_quantize.quantization.inputs import NetworkInputs
from blendmask_quantize.quantization.ptq import Calibrated, estimate, observe
from blendmask_quantize.quantization.refine.steps import Given
from blendmask_quantize.quantization.sensitivity.layers import Layer, Layers
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.validation.channel_order import MOST, scores_both_ways
from blendmask_quantize.validation.ground_truth import LABELED
from blendmask_quantize.validation.network_predictor import NetworkPredictor
from blendmask_quantize.validation.sensitivity import Change, measure_changes

_ALL = ""


@dataclass(frozen=True)
class LayerSensitivity:
    """The change when one layer or block alone is quantized.

    Attributes:
        name: of the layer or block; `ignored` takes it.
        macs_share: share of the multiply-accumulates of the network, 0 to 1.
        change: of masks, scores and, with labels, mask AP.
    """

    name: str
    macs_share: float
    change: Change

    def record(self) -> dict[str, Any]:
        """Return all numbers as JSON types."""
        return {"name": self.name, "macs_share": self.macs_share, **self.change.record()}


@dataclass(frozen=True)
class SensitivityReport:
    """Result of `sensitivity`.

    Attributes:
        layers, blocks: most sensitive first.
        together: the change when all of them are quantized.
        float_macs_share: share of the multiply-accumulates that always stay in float, 0 to 1.
        images: number of held-out images.
        ground_truth: source of their instances: "labels" or "the float network".
        variants: whose quantizers were used; changes are means over them.
        warnings: findings of the checks of the images.
    """

    layers: tuple[LayerSensitivity, ...]
    blocks: tuple[LayerSensitivity, ...]
    together: Change
    float_macs_share: float
    images: int
    ground_truth: str
    variants: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return all numbers as JSON types."""
        return {
            "images": self.images, "ground_truth": self.ground_truth, "variants": list(self.variants),
            "float_macs_share": self.float_macs_share, "together": self.together.record(),
            "layers": [layer.record() for layer in self.layers], "blocks": [block.record() for block in self.blocks],
            "warnings": list(self.warnings),
        }  # fmt: skip


@dataclass(frozen=True)
class SensitivityJob:
    """One call of `sensitivity`.

    Attributes:
        checkpoint: the network and its labels.
        dataset: calibration images, some of which are held out.
        annotations: COCO instances JSON of these images; None compares with the float network alone.
        calibration: images and ranges.
        size: height and width of the network input.
        images: how many are held out.
        variants: whose quantizers are used.
        ignored: layers that stay float.
        allow: codes of refusals that are overridden.
        progress: announces stages.
    """

    checkpoint: Checkpoint
    dataset: CalibrationDataset
    annotations: PathLike | None
    calibration: CalibrationSettings
    size: tuple[int, int]
    images: int
    variants: tuple[str, ...]
    ignored: tuple[Pattern, ...]
    allow: tuple[str, ...]
    progress: Progress

    def graph(self, network: nn.Module) -> DeployableGraph:
        """Return the deployable graph around a network."""
        return DeployableGraph(self.checkpoint.model, network, self.size, Bounds()).eval()

    def predictor(self, network: nn.Module) -> NetworkPredictor:
        """Return a predictor that runs a network within the deployable graph."""
        return NetworkPredictor(self.graph(network), self.checkpoint.labels, pad_value(self.checkpoint.config.input))


def measure_sensitivity(job: SensitivityJob) -> SensitivityReport:
    """Calibrate without refinement, then quantize each layer and block alone.

    Raises:
        AnnotationError: the annotations do not fit the images or the network.
        CalibrationError: the guard refuses the images, too few can be held out, or the network detects nothing in them.
        ConfigError: an ignored layer does not exist, or the network has deformable convolutions.
    """
    network = trace_network(job.checkpoint.model, job.ignored)
    check_labels(job.checkpoint, job.dataset, job.annotations)
    images = _read(job, network)
    calibrated = _calibrate(job, network, images)
    data = held_out_truth(job.checkpoint, job.dataset, job.annotations, images, job.predictor(network))
    layers = Layers.of(network, macs_by_layer(job.checkpoint.model, job.size))
    single = {layer.name: (layer,) for layer in layers.quantized}
    blocks = layers.blocks()
    several = {name: members for name, members in blocks.items() if len(members) > 1}
    groups: dict[str, Sequence[Layer]] = {**single, **several, _ALL: layers.quantized}
    on_trial = job.progress("quantizing layers alone", len(groups) * len(job.variants) * len(data.ids))
    with_ap = data.source == LABELED
    rows = Bounds().within(job.checkpoint.config, job.size).detections
    changes = measure_changes(
        calibrated, groups, job.predictor, data, job.variants, on_trial, rows=rows, with_ap=with_ap
    )
    return SensitivityReport(
        _ranked(single, changes, layers), _ranked(blocks, changes, layers), changes[_ALL], layers.float_share(),
        len(data.ids), data.source, job.variants, tuple(str(finding) for finding in images.warnings),
    )  # fmt: skip


def _ranked(
    groups: Mapping[str, Sequence[Layer]], changes: Mapping[str, Change], layers: Layers
) -> tuple[LayerSensitivity, ...]:
    """The groups by falling change; a block of one layer has the change of that layer."""
    sensitivities = [
        LayerSensitivity(name, layers.share(members), changes[name if name in changes else members[0].name])
        for name, members in groups.items()
    ]
    return tuple(sorted(sensitivities, key=lambda one: -one.change.total))


def _read(job: SensitivityJob, network: fx.GraphModule) -> CalibrationSet:
    """The calibration images, checked by the guard, also for the order of their channels."""
    limits = HoldOut(job.images, job.images, 2 / 5, needed=job.images)
    pad = pad_value(job.checkpoint.config.input)
    images = load_calibration_set(job.dataset, job.calibration, job.size, pad, job.progress, job.allow, limits)
    on_image = job.progress("checking channel order", 2 * min(MOST, len(images.images)))
    scores = scores_both_ways(job.graph(network), images.images, on_image)
    return images.checked(check_channel_order(*scores), job.allow)


def _calibrate(job: SensitivityJob, network: fx.GraphModule, images: CalibrationSet) -> Calibrated:
    inputs, on_image = (
        NetworkInputs(job.checkpoint.model, images.images),
        job.progress("calibrating", len(images.images)),
    )
    given = Given(inputs, job.calibration.estimator)
    with for_users():
        histograms = observe(network, inputs, lambda _: on_image())
        return Calibrated(network, estimate(network, histograms, given.first_estimator))
