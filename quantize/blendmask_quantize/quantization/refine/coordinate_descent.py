"""Roundings found by coordinate descent on the error of the layer's result.

Behdin et al., "QuantEase: Optimization-based Quantization for Language Models" (2023), after Frantar et al., "Optimal
Brain Compression" (NeurIPS 2022): with H the mean of x x^T over what a channel reads, an error e of its weights costs
e^T H e, of which the best single step of a single weight is known at once. Nearest rounding ignores that what a channel
reads goes together: where chance rounds most of the nine weights of a depthwise kernel up, its result shifts by as much
as the image is bright there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blendmask_quantize.quantization.refine.rounding import Patches, WeightQparams

_DAMPING = 0.01
"""Added to the diagonal of H, over its mean: what a layer reads elsewhere goes together a little less."""
_SMALLEST_GAIN = 1e-6
"""Over the cost of nearest rounding: gains below are float noise."""


@dataclass(frozen=True)
class CoordinateDescent:
    """Moves one weight of each channel at a time, whichever gains most, as long as it gains.

    None goes further than one step from the nearest integer, so that what the patches lack cannot spoil it.

    Attributes:
        moves: for each weight of a channel, so many moves of it at most.
    """

    moves: int = 2

    def __call__(self, qparams: WeightQparams, patches: Patches) -> Tensor:
        """Steps of every weight."""
        moment = _second_moment(patches.reads)
        nearest, free = qparams.nearest, qparams.free
        steps, error = nearest.clone(), nearest * qparams.step - qparams.weight
        slope = error @ moment
        own = qparams.step.square() * moment.diagonal(dim1=1, dim2=2)[:, None]
        enough = _SMALLEST_GAIN * (slope * error).sum(dim=-1, keepdim=True)
        for _ in range(self.moves * steps.shape[-1]):
            direction = -slope.sign()
            gain = 2 * qparams.step * slope.abs() - own
            movable = free & ((steps + direction - nearest).abs() <= 1)
            best, weight = torch.where(movable, gain, -torch.inf).max(dim=-1, keepdim=True)
            move = torch.where(best > enough, direction.gather(-1, weight), 0)
            if not move.any():
                break
            steps.scatter_add_(-1, weight, move)
            slope += move * qparams.step * _rows(moment, weight)
        return steps


def _second_moment(reads: Tensor) -> Tensor:
    """H (groups, n, n) of reads (groups, P, n), damped."""
    moment = reads.transpose(1, 2) @ reads / reads.shape[1]
    diagonal = moment.diagonal(dim1=1, dim2=2)
    diagonal += _DAMPING * diagonal.mean(dim=1, keepdim=True)
    return moment


def _rows(moment: Tensor, weight: Tensor) -> Tensor:
    """Rows (groups, channels, n) of H (groups, n, n) that belong to the weights (groups, channels, 1)."""
    return moment.gather(1, weight.expand(-1, -1, moment.shape[2]))
