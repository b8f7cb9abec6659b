"""Test the gate: does `blendmask bench` detect planted faults, and pass runs without one?

    python -m bench.studies.gate M.bmz --images DIR --annotations J.json --threads 1

One run writes a baseline with the default limits. Then faults are planted in the same predictor, one per run: the
expected metric of each must leave its limits (`caught` 1). Runs without a fault must pass, alone (`quiet`) and beside
processes that keep half or all of the cores busy (`busy`), or be inconclusive there; any other result is a false alarm.
Accuracy and time are measured as the command does, on the first `--count` annotated images. Nothing else may run at the
same time.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.study import study_parser, write_study
from blendmask_edge import DisturbedError, Instances, Labels, MaskPredictor
from blendmask_edge.benchmark.baseline import Baseline, new_baseline
from blendmask_edge.benchmark.gate import WITHIN, WORSE, compare
from blendmask_edge.benchmark.machine import this_machine, usable_cores
from blendmask_edge.benchmark.measure import Measured, TimedPredictor, measure
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject
from blendmask_edge.benchmark.reference import Reference
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.predictor import Timings

Metrics = dict[str, float]
Measure = Callable[[TimedPredictor], Measured]
_SHOWN = (
    "mask_ap",
    "box_ap",
    "latency_ratio",
    "network_ratio",
    "postprocess_ratio",
    "latency_p50_ms",
    "reference_p50_ms",
)


@dataclass
class Faulty:
    """A predictor with a fault: it takes longer by a share of the network's time, or answers something else.

    slower: share that is spent within the network.
    postprocess: share that is spent after it.
    change: what becomes of the answer.
    """

    predictor: MaskPredictor
    slower: float = 0.0
    postprocess: float = 0.0
    change: Callable[[Instances], Instances] = lambda instances: instances
    timings: Timings = Timings(0.0, 0.0, 0.0)  # noqa: RUF009

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Predict with the fault."""
        instances = self.predictor(image)
        network = self.predictor.timings.inference
        _spin((self.slower + self.postprocess) * network)
        self.timings = self.predictor.timings._replace(inference=(1 + self.slower) * network)
        return self.change(instances)


def shift_masks(cells: int) -> Callable[[Instances], Instances]:
    """Move each mask to the right within its box by cells of its 56; boxes stay."""
    return lambda instances: replace(instances, mask_logits=np.roll(instances.mask_logits, cells, axis=2))


def lose_instances(share: float) -> Callable[[Instances], Instances]:
    """Leave out a share of the instances, whatever their score."""
    rng = np.random.default_rng(0)
    return lambda instances: instances[rng.random(len(instances)) >= share]


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "network-15%-slower": ("network_ratio", {"slower": 0.15}),
    "network-30%-slower": ("latency_ratio", {"slower": 0.30}),
    "postprocess-10%-of-network": ("postprocess_ratio", {"postprocess": 0.10}),
    "lost-instances-5%": ("mask_ap", {"change": lose_instances(0.05)}),
    "lost-instances-20%": ("box_ap", {"change": lose_instances(0.20)}),
    "shifted-masks-1-cell": ("mask_ap", {"change": shift_masks(1)}),
    "shifted-masks-3-cells": ("mask_ap75", {"change": shift_masks(3)}),
}
"""What is planted, and the metric that must tell."""
LOADS = {"quiet": 0.0, "busy/half": 0.5, "busy/all": 1.0}
"""Shares of the cores that other processes keep busy."""


