"""Recipe `edge-sparse`: `edge` with 2:4 sparse weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from blendmask_edge.errors import ConfigError
from blendmask_quantize.pipeline.options import QuantizeOptions
from blendmask_quantize.pipeline.recipes.edge import Edge
from blendmask_quantize.pruning.options import PATTERN, PruneOptions

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class EdgeSparse(Edge):
    """`Edge` with 2:4 sparse weights, which stay so in fine-tuning and in training with quantizers."""

    name = "edge-sparse"
    version = "1"
    summary = "edge with 2:4 sparse weights, for NVIDIA GPUs from Ampere on"

    pruning: PruneOptions = field(default_factory=lambda: PruneOptions(sparsity=PATTERN))

    def __post_init__(self) -> None:
        """Refuse dense weights.

        Raises:
            ConfigError: the sparsity is left out, or the precision is not INT8.
        """
        super().__post_init__()
        if self.pruning.sparsity is None:
            raise ConfigError(f"recipe {self.name} needs pruning.sparsity {PATTERN}: set it, or use recipe edge")

    def overridden(self, options: QuantizeOptions) -> Self:
        """Return the recipe with the options that are given in place of its own settings; its weights stay sparse."""
        if options.pruning is not None:
            options = replace(options, pruning=replace(options.pruning, sparsity=PATTERN))
        return super().overridden(options)
