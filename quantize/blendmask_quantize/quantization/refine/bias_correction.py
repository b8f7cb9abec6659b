"""Empirical bias correction: what quantization adds to a channel on average is taken off its bias.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019, section 4.2 and
appendix D): in graph order, so that each convolution is corrected for what the quantized and already corrected network
before it leaves over. The weights and biases are common to all variants, so the correction is the mean of what each
variant asks for.

The head is left as it is. A channel's mean over a map is that of the background there, and what rounding adds to the
few locations with instances is something else: corrected by the mean, scores drift twice as far.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.quantizer import IntegerConv2d

_HEAD = "proposal_generator."


@dataclass(frozen=True)
class _Convolved:
    """A result in the middle of a network's run: module name of the convolution, and (N, C, h, w)."""

    name: str
    result: Tensor


@torch.no_grad()
def correct_biases(start: Calibrated, reference: fx.GraphModule, inputs: Sequence[Tensor]) -> Calibrated:
    """The same weights and ranges with corrected biases.

    Args:
        start: what is rendered.
        reference: the float network to agree with, node for node that of `start`.
        inputs: normalized images (1, 3, H, W); all their activations at one depth are held at once.
    """
    corrected = copy.deepcopy(start.traced)
    batch = torch.cat(list(inputs))
    runs = [_Run(reference), *(_Run(start.render(variant)) for variant in VARIANTS)]
    walks = [run.convolutions(batch) for run in runs]
    sent: list[Tensor | None] = [None] * len(walks)
    while True:
        try:
            expected, *quantized = [walk.send(result) for walk, result in zip(walks, sent, strict=True)]
        except StopIteration:
            return Calibrated(corrected, start.ranges)
        error = torch.stack([_mean(one.result) for one in quantized]).mean(dim=0) - _mean(expected.result)
        _take_off(corrected.get_submodule(expected.name), error)
        shift = error[:, None, None]
        sent = [expected.result, *(one.result - shift for one in quantized)]


class _Run(fx.Interpreter):
    """A run of a network that stops behind each convolution before the head, and goes on with the result it is sent."""

    def convolutions(self, x: Tensor) -> Generator[_Convolved, Tensor | None, None]:
        """Yield the result of each convolution that is corrected, in graph order."""
        self.args_iter = iter((x,))
        self.env = {}
        for node in self.graph.nodes:
            result = self.run_node(node)
            if self._is_corrected(node):
                result = yield _Convolved(str(node.target), result)
            self.env[node] = result
            for dead in self.user_to_last_uses.get(node, []):
                del self.env[dead]

    def _is_corrected(self, node: fx.Node) -> bool:
        if node.op != "call_module" or str(node.target).startswith(_HEAD):
            return False
        return isinstance(self.submodules[node.target], nn.Conv2d | IntegerConv2d)


def _mean(result: Tensor) -> Tensor:
    return result.mean(dim=(0, 2, 3))


def _take_off(conv: nn.Module, error: Tensor) -> None:
    assert isinstance(conv, nn.Conv2d)
    bias = conv.bias if conv.bias is not None else torch.zeros_like(error)
    conv.bias = nn.Parameter(bias - error, requires_grad=False)
