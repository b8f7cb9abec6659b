"""A graph's own values behind each rounding, so that its rendering in torch is compared layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, constant_inputs
from blendmask_quantize.export.parity import unoptimised_session
from blendmask_quantize.export.torch_tensorrt.rounding import round_to_steps


@dataclass
class Fed:
    """Rounds, and hands on the ONNX graph's own value, so that a sum near a tie does not decide all that follows."""

    values: list[NDArray[np.float32]]
    weights: int = 0
    error: float = 0.0
    used: int = field(default=0)

    def __call__(self, x: Tensor, scale: Tensor) -> Tensor:
        if scale.ndim:
            self.weights += 1
            return round_to_steps(x, scale)
        theirs = torch.from_numpy(self.values[self.used])
        self.used += 1
        steps = (x / scale).clamp(-128, 127) - theirs / scale
        self.error = max(self.error, steps.abs().max().item() - 0.5)
        return theirs


def run_onnx(model: onnx.ModelProto, image: NDArray[np.uint8]) -> tuple[list[Any], list[NDArray[np.float32]]]:
    """Outputs of the graph without optimizations, and what each rounding of an activation gives."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    names = [n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in rounded]
    opened.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    results = unoptimised_session(opened.SerializeToString()).run(
        [*OUTPUT_NAMES, *names], {INPUT_NAME: image, **constant_inputs()}
    )
    return results[: len(OUTPUT_NAMES)], results[len(OUTPUT_NAMES) :]


def rows_in_order(outputs: list[Any]) -> NDArray[np.int64]:
    """Rows by score, those with the same by box: locations whose integers are equal come in either order."""
    boxes, scores = outputs[0][0].round(2), outputs[1][0].round(4)
    return np.lexsort((*boxes.T, -scores))
