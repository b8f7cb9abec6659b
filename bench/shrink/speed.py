"""Latency of each graph of the shrink study, all in turn in one run, beside the dense float graph."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.lib.float_baseline import DENSE, with_comparable_float
from bench.lib.quiet import time_quietly
from bench.lib.scenes import frames
from bench.shrink.experiments import FLOAT, Experiment
from bench.shrink.making import Workshop
from blendmask_edge import MaskPredictor
from blendmask_edge.benchmark.side_by_side import latency_metrics

RUNTIMES = ("onnxruntime", "openvino")
BASE = f"{DENSE}/{RUNTIMES[0]}"
_TIMED_IMAGES = 40

Row = dict[str, Any]


def speed_rows(workshop: Workshop, experiments: Sequence[Experiment], threads: int, limit: int | None) -> list[Row]:
    """A row for each timed graph and runtime, on images of `val`, at the score threshold that each bundle displays.

    Args:
        workshop: gives the bundles.
        experiments: whose graphs; the first has the float graph of the whole network.
        threads: of each runtime.
        limit: only so many images.
    """
    graphs = {name: graph for experiment in experiments for name, graph in _graphs(workshop, experiment).items()}
    facts = {name: columns for each in experiments for name, columns in workshop.facts(each).items()}
    images = frames(workshop.data, "val", min(limit or _TIMED_IMAGES, _TIMED_IMAGES))
    print(f"latency: {len(graphs)} graphs in {len(RUNTIMES)} runtimes, {len(images)} images", flush=True)
    with ExitStack() as stack:
        predictors = {
            f"{name}/{runtime}": stack.enter_context(
                MaskPredictor(bundle, runtime, threads, score_threshold=None, variant=variant)
            )
            for name, (bundle, variant) in graphs.items()
            for runtime in RUNTIMES
        }
        times = time_quietly(predictors, images)
    return [
        {"name": name, **latency_metrics(times, BASE, name), **facts.get(name.rpartition("/")[0], {})}
        for name in predictors
    ]


def _graphs(workshop: Workshop, experiment: Experiment) -> dict[str, tuple[Path, str]]:
    """Bundle and variant of each graph; float graphs are those that make masks for the same rows as INT8."""
    bundle = workshop.bundle(experiment)
    if experiment.float_name is not None:
        path = workshop.folder / f"{experiment.file_name}-timed.bmz"
        if not path.exists():
            with_comparable_float(bundle, workshop.source(experiment), path, dense=experiment.float_name == FLOAT)
        bundle = path
    variants = {DENSE: DENSE} if experiment.float_name == FLOAT else {}
    return {name: (bundle, variant) for name, variant in (variants | experiment.timed).items()}
