"""The plan of a job: what a recipe will do, and to which network, told before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blendmask_quantize.model.macs import macs_by_layer
from blendmask_quantize.pipeline.job import Job
from blendmask_quantize.pipeline.recipe import Recipe
from blendmask_quantize.pipeline.recipe_file import recipe_settings
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.quantized_layers import quantized_layers


@dataclass(frozen=True)
class Plan:
    """The plan of `quantize`.

    Attributes:
        recipe: name, version and every setting, as a recipe file holds them.
        stages: the stages in order, described in a line each.
        model: name of the configuration.
        size: height and width of the network input in pixels.
        macs: multiply-accumulates for one image of this size, now and as expected of the result.
        latency_ms: time of the INT8 graph on this machine in milliseconds, measured before and predicted after.
        float_layers: convolutions that stay float in any graph, and their multiply-accumulates for one image, now.
        device: this machine, where the network is compiled for it; None where it is not.
    """

    recipe: dict[str, Any]
    stages: tuple[str, ...]
    model: str
    size: tuple[int, int]
    macs: tuple[int, int]
    latency_ms: tuple[float, float]
    float_layers: dict[str, int]
    device: str | None = None

    @property
    def float_share(self) -> float:
        """Share of the multiply-accumulates that stays float, 0 to 1."""
        return sum(self.float_layers.values()) / self.macs[0]

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        return {
            "recipe": self.recipe, "stages": list(self.stages), "model": self.model, "size": list(self.size),
            "macs_before": self.macs[0], "macs": self.macs[1], "float_layers": self.float_layers,
            "float_share": self.float_share, "latency_ms": list(self.latency_ms),
            "device": self.device,
        }  # fmt: skip


def _bound(recipe: Recipe) -> tuple[str, ...]:
    """The stage that a bound on the drop adds."""
    if recipe.max_drop is None:
        return ()
    most = f"at most {recipe.max_float_macs:.0%} of the multiply-accumulates"
    return (f"revert layers to float, {most}, until mask AP drops by at most {recipe.max_drop:.1%}",)


def make_plan(recipe: Recipe, job: Job) -> Plan:
    """Plan a job.

    Args:
        recipe: the recipe of the job.
        job: from `make_job`.

    Raises:
        ConfigError: the recipe cannot do it, e.g. a share that pruning cannot reach.
    """
    recipe.check(job)
    expected = recipe.expectation(job)
    layers = macs_by_layer(job.checkpoint.model, job.size)
    before = sum(layers.values())
    everywhere = set.intersection(*(quantized_layers(job.network, variant) for variant in VARIANTS))
    in_float = {name: macs for name, macs in layers.items() if name not in everywhere}
    return Plan(
        recipe_settings(recipe), (*recipe.stages(), *_bound(recipe)), job.checkpoint.config.name, job.size,
        (before, expected.macs), expected.latency_ms, in_float, None if job.device is None else job.device.target.title,
    )  # fmt: skip
