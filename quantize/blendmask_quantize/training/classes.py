"""Give a trained network the classes of new data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.widths import layer_widths

_NAMED = 6


@dataclass(frozen=True)
class ClassTransfer:
    """A network with new classes, and what became of the predictor's rows.

    Attributes:
        model: in evaluation mode.
        kept: classes that the checkpoint has as well; their rows are copied.
        initialized: the other classes, with random rows.
        dropped: classes that only the checkpoint has.
        unnamed: whether the checkpoint names no classes, so that the new names stand for its own, in order.
    """

    model: BlendMask
    kept: tuple[str, ...]
    initialized: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    unnamed: bool = False


def with_classes(checkpoint: Checkpoint, labels: Labels, seed: int) -> ClassTransfer:
    """Build the network of a checkpoint for other classes.

    Rows of the class scores and of the semantic head are copied for every class whose name both have. A checkpoint that
    names no classes and has as many keeps all its rows: the names are given to them in the order of the category ids,
    as detectron2 numbers classes.

    Args:
        checkpoint: the trained network.
        labels: the new classes.
        seed: of the other rows, which are initialized as those of a new network.
    """
    names = tuple(labels.names)
    known = tuple(checkpoint.labels.names)
    if known == names:
        return ClassTransfer(checkpoint.model, names, ())
    kept = tuple(name for name in names if name in known)
    if not kept and len(known) == len(names) and not checkpoint.named:
        return ClassTransfer(checkpoint.model, names, (), unnamed=True)
    torch.manual_seed(seed)
    model = BlendMask(with_num_classes(checkpoint.config, len(names)))
    rows = {names.index(name): known.index(name) for name in kept}
    _copy(checkpoint.model, model, rows)
    initialized, dropped = (tuple(name for name in part if name not in kept) for part in (names, known))
    return ClassTransfer(model.eval(), kept, initialized, dropped)


def describe(transfer: ClassTransfer, source: str) -> str | None:
    """Say what a user should know of a transfer; None where the classes are the same.

    Args:
        transfer: the result of `with_classes`.
        source: name of the checkpoint.
    """
    if transfer.unnamed:
        return f"{source} names no classes: its {len(transfer.kept)} classes are called {_some(transfer.kept)}"
    if not transfer.initialized and not transfer.dropped:
        return None
    parts = (("kept", transfer.kept), ("initialized", transfer.initialized), ("dropped", transfer.dropped))
    rows = "; ".join(f"{done} for {_some(names)}" for done, names in parts if names)
    return f"{source} was trained on other classes. Rows of the predictor are {rows}. All other weights are kept."


def with_num_classes(config: ModelConfig, num_classes: int) -> ModelConfig:
    """Return the configuration with another number of classes, also that of a pruned network.

    Args:
        config: of any network.
        num_classes: at least 1.
    """
    changed = replace(config, num_classes=num_classes)
    sizes = _class_layers(changed)
    widths = tuple(replace(width, outputs=sizes.get(width.layer, width.outputs)) for width in config.widths)
    return replace(changed, widths=widths)


def _class_layers(config: ModelConfig) -> dict[str, int]:
    """Output channels of the layers that have some for each class, by name."""
    with torch.device("meta"):
        own = BlendMask(replace(config, widths=()))
        other = BlendMask(replace(config, widths=(), num_classes=config.num_classes + 1))
    before = set(layer_widths(other))
    return {width.layer: width.outputs for width in layer_widths(own) if width not in before}


def _copy(source: BlendMask, target: BlendMask, rows: dict[int, int]) -> None:
    """Copy all weights; of layers with rows for classes, those for classes that both have."""
    sizes = _class_layers(target.config)
    state = source.state_dict()
    for key, value in target.state_dict().items():
        layer = key.rpartition(".")[0]
        if layer in sizes:
            _copy_rows(state[key], value, rows, sizes[layer] - target.config.num_classes)
        else:
            value.copy_(state[key])


def _copy_rows(source: Tensor, target: Tensor, rows: dict[int, int], first: int) -> None:
    """Copy rows by class; the `first` rows stand for no class and are copied as they are."""
    target[:first] = source[:first]
    for new, old in rows.items():
        target[first + new] = source[first + old]


def _some(names: tuple[str, ...]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
