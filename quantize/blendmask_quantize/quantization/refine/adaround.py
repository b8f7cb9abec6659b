"""AdaRound: roundings learned by gradient descent on what the layer computes.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (ICML 2020, sections 3.2, 3.3): a relaxed
rounding between 0 and 1 for every weight, driven to either end while the layer's result, behind its activation, stays
close to the float one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_quantize.quantization.refine.rounding import Patches, WeightQparams

_STRETCH = (-0.1, 1.1)
"""Ends of the stretched sigmoid (equation 23), so that a rounding can reach 0 and 1."""
_WARM_UP = 0.2
"""Share of the steps before roundings are driven to either end."""
_SHARPNESS = (20.0, 2.0)
"""Exponent of the term that drives them, at first and at last (equation 24)."""


@dataclass(frozen=True)
class AdaRound:
    """Learns to which of the two nearest integers each weight is rounded.

    Attributes:
        iterations: steps of Adam for each convolution.
        learning_rate: of Adam.
        weight: of the term that drives roundings to 0 or 1.
    """

    iterations: int = 300
    learning_rate: float = 0.02
    weight: float = 1.0

    @torch.enable_grad()
    def __call__(self, qparams: WeightQparams, patches: Patches) -> Tensor:
        """Steps of every weight; the loss is over the error of nearest rounding."""
        down = torch.floor(qparams.weight / qparams.step)
        fraction = qparams.weight / qparams.step - down
        expected = patches.results(qparams.weight, qparams.bias)
        nearest = (patches.results(qparams.nearest * qparams.step, qparams.bias) - expected).square().mean()
        low, high = _STRETCH
        inside = (fraction - low) / (high - low)
        logits = torch.log(inside / (1 - inside)).requires_grad_(True)
        optimizer = torch.optim.Adam([logits], lr=self.learning_rate)
        for iteration in range(self.iterations):
            up = (torch.sigmoid(logits) * (high - low) + low).clamp(0, 1)
            result = patches.results((down + torch.where(qparams.free, up, fraction)) * qparams.step, qparams.bias)
            loss = (result - expected).square().mean() / nearest.clamp(min=1e-20)
            loss = loss + self.weight * _indecision(up, iteration / self.iterations)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return down + (logits.detach() > 0)


def _indecision(up: Tensor, done: float) -> Tensor:
    """How far roundings are from 0 and 1 on average (equation 24); nothing at first."""
    if done < _WARM_UP:
        return torch.zeros(())
    sharpness = _SHARPNESS[0] + (_SHARPNESS[1] - _SHARPNESS[0]) * (done - _WARM_UP) / (1 - _WARM_UP)
    return (1 - (2 * up - 1).abs().pow(sharpness)).mean()
