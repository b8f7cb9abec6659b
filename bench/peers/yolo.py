"""YOLO for instance segmentation as a peer: its network alone, random weights, under OpenVINO.

The packages are optional: ultralytics (AGPL-3.0, which nothing here is made from) and NNCF, which makes INT8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.lib.limits import timed
from bench.peers.packages import package
from blendmask_edge.imaging import preprocess

PRECISIONS = ("f32", "bf16", "int8")


def open_peer(
    precision: str, name: str, size: tuple[int, int], images: Sequence[NDArray[np.uint8]], threads: int,
    folder: Path | None = None,
) -> Callable[[], float]:  # fmt: skip
    """A function that runs the network once and returns the milliseconds that it took.

    Args:
        precision: one of `PRECISIONS`.
        name: of the network, as in "yolo26n-seg".
        size: height and width of its input.
        images: (H, W, 3) uint8 RGB, from which NNCF takes ranges.
        threads: of OpenVINO.
        folder: where networks are kept once they are made; None keeps none.

    Raises:
        MissingPeerError: a package is not installed.
    """
    inputs = [_network_input(image, size) for image in images]
    network = _kept(folder, f"{name}-float", lambda: _network(name, size))
    if precision == "int8":
        float_network = network
        network = _kept(folder, f"{name}-int8", lambda: _quantized(float_network, inputs))
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **hint}
    request = package("openvino").Core().compile_model(network, "CPU", properties).create_infer_request()

    def run(given: Any) -> dict[str, NDArray[Any]]:
        request.infer(given, share_inputs=True)
        return {}

    return lambda: timed(run, {0: inputs[0]})  # type: ignore[dict-item]


def _kept(folder: Path | None, name: str, make: Callable[[], Any]) -> Any:
    """A network of OpenVINO, from the folder if it is there."""
    if folder is None:
        return make()
    path, openvino = folder / f"{name}.xml", package("openvino")
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        openvino.save_model(make(), path, compress_to_fp16=False)
    return openvino.Core().read_model(path)


def _quantized(network: Any, inputs: list[NDArray[np.float32]]) -> Any:
    nncf = package("nncf")
    return nncf.quantize(network, nncf.Dataset(inputs), subset_size=len(inputs))


def _network(name: str, size: tuple[int, int]) -> Any:
    """The network with seeded random weights as an OpenVINO model, in the form that its exporter gives it."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    ultralytics = package("ultralytics")
    torch.manual_seed(0)
    network = ultralytics.YOLO(f"{name}.yaml").model.float().eval().fuse(verbose=False)
    for module in network.modules():
        if hasattr(module, "export"):
            module.export, module.format, module.dynamic = True, "openvino", False
    example = torch.zeros(1, 3, *size)
    with torch.no_grad():
        network(example)
        model = package("openvino").convert_model(network, example_input=example)
    model.reshape([1, 3, *size])
    return model


def _network_input(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    planes = preprocess(image, size, (114, 114, 114)).image.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(planes, np.float32) / np.float32(255)
