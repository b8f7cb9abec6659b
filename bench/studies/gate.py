"""Test the gate's limits on time: are planted slowdowns detected, and does a sound bundle pass, on a busy machine too?

    python -m bench.studies.gate --minutes 11
    python -m bench.studies.gate --minutes 30 --threads 1    # 50 runs of each case; then --threads 2

The network is a small one of a few milliseconds, so that there is time for many runs. For 1 and 2 threads, quiet and
beside processes that keep half or all of the cores busy, the sound bundle and bundles whose network takes 5, 10 and
30 % longer are measured in turn. Each run is held to the default limits against the baseline, the median of three
quiet runs with the same number of threads, as `bench` writes it. A slowdown is spent as computation of this process
right after the network. Every case has the same share of the minutes, and as many runs as fit into it, at most
`--runs`. Rows of loads and numbers of threads that are not measured stay as they are in the result.

| row | what |
|---|---|
| `quiet/threads-N`, `busy/half/threads-N`, `busy/all/threads-N` | the sound bundle by load |
| `planted/slower-SHARE/LOAD/threads-N` | a slower one |

| metric | content |
|---|---|
| `runs`, `inconclusive` | all runs, and those that were disturbed, which count neither way |
| `reported` | conclusive runs in which a default limit on time was left |
| `caught`, or `false_alarm_rate` of the sound bundle | their share of the conclusive runs; absent if there is none |
| `..._low`, `..._high` | its 95 % interval (Wilson) |
| `reported/LIMIT` | conclusive runs whose latency or network exceeds its baseline by more than this share |
| `latency_ratio`, `latency_ratio_low`, `latency_ratio_high` | over that of the baseline, of all runs: mean and ends |
| `latency_p99_ratio` ... | the same of the 99th percentile |

Nothing else may run at the same time. Faults of accuracy and memory need no clock: see `gate_accuracy`.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.rates import rate_of, spread_of
from bench.lib.study import read_rows, run_study, study_parser, write_study
from bench.lib.tiny_bundle import write_tiny_bundle, write_tiny_images
from blendmask_edge import Instances, MaskPredictor
from blendmask_edge.benchmark.baseline import Baseline, is_time, new_baseline
from blendmask_edge.benchmark.gate import WITHIN, compare
from blendmask_edge.benchmark.machine import this_machine, usable_cores
from blendmask_edge.benchmark.measure import Measured, measure
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject
from blendmask_edge.benchmark.reference import Reference
from blendmask_edge.benchmark.repeated import measure_baseline
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.prediction.image_pipeline import Timings

SLOWDOWNS = (0.0, 0.05, 0.10, 0.30)
"""Shares of the network's time that are planted; 0 is the sound bundle."""
LOADS = {"quiet": 0.0, "busy/half": 0.5, "busy/all": 1.0}
"""Shares of the cores that other processes keep busy."""
THREADS = (1, 2)
_LAYERS, _IMAGES = 4, 10
_RATIOS = ("latency_ratio", "latency_p99_ratio")
_LIMITED, _LIMITS = ("latency_ratio", "network_ratio"), (0.03, 0.05, 0.08, 0.10, 0.15)


