"""Which channels can only be removed together: torch-pruning's dependency graph of a whole network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_edge.errors import DependencyError, install_command
from blendmask_quantize.model.blendmask import BlendMask, every_output
from blendmask_quantize.model.layers import FrozenBatchNorm2d
from blendmask_quantize.model.patterns import Pattern, matching
from blendmask_quantize.model.widths import changed_widths


@dataclass(frozen=True)
class Reader:
    """A convolution that takes the channels of a group, perhaps among others and more than once.

    Attributes:
        layer: its name.
        inputs: input channels of it that are the group's.
        channels: which of the group's channels each of these is.
    """

    layer: str
    inputs: tuple[int, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that several layers share, in one order.

    Attributes:
        name: the first convolution that makes them.
        width: how many.
        writers: names of the convolutions that make them; a depthwise one is a writer only.
        readers: what takes them.
        norm_groups: groups of the group normalization on them, 1 where there is none; each loses as many channels.
        norms: names of the normalizations on them.
        dependency: torch-pruning's record, which removes them.
    """

    name: str
    width: int
    writers: tuple[str, ...]
    readers: tuple[Reader, ...]
    norm_groups: int
    norms: tuple[str, ...]
    dependency: Any

    def remove(self, channels: Sequence[int]) -> None:
        """Take channels out of all layers of the group."""
        self.dependency.prune(list(channels))


def plain_form(model: BlendMask) -> BlendMask:
    """A copy in evaluation mode whose frozen statistics are ordinary ones, so that gradients and graph see all layers.

    The semantic head takes part in the copy's forward pass.
    """
    plain = copy.deepcopy(model).eval()
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, FrozenBatchNorm2d):
                setattr(module, name, _thawed(child))
    plain.requires_grad_(True)
    plain.training = True
    return plain


def find_groups(plain: BlendMask, protect: Iterable[Pattern] = ()) -> list[ChannelGroup]:
    """The groups of channels that may be removed.

    Left alone are the outputs (classes, box, centerness, attention, bases, semantic classes), the backbone stages
    that the configuration freezes, as fine-tuning could not repair them, and groups that a protected layer makes.

    Args:
        plain: from `plain_form`.
        protect: patterns of further layers to leave alone; see `model.patterns.matching`.

    Raises:
        ConfigError: a pattern matches no convolution; near misses are named.
        DependencyError: torch-pruning is not installed.
    """
    unpruned = _named(plain, protect)
    graph = _trace(plain)
    names = {module: name for name, module in plain.named_modules()}
    groups = graph.get_all_groups(ignored_layers=list(_protected(plain)), root_module_types=[nn.Conv2d])
    channel_groups = [_group(graph, dependency, names) for dependency in groups]
    return [group for group in channel_groups if unpruned.isdisjoint(group.writers)]


def unplain(plain: BlendMask) -> BlendMask:
    """The ordinary network with the channels that are left, its configuration holding the widths."""
    with torch.device("meta"):
        widths = changed_widths(plain, BlendMask(replace(plain.config, widths=())))
    model = BlendMask(replace(plain.config, widths=widths))
    own = model.state_dict()
    model.load_state_dict({key: value for key, value in plain.state_dict().items() if key in own})
    return model.eval()


def unpruned_layers(model: BlendMask, protect: Iterable[Pattern] = ()) -> set[str]:
    """Name the outputs, the layers of frozen stages, and those that are protected.

    Args:
        model: the network.
        protect: patterns of layers.

    Raises:
        ConfigError: a pattern matches no convolution; near misses are named.
    """
    always = set(_protected(model))
    return _named(model, protect) | {name for name, module in model.named_modules() if module in always}


def _named(model: BlendMask, protect: Iterable[Pattern]) -> set[str]:
    convs = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return {name for pattern in protect for name in matching(pattern, convs, "protected layer")}


class _EveryLayer(nn.Module):
    def __init__(self, network: BlendMask) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return every_output(self.network, x)


def _thawed(norm: FrozenBatchNorm2d) -> nn.BatchNorm2d:
    thawed = nn.BatchNorm2d(len(norm.weight), eps=norm.eps).eval()
    thawed.load_state_dict(norm.state_dict(), strict=False)
    return thawed


def _trace(plain: BlendMask) -> Any:
    try:
        from torch_pruning import DependencyGraph
    except ImportError as error:
        raise DependencyError(f"Pruning needs torch-pruning. Type: {install_command('quantize')}") from error
    side = max(plain.config.input.divisor, *plain.config.head.strides)
    graph = DependencyGraph().build_dependency(_EveryLayer(plain), example_inputs=torch.zeros((1, 3, side, side)))
    plain.training = True  # tracing switches to evaluation
    return graph


def _protected(model: BlendMask) -> Iterable[nn.Module]:
    head, bases = model.proposal_generator.fcos_head, model.basis_module
    yield from (head.cls_logits, head.bbox_pred, head.ctrness, bases.tower[-1])
    if model.top_layer is not None:
        yield model.top_layer
    if bases.seg_head is not None:
        yield bases.seg_head[-1]
    for stage in model.backbone.bottom_up.stages()[: model.config.backbone.frozen_stages]:
        yield from stage.modules()


def _group(graph: Any, dependency: Any, names: dict[nn.Module, str]) -> ChannelGroup:
    writers: list[str] = []
    readers: list[Reader] = []
    norms: list[str] = []
    norm_groups = 1
    for item in dependency:
        dep = item.dep
        module = dep.target.module
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            norms.append(names[module])
            norm_groups = max(norm_groups, getattr(module, "num_groups", 1))
        elif isinstance(module, nn.Conv2d):
            if graph.is_out_channel_pruning_fn(dep.handler):
                writers.append(names[module])
            else:
                readers.append(Reader(names[module], tuple(item.idxs), tuple(item.root_idxs)))
    width = len(dependency[0].idxs)
    return ChannelGroup(writers[0], width, tuple(writers), tuple(readers), norm_groups, tuple(norms), dependency)
