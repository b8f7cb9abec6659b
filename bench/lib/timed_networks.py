"""Prepare networks for the speed study: ten instances on one image, in a bundle with the graphs to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from bench.lib.float_baseline import DENSE, DenseGraph
from blendmask_edge.bundle import InputSpec, Manifest, Recipe, write_bundle
from blendmask_edge.bundle.manifest import GraphEntry, Nms
from blendmask_edge.imaging import preprocess
from blendmask_quantize import load_checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import OPSET, export_onnx
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import get_config
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.quantization.ptq import observe_ranges, render
from blendmask_quantize.quantization.quantizer import IntegerConv2d
from blendmask_quantize.quantization.trace import trace_network

FLOAT, INT8 = "float", "int8"
"""The float graph, and the `cpu` variant."""
INSTANCES = 10
_BISECTIONS = 60
_BOX_SIDES = 3.0


@dataclass(frozen=True)
class TimedNetwork:
    """The timed forms of a network.

    Attributes:
        bundle: holds the graphs, as variants.
        graphs: by name, `DENSE`, `FLOAT` and `INT8`.
        size: height and width of the network input.
    """

    bundle: Path
    graphs: Mapping[str, onnx.ModelProto]
    size: tuple[int, int]


def random_network(name: str) -> BlendMask:
    """A configuration with seeded random weights, whose boxes have a few strides a side."""
    torch.manual_seed(0)
    model = BlendMask(get_config(name)).eval()
    bias = model.proposal_generator.fcos_head.bbox_pred.bias
    assert bias is not None
    nn.init.constant_(bias, _BOX_SIDES)
    return model


def trained_network(checkpoint: Path) -> BlendMask:
    """The network of a checkpoint."""
    return load_checkpoint(checkpoint).model


def timed_network(model: BlendMask, size: tuple[int, int], image: NDArray[np.uint8], bundle: Path) -> TimedNetwork:
    """Export the graphs of a network, each with the class bias that lets ten instances of the image pass.

    Args:
        model: the network.
        size: height and width of its input.
        image: (H, W, 3) uint8 RGB; it also gives the ranges.
        bundle: where the bundle goes.
    """
    prepared = torch.from_numpy(preprocess(image, size, pad_value(model.config.input)).image)
    traced = trace_network(model)
    x = model.normalize(prepared.permute(0, 3, 1, 2))
    rounded = render(traced, observe_ranges(traced, [x], "max"), "cpu")
    kinds: dict[str, tuple[type[DeployableGraph], fx.GraphModule]] = {
        DENSE: (DenseGraph, traced), FLOAT: (DeployableGraph, traced), INT8: (DeployableGraph, rounded),
    }  # fmt: skip
    for network in (traced, rounded):
        _let_pass(model, network, size, x)
    graphs = {
        name: export_onnx(kind(model, network, size, Bounds(), live_rows=True).eval())
        for name, (kind, network) in kinds.items()
    }
    _write(model, size, graphs, bundle)
    return TimedNetwork(bundle, graphs, size)


@torch.no_grad()
def _let_pass(model: BlendMask, network: fx.GraphModule, size: tuple[int, int], x: Tensor) -> None:
    """Shift the biases of the class logits of `network` so that ten instances pass, or as many as come nearest."""
    graph, predictions = DeployableGraph(model, nn.Identity(), size, Bounds()), network(x)
    low, high = -100.0, 100.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        shifted = predictions._replace(logits=tuple(logits + middle for logits in predictions.logits))
        passed = int((graph.suppress(graph.select(shifted)).score > 0).sum())
        if passed == INSTANCES:
            break
        low, high = (middle, high) if passed < INSTANCES else (low, middle)
    for name, module in network.named_modules():
        if "cls_logits" in name and isinstance(module, (nn.Conv2d, IntegerConv2d)) and module.bias is not None:
            _shift(module, middle)


def _shift(predictor: nn.Conv2d | IntegerConv2d, amount: float) -> None:
    """Add `amount` to the bias of a convolution."""
    assert predictor.bias is not None
    if isinstance(predictor, IntegerConv2d) and predictor.has_integer_bias:
        predictor.bias += (amount / predictor.bias_scale).round().to(torch.int32)
    else:
        predictor.bias += amount


def _write(model: BlendMask, size: tuple[int, int], graphs: Mapping[str, onnx.ModelProto], bundle: Path) -> None:
    config, bounds = model.config, Bounds().within(model.config, size)
    files = {name: graph.SerializeToString() for name, graph in graphs.items()}
    manifest = Manifest(
        model=config.name,
        config=msgspec.to_builtins(config),
        input=InputSpec(height=size[0], width=size[1], pad_value=pad_value(config.input)),
        classes=[str(number) for number in range(config.num_classes)],
        category_ids=list(range(1, config.num_classes + 1)),
        recipe=Recipe(name="speed", version="1"),
        graphs={name: GraphEntry.describe(name, data, opset=OPSET, precision=name) for name, data in files.items()},
        ranges_sha256=hashlib.sha256(b"").hexdigest(),
        nms=Nms(
            candidates=bounds.candidates,
            rounds=bounds.rounds,
            iou_threshold=config.inference.nms_threshold,
            per_level_top=config.inference.candidates_per_level,
        ),
        score_threshold=0.0,
        threshold_input=True,
        detections=bounds.detections,
        mask_size=config.resolution,
        license="Apache-2.0",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        generator="bench",
    )
    write_bundle(bundle, manifest, files)