def main() -> None:
    """Measure and write bench/results/gate.json."""
    options = _parse_arguments()
    with MaskPredictor(options.bundle, options.runtime, options.threads, score_threshold=0) as predictor:
        labels = Labels(predictor.manifest.classes, predictor.manifest.category_ids)
        annotated = AnnotatedImages.open(options.images, options.annotations, labels)
        images = replace(annotated, ids=annotated.ids[: options.count])
        with Reference(options.threads or usable_cores()) as reference:

            def run(tested: TimedPredictor) -> Measured:
                return measure(tested, images, reference, options.frames)

            print(f"{len(FAULTS)} faults and {options.runs} runs at each of {len(LOADS)} loads", flush=True)
            data = Data.of(options.annotations, len(images.ids))
            subject = Subject.of(predictor, options.threads)
            setting = Setting(subject=subject, data=data, machine=this_machine())
            baseline = _baseline(setting, _quiet(run(predictor)))
            rows = list(study(predictor, baseline, run, options.runs))
    print(f"Written: {write_study('gate', rows, options.output)}")


def study(predictor: MaskPredictor, baseline: Baseline, run: Measure, runs: int) -> Iterator[dict[str, Any]]:
    """The rows, each printed as it is measured."""
    for name, (telling, fault) in FAULTS.items():
        metrics = _quiet(run(Faulty(predictor, **fault)))
        row = {"name": f"planted/{name}", "caught": int(_moved(baseline, metrics).get(telling) == WORSE)}
        yield _printed({**row, **{key: round(metrics[key], 4) for key in _SHOWN}})
    for name, share in LOADS.items():
        with load(math.ceil(share * usable_cores())):
            measured = [run(predictor) for _ in range(runs)]
        inconclusive = sum(bool(run.disturbances) for run in measured)
        alarms = sum(bool(_moved(baseline, run.metrics)) for run in measured if not run.disturbances)
        counts = {"runs": runs, "false_alarms": alarms, "inconclusive": inconclusive}
        yield _printed({"name": name, **counts, **_range([run.metrics for run in measured])})


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep that many cores busy while the block runs."""
    workers = [multiprocessing.get_context("spawn").Process(target=_burn, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        time.sleep(2.0 if workers else 0.0)
        yield
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _quiet(measured: Measured) -> Metrics:
    """Metrics of a run that nothing disturbed.

    Raises:
        DisturbedError: other work shared the processor.
    """
    if measured.disturbances:
        raise DisturbedError(f"The machine is not quiet: {' '.join(measured.disturbances)}")
    return measured.metrics


def _baseline(setting: Setting, metrics: Metrics) -> Baseline:
    return new_baseline(Record(created="", setting=setting, frames=0, metrics=metrics))


def _moved(baseline: Baseline, metrics: Metrics) -> dict[str, str]:
    """Results of the metrics that left their limits."""
    moved = [change for change in compare(baseline, metrics) if change.result != WITHIN]
    for change in moved:
        print(f"  {change.metric} {change.result}: {change.now} against {change.low:.4g} to {change.high:.4g}")
    return {change.metric: change.result for change in moved}


def _range(measured: list[Metrics]) -> Metrics:
    ends = {"low": min, "high": max}
    names = ("latency_ratio", "latency_p50_ms")
    return {f"{name}_{end}": round(of(m[name] for m in measured), 4) for name in names for end, of in ends.items()}


def _printed(row: dict[str, Any]) -> dict[str, Any]:
    words = [f"{value}" if name == "name" else f"{name} {value}" for name, value in row.items()]
    print(f"{datetime.now():%H:%M:%S}  " + "  ".join(words), flush=True)
    return row


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _burn() -> None:
    values = np.random.default_rng(0).random((64, 64))
    while True:
        values = values @ values
        values /= np.abs(values).max()


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("bundle", type=Path, metavar="M.bmz")
    parser.add_argument("--images", type=Path, required=True, help="folder of annotated images")
    parser.add_argument("--annotations", type=Path, required=True, help="their COCO JSON")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--count", type=int, default=100, help="annotated images that are used")
    parser.add_argument("--frames", type=int, default=100, help="least number of timed frames of a run")
    parser.add_argument("--runs", type=int, default=5, help="runs without a fault")
    return parser.parse_args()


if __name__ == "__main__":
    main()
