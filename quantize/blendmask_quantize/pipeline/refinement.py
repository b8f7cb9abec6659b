"""The state of refinement, as arrays to keep."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from blendmask_calibration.estimators import Range
from blendmask_quantize.pipeline.observation import as_arrays as histograms_as_arrays
from blendmask_quantize.pipeline.observation import observation_of
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.refine.steps import Drift, Observed, Outcome, Refined

Arrays = Mapping[str, NDArray[Any]]

_WEIGHTS, _REFERENCE, _HISTOGRAMS = "weights/", "reference/", "histograms/"
_TENSORS, _RANGES, _OUTCOMES = "tensors", "ranges", "outcomes"


def as_arrays(state: Refined, network: fx.GraphModule) -> dict[str, NDArray[Any]]:
    """The state as arrays: of the weights, only those that differ from a network's.

    Args:
        state: after some steps.
        network: that the steps began with.
    """
    observed, ranges = state.observed, state.observed.calibrated.ranges
    return {
        **_under(_WEIGHTS, _changed(observed.calibrated.traced, network)),
        **_under(_REFERENCE, _changed(observed.reference, network)),
        **_under(_HISTOGRAMS, histograms_as_arrays(observed.histograms, ())),
        _TENSORS: np.array(list(ranges)),
        _RANGES: np.array([(one.low, one.high) for one in ranges.values()]),
        _OUTCOMES: np.array(json.dumps([asdict(outcome) for outcome in state.outcomes])),
    }


def refined_of(start: Observed, arrays: Arrays) -> Refined:
    """The state that `as_arrays` gave.

    Args:
        start: network, ranges and histograms before the first step.
        arrays: from `as_arrays`.
    """
    network = start.calibrated.traced
    limits = zip(arrays[_TENSORS].tolist(), arrays[_RANGES].tolist(), strict=True)
    calibrated = Calibrated(
        _with_weights(network, _below(_WEIGHTS, arrays)), {name: Range(low, high) for name, (low, high) in limits}
    )
    histograms, _ = observation_of(_below(_HISTOGRAMS, arrays))
    observed = Observed(calibrated, histograms, _with_weights(network, _below(_REFERENCE, arrays)))
    return Refined(observed, tuple(_outcome(fields) for fields in json.loads(arrays[_OUTCOMES].item())))


def _outcome(fields: dict[str, Any]) -> Outcome:
    drifts = {name: Drift(**fields[name]) for name in ("before", "after") if fields[name] is not None}
    return Outcome(**{**fields, **drifts})


def _changed(network: fx.GraphModule, start: fx.GraphModule) -> dict[str, NDArray[Any]]:
    """The parameters and buffers that another network of the same graph does not have or has otherwise."""
    before = start.state_dict()
    return {
        name: value.numpy()
        for name, value in network.state_dict().items()
        if name not in before or not torch.equal(value, before[name])
    }


def _with_weights(network: fx.GraphModule, changed: Arrays) -> fx.GraphModule:
    """A copy of a network with other parameters; a convolution without bias may have got one."""
    copied = copy.deepcopy(network)
    for name, value in changed.items():
        module, _, parameter = name.rpartition(".")
        setattr(copied.get_submodule(module), parameter, nn.Parameter(torch.from_numpy(value), requires_grad=False))
    return copied


def _under(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {prefix + name: value for name, value in arrays.items()}


def _below(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