@dataclass
class Slower:
    """A predictor whose network takes longer by a share of its time."""

    predictor: MaskPredictor
    share: float
    timings: Timings = Timings(0.0, 0.0, 0.0)  # noqa: RUF009

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Predict, and compute on for the share."""
        instances = self.predictor(image)
        network = self.predictor.timings.inference
        _spin(self.share * network)
        self.timings = self.predictor.timings._replace(inference=(1 + self.share) * network)
        return instances


@dataclass(frozen=True)
class Bench:
    """The inputs of a run besides the predictor."""

    images: AnnotatedImages
    reference: Reference
    frames: int
    threads: int

    def run(self, predictor: MaskPredictor, share: float) -> Measured:
        """One run with a slowdown; average precision is left out by the comparison."""
        slower = Slower(predictor, share)
        return measure(slower, self.images, self.reference, self.frames, resamples=0, threads=self.threads)


def main() -> None:
    """Measure and write bench/results/gate.json."""
    options = _parse_arguments()
    rows = read_rows("gate", options.output)
    seconds = 60 * options.minutes / (len(options.threads) * len(options.loads))
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "model.bmz", _LAYERS)
        images = AnnotatedImages.open(*write_tiny_images(Path(folder), _IMAGES))
        for threads in options.threads:
            rows |= {row["name"]: row for row in measure_threads(bundle, images, threads, seconds, options)}
            print(f"Written: {write_study('gate', list(rows.values()), options.output)}", flush=True)


def measure_threads(
    bundle: Path, images: AnnotatedImages, threads: int, seconds: float, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Rows of one number of threads, each printed as it is measured.

    Args:
        bundle: the sound bundle.
        images: annotated.
        threads: of network and reference.
        seconds: for each load.
        options: of the command line.
    """
    with (
        MaskPredictor(bundle, options.runtime, threads, score_threshold=0) as predictor,
        Reference(threads) as reference,
    ):
        bench = Bench(images, reference, options.frames, threads)
        setting = Setting(
            subject=Subject.of(predictor, threads),
            data=Data(annotations="generated", sha256="", images=len(images.ids)), machine=this_machine(),
        )  # fmt: skip
        sound = measure_baseline(lambda: bench.run(predictor, 0.0))
        baseline = new_baseline(Record(created="", setting=setting, frames=options.frames, metrics=sound.metrics))
        for load in options.loads:
            with busy(math.ceil(LOADS[load] * usable_cores())):
                runs = _runs_within(bench, predictor, seconds, options.runs)
            yield from (_row(f"{load}/threads-{threads}", share, each, baseline) for share, each in runs.items())


def _runs_within(bench: Bench, predictor: MaskPredictor, seconds: float, most: int) -> dict[float, list[Measured]]:
    """Runs of each slowdown in turn, until the time is spent."""
    measured: dict[float, list[Measured]] = {share: [] for share in SLOWDOWNS}
    end = time.monotonic() + seconds
    for _ in range(most):
        for share, runs in measured.items():
            runs.append(bench.run(predictor, share))
        if time.monotonic() > end:
            break
    return measured


def _row(place: str, share: float, runs: list[Measured], baseline: Baseline) -> dict[str, Any]:
    conclusive = [run for run in runs if not run.disturbances]
    reported = [
        any(change.result != WITHIN and is_time(change.metric) for change in compare(baseline, run.metrics))
        for run in conclusive
    ]
    counts = {"runs": len(runs), "inconclusive": len(runs) - len(conclusive), "reported": sum(reported)}
    slower = [max(_ratio(run, name, baseline) for name in _LIMITED) for run in conclusive]
    tried = {f"reported/{limit:g}": sum(each > 1 + limit for each in slower) for limit in _LIMITS}
    ratios: dict[str, float] = {}
    for name in _RATIOS:
        if name in baseline.record.metrics:
            ratios |= spread_of(name, [_ratio(run, name, baseline) for run in runs])
    name = f"planted/slower-{share:.0%}/{place}" if share else place
    row = {"name": name, **counts, **rate_of(reported, share > 0), **tried, **ratios}
    print(f"{datetime.now():%H:%M:%S} {row}", flush=True)
    return row


def _ratio(run: Measured, metric: str, baseline: Baseline) -> float:
    """A metric over that of the baseline."""
    return run.metrics[metric] / baseline.record.metrics[metric]


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep that many cores busy while the block runs, and no longer, even if this process is killed."""
    workers = [
        multiprocessing.get_context("spawn").Process(target=_burn, args=(os.getpid(),), daemon=True)
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        time.sleep(2.0 if workers else 0.0)
        yield
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _burn(parent: int) -> None:
    values = np.random.default_rng(0).random((64, 64))
    while os.getppid() == parent:
        values = values @ values
        values /= np.abs(values).max()


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--frames", type=int, default=100, help="least number of timed frames of a run")
    parser.add_argument("--runs", type=int, default=50, help="most runs of each case")
    parser.add_argument("--threads", type=int, nargs="+", default=THREADS, help="numbers of threads to measure")
    parser.add_argument("--loads", nargs="+", choices=list(LOADS), default=list(LOADS), help="loads to measure")
    parser.add_argument("--minutes", type=float, default=11, help="duration of all runs")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
