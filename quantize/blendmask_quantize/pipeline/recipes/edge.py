"""Recipe `edge`: pruned and fine-tuned on labeled images, then `qat`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from blendmask_quantize.pipeline.options import QuantizeOptions
from blendmask_quantize.pipeline.recipe import Expectation
from blendmask_quantize.pipeline.recipes.qat import Qat
from blendmask_quantize.pruning.options import LATENCY, MAGNITUDE, PruneOptions, fine_tuning, with_target

if TYPE_CHECKING:
    from typing_extensions import Self

    from blendmask_quantize.pipeline.job import Job
    from blendmask_quantize.pipeline.quantized import Quantized


@dataclass(frozen=True)
class Edge(Qat):
    """Pruned and fine-tuned on labeled images, then `Qat`.

    Attributes:
        pruning: options of pruning and fine-tuning.
    """

    name = "edge"
    version = "3"
    summary = "pruned and fine-tuned on labeled images, then qat"
    prunes = True

    pruning: PruneOptions = field(default_factory=PruneOptions)

    def run(self, job: Job) -> Quantized:
        """Read, split, check the detections of the given network, prune, calibrate, refine, train."""
        from blendmask_quantize.pipeline.edge_stages import run

        return run(job, self.pruning, self.qat)

    def check(self, job: Job) -> None:
        """See that the share can be reached, and before anything is timed, that the annotations fit.

        Raises:
            ConfigError: it cannot; says what can be reached.
            AnnotationError: they do not.
        """
        from blendmask_quantize.latency.network import latency_cost
        from blendmask_quantize.model.patterns import parse_pattern
        from blendmask_quantize.pipeline.edge_stages import check_labels
        from blendmask_quantize.pruning.channel_pruning import check_ratio
        from blendmask_quantize.pruning.sparsity import layers_to_make_sparse

        model = job.checkpoint.model
        if self.pruning.sparsity is not None:
            layers_to_make_sparse(model, map(parse_pattern, self.pruning.protect))
        if self.pruning.target == LATENCY:  # whose layers are timed for minutes
            check_labels(job)
        check_ratio(model, self.pruning, job.size, latency_cost(model, job.size, self.pruning, job.progress))

    def expectation(self, job: Job) -> Expectation:
        """Return what is expected of the result. Channels are chosen by magnitude for this, which needs no images.

        Where the latency is no target, that of the network pruned so is measured.
        """
        from blendmask_quantize.latency.network import latency_cost, latency_model
        from blendmask_quantize.model.macs import count_macs
        from blendmask_quantize.pruning.channel_pruning import prune_network, total_cost

        model, options = job.checkpoint.model, replace(self.pruning, importance=MAGNITUDE)
        cost_of = latency_cost(model, job.size, options, job.progress)
        pruned = prune_network(model, options.ratio, (), job.size, options=options, cost_of=cost_of)
        macs = count_macs(pruned, job.size)
        if cost_of is None:
            now, then = (latency_model(each, job.size, options.runtime, job.progress) for each in (model, pruned))
            return Expectation(macs, (now.network_ms, then.network_ms))
        return Expectation(macs, (total_cost(model, options, cost_of), total_cost(pruned, options, cost_of)))

    def stages(self) -> tuple[str, ...]:
        """Describe what `run` does, a line for each stage."""
        training = self.pruning.training
        read, *others = super().stages()
        prune = (
            f"prune to {self.pruning.ratio:g} of the {self.pruning.what}, channels chosen by {self.pruning.importance}"
        )
        rounds = "" if self.pruning.rounds == 1 else f", in {self.pruning.rounds} rounds of pruning and fine-tuning"
        teacher = ", the network before pruning as teacher" if self.pruning.distill else ""
        fine_tune = f"fine-tune: {training.iterations} steps of {training.batch} augmented images{teacher}{rounds}"
        if self.pruning.depth:
            prune = f"drop residual blocks while the loss rises by {self.pruning.depth:g} at most, and {prune}"
        sparse = (
            ()
            if self.pruning.sparsity is None
            else (f"set weights to zero: {self.pruning.sparsity}, kept from here on",)
        )
        return (read, prune, *sparse, fine_tune, *others)

    def overridden(self, options: QuantizeOptions) -> Self:
        """Return the recipe with the options that are given in place of its own settings."""
        pruning = self.pruning if options.pruning is None else options.pruning
        pruning = with_target(pruning, options.macs, options.parameters, options.latency)
        pruning = replace(
            pruning, runtime=options.runtime or pruning.runtime, protect=(*pruning.protect, *options.protect)
        )
        if options.prune_iterations is not None:
            training = replace(pruning.training, iterations=options.prune_iterations)
            pruning = replace(pruning, training=fine_tuning(training))
        return replace(super().overridden(options), pruning=pruning)
