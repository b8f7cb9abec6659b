"""Depth: which residual blocks hardly matter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.depth import drop_blocks, residual_blocks
from blendmask_quantize.model.patterns import Pattern
from blendmask_quantize.pruning.groups import plain_form, unpruned_layers
from blendmask_quantize.pruning.importance import Loss
from blendmask_quantize.runs.progress import OnStep, ignore


def without_idle_blocks(
    model: BlendMask, losses: Sequence[Loss], rise: float, protect: Iterable[Pattern] = (), on_step: OnStep = ignore
) -> BlendMask:
    """Return the network without residual blocks that hardly matter; the same network where each does.

    Blocks are dropped one after the other, the one first without which the loss rises least, while the loss without all
    of them rises by no more than asked for.

    Args:
        model: the network, unchanged by this; frozen stages keep their blocks.
        losses: each gives the loss of the network it is handed on other images.
        rise: largest rise of the loss, as a share of it, e.g. 0.02.
        protect: patterns of layers whose blocks stay; see `model.patterns.matching`.
        on_step: called after each block that is tried alone.

    Raises:
        ConfigError: a pattern matches no convolution.
    """
    before = _loss(model, (), losses)
    alone = {}
    for name in candidate_blocks(model, protect):
        alone[name] = _loss(model, (name,), losses)
        on_step()
    dropped: tuple[str, ...] = ()
    for name in sorted(alone, key=lambda name: alone[name]):
        if _loss(model, (*dropped, name), losses) > (1 + rise) * before:
            break
        dropped = (*dropped, name)
    return _without(model, dropped) if dropped else model


def candidate_blocks(model: BlendMask, protect: Iterable[Pattern] = ()) -> list[str]:
    """Name the residual blocks that hold no layer of a frozen stage and no protected one."""
    unpruned = unpruned_layers(model, protect)
    return [name for name in residual_blocks(model) if not any(layer.startswith(f"{name}.") for layer in unpruned)]


def _loss(model: BlendMask, dropped: Iterable[str], losses: Sequence[Loss]) -> float:
    plain = plain_form(model)
    drop_blocks(plain, dropped)
    with torch.no_grad():
        return sum(float(loss(plain)) for loss in losses) / len(losses)


def _without(model: BlendMask, names: tuple[str, ...]) -> BlendMask:
    gone = tuple(f"{name}." for name in names)
    widths = tuple(width for width in model.config.widths if not width.layer.startswith(gone))
    shallow = BlendMask(replace(model.config, dropped=(*model.config.dropped, *names), widths=widths))
    state = model.state_dict()
    shallow.load_state_dict({key: state[key] for key in shallow.state_dict()})
    return shallow.eval()
