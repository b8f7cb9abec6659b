"""Measure how the time of an evaluation grows with the number of images and of workers, and what limits it.

    python -m bench.studies.scaling --images 1000 10000 100000

Rows of other numbers of images are kept from an earlier run. A few small images are repeated under as many names as
there are images, and evaluated with a network that takes almost no time: what remains is reading, sending, keeping and
scoring. With a real network, these costs are a smaller share.
Each row is measured in a process of its own, with one thread a worker:

| metric | content |
|---|---|
| `seconds`, `cpu_seconds` | prediction of all images, wall-clock and on all processors, with the start of workers |
| `images_per_second` | images over `seconds` |
| `score_seconds`, `score_cpu_seconds` | average precision of the results, which one process computes |
| `megabytes`, `worker_megabytes` | peak memory of the driver, and of the largest worker |
| `scored_megabytes` | peak memory of the driver after scoring, which holds all results |
| `other_work` | 1 if other processes used the processor at the same time, so that wall-clock times are too long |

`mask_ap` is compared between the rows of one number of images: it must not differ by a bit. Rows `ray-N` are measured
where Ray is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.lib.study import read_rows, run_study, study_parser, write_study
from bench.lib.tiny_bundle import write_tiny_bundle, write_tiny_images
from blendmask_edge import BlendMaskError, MaskPredictor
from blendmask_edge.batch.annotated import predict_annotated
from blendmask_edge.batch.source import BundleSource
from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.execution.choice import choose_executor

COUNTS = (1_000, 10_000, 100_000)
WORKERS = (1, 2)


def main() -> None:
    """Measure and write bench/results/scaling.json."""
    options = _parse_arguments()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.executor, options.workers)))
        return
    executors = ["processes", *(["ray"] if importlib.util.find_spec("ray") else [])]
    rows = list(read_rows("scaling", options.output).values())
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            write_tiny_bundle(Path(folder) / "model.bmz")
            write_tiny_images(Path(folder), count)
            for executor in executors:
                for workers in options.workers_tried:
                    row = _measured(Path(folder), count, executor, workers)
                    rows = [*(old for old in rows if old["name"] != row["name"]), row]
                    print(json.dumps(row), flush=True)
        _require_equal([row for row in rows if row["images"] == count])
        write_study("scaling", rows, options.output)
    print("Written: scaling.json")


def measure(folder: Path, executor: str, workers: int) -> dict[str, Any]:
    """Evaluate the images of a folder, and return the metrics of one row.

    Args:
        folder: bundle, images and annotations.
        executor: "processes" or "ray".
        workers: number of workers.
    """
    images = AnnotatedImages.open(folder / "images", folder / "annotations.json")
    with MaskPredictor(folder / "model.bmz", "onnxruntime", 1, score_threshold=0.0) as predictor:
        source = BundleSource.of(predictor, 1)
    chosen = choose_executor(workers) if executor == "processes" else choose_executor(ray="local")
    before = read_cpu_times()
    with _timed() as predicting:
        results = predict_annotated(source, images, chosen)
    megabytes, worker_megabytes = (_peak(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    with _timed() as scoring:
        metrics = score(images.coco, results, images.ids)
    return {
        "seconds": predicting.seconds, "cpu_seconds": predicting.cpu_seconds,
        "images_per_second": round(len(images.ids) / predicting.seconds, 1), "score_seconds": scoring.seconds,
        "score_cpu_seconds": scoring.cpu_seconds, "megabytes": megabytes, "worker_megabytes": worker_megabytes,
        "scored_megabytes": _peak(resource.RUSAGE_SELF), "mask_ap": metrics["mask_ap"],
        "other_work": int(bool(other_work(before, read_cpu_times()))),
    }  # fmt: skip


@dataclass
class _Clock:
    """Seconds of a block, on the wall and on all processors."""

    start: float = field(default_factory=time.perf_counter)
    cpu_start: float = field(default_factory=lambda: sum(os.times()[:4]))
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def _timed() -> Any:
    clock = _Clock()
    yield clock
    clock.seconds = round(time.perf_counter() - clock.start, 2)
    clock.cpu_seconds = round(sum(os.times()[:4]) - clock.cpu_start, 2)


def _peak(who: int) -> float:
    return round(resource.getrusage(who).ru_maxrss / 1024, 1)


def _measured(folder: Path, count: int, executor: str, workers: int) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "bench.studies.scaling", "--measure", str(folder), "--executor", executor,
        "--workers", str(workers),
    ]  # fmt: skip
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    row = json.loads(printed.strip().splitlines()[-1])
    return {"name": f"{executor}-{workers}/{count}", "images": count, "workers": workers, **row}


def _require_equal(rows: list[dict[str, Any]]) -> None:
    """See that the number of workers changes no result.

    Raises:
        BlendMaskError: it does.
    """
    if len({row["mask_ap"] for row in rows}) > 1:
        raise BlendMaskError(f"Results differ: {[(row['name'], row['mask_ap']) for row in rows]}.")


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=list(COUNTS), help="numbers of images")
    parser.add_argument("--workers-tried", type=int, nargs="+", default=list(WORKERS), help="numbers of workers")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--executor", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
