"""A recipe: settings, and the stages that they are for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blendmask_quantize.pipeline.settings import RecipeSettings
from blendmask_quantize.pruning.options import TIMED_RUNTIMES

if TYPE_CHECKING:
    from blendmask_quantize.pipeline.job import Job
    from blendmask_quantize.pipeline.quantized import Quantized


@dataclass(frozen=True)
class Expectation:
    """The expected result of a recipe.

    Attributes:
        macs: multiply-accumulates for one image of the job's input size.
        latency_ms: time of the INT8 graph on this machine in milliseconds, measured before and predicted after.
    """

    macs: int
    latency_ms: tuple[float, float]


@dataclass(frozen=True)
class Recipe(RecipeSettings, ABC):
    """A way to quantize a checkpoint, as a value: change it with `dataclasses.replace`, or load it from YAML.

    Its modules load torch when it runs.
    """

    @abstractmethod
    def run(self, job: Job) -> Quantized:
        """Quantize the network of a job.

        Raises:
            BlendMaskError: as `pipeline.run.run`.
        """

    def check(self, job: Job) -> None:
        """See that the recipe can do what it is set to, as far as the network tells.

        Raises:
            ConfigError: it cannot; says what can be reached.
        """

    def expectation(self, job: Job) -> Expectation:
        """Return what is expected of the result; its time is that of the INT8 graph, with any ranges."""
        from blendmask_quantize.latency.network import latency_model
        from blendmask_quantize.model.macs import count_macs

        model = job.checkpoint.model
        milliseconds = latency_model(model, job.size, TIMED_RUNTIMES[0], job.progress).network_ms
        return Expectation(count_macs(model, job.size), (milliseconds, milliseconds))

    @abstractmethod
    def stages(self) -> tuple[str, ...]:
        """Describe what `run` does, a line for each stage."""
