"""Measure how long training takes to start on a data set of COCO's size, and how much memory it needs.

    python -m bench.studies.coco_start

The annotations are synthetic: as many images, instances and categories as COCO's `train2017`, polygons with as many
points on average, and one crowd in a hundred instances. They are generated into a temporary folder, together with image
files that are links to a few. Everything that `blendmask train` does before its first step is timed in a separate
process, without network and optimizer:

| row | content |
|---|---|
| `read` | annotations read, checked and packed; image files located and their sizes compared; digests for resuming |
| `first-sample` | the order of the first pass, and one augmented image |
| `sample` | one further augmented image, mean of several |
| `pycocotools` | the same file read by `pycocotools.coco.COCO`, which does not check it, for comparison |

Each row has `seconds`, and of them `cpu_seconds` on the processor. `megabytes` is the peak memory of the process,
`idle_megabytes` its memory before, `packed_megabytes` the size of the annotations once read. `other_work` is 1 if other
processes used the processor at the same time, so that the times are too long.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.lib.study import run_study, study_parser, write_study
from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times

IMAGES, INSTANCES, CATEGORIES = 118_287, 860_001, 80
SIZE = (480, 640)
_POINTS = 27  # of a polygon, on average
_SHAPES = 4096  # different polygons
_LINKS = 10_000  # of a file, which file systems bound
_CROWD = 100  # every how many instances one is a crowd
_SAMPLES = 20


def main() -> None:
    """Generate, measure and write bench/results/coco_start.json."""
    options = _parse_arguments()
    if options.measure is not None:
        print(json.dumps((measure_reference if options.reference else measure)(options.measure)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), options.images, options.instances)
        for more in ([], ["--reference"]):
            command = [sys.executable, "-m", "bench.studies.coco_start", "--measure", folder, *more]
            rows += json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    facts = {"images": options.images, "instances": options.instances}
    print(f"Written: {write_study('coco_start', [row | facts for row in rows], options.output)}")


def generate(folder: Path, images: int, instances: int) -> None:
    """Write `annotations.json` and the image files that it names."""
    (folder / "images").mkdir()
    for number in range(images):
        path = folder / "images" / _file_name(number)
        if number % _LINKS == 0:
            cv2.imwrite(str(path), np.full((*SIZE, 3), 127, np.uint8))
            original = path
        else:
            os.link(original, path)
    with (folder / "annotations.json").open("w", encoding="utf-8") as file:
        file.writelines(_document(images, instances))


def measure(folder: Path) -> list[dict[str, Any]]:
    """The rows, of what lies in a folder; the peak of memory is that of this process."""
    from blendmask_quantize.model.config import get_config
    from blendmask_quantize.training.augment import Augmentation
    from blendmask_quantize.training.coco_images import CocoImages
    from blendmask_quantize.training.labeled_images import read_labeled_images
    from blendmask_quantize.training.stream import AugmentedStream

    idle, before = _peak_megabytes(), read_cpu_times()
    clocks = [_clocks()]
    labeled = read_labeled_images(folder / "images", folder / "annotations.json")
    clocks.append(_clocks())
    coco = CocoImages(labeled, get_config("R_50_3x"), Augmentation(crop=SIZE))
    stream = AugmentedStream([coco], 10**6, seed=0)
    stream[0]
    clocks.append(_clocks())
    for item in range(1, 1 + _SAMPLES):
        stream[item]
    clocks.append(_clocks())
    seconds = np.diff(np.array(clocks), axis=0) / [[1], [1], [_SAMPLES]]
    sign = other_work(before, read_cpu_times())
    print(f"disturbed: {sign}" if sign else "undisturbed", file=sys.stderr)
    rows: list[dict[str, Any]] = [
        {"name": name, "seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "other_work": int(bool(sign))}
        for name, (wall, cpu) in zip(("read", "first-sample", "sample"), seconds.tolist(), strict=True)
    ]
    rows[0] |= {
        "megabytes": round(_peak_megabytes()), "idle_megabytes": round(idle),
        "packed_megabytes": round(labeled.records.size_bytes / 1e6),
    }  # fmt: skip
    return rows


def measure_reference(folder: Path) -> list[dict[str, Any]]:
    """The row of pycocotools."""
    from pycocotools.coco import COCO

    idle, before, began = _peak_megabytes(), read_cpu_times(), _clocks()
    with contextlib.redirect_stdout(sys.stderr):
        COCO(str(folder / "annotations.json"))
    wall, cpu = np.subtract(_clocks(), began).tolist()
    return [
        {"name": "pycocotools", "seconds": round(wall, 3), "cpu_seconds": round(cpu, 3),
         "other_work": int(bool(other_work(before, read_cpu_times()))), "megabytes": round(_peak_megabytes()),
         "idle_megabytes": round(idle)}
    ]  # fmt: skip


def _document(images: int, instances: int) -> Iterator[str]:
    """COCO instances as text, in parts."""
    entries = ({"id": n, "file_name": _file_name(n), "height": SIZE[0], "width": SIZE[1]} for n in range(images))
    categories = [{"id": 1 + n, "name": f"category {n}"} for n in range(CATEGORIES)]
    yield f'{{"categories": {json.dumps(categories)}, "images": ['
    yield ", ".join(json.dumps(entry) for entry in entries)
    yield '], "annotations": ['
    shapes = list(_shapes())
    owners = np.random.default_rng(1).integers(0, images, instances)
    for number, image in enumerate(owners.tolist()):
        crowd = number % _CROWD == 0
        segmentation, box, area = _CROWDED if crowd else shapes[number % _SHAPES]
        yield (
            f'{", " if number else ""}{{"id": {number + 1}, "image_id": {image}, "category_id": '
            f'{1 + number % CATEGORIES}, "iscrowd": {int(crowd)}, "bbox": {box}, "area": {area}, "segmentation": '
            f"{segmentation}}}"
        )
    yield "]}"


def _shapes() -> Iterator[tuple[str, str, float]]:
    """Polygons, their boxes and areas, as JSON."""
    rng = np.random.default_rng(0)
    for _ in range(_SHAPES):
        count = int(rng.integers(6, 2 * _POINTS - 6))
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))
        radius, middle = rng.uniform(8, 100), rng.uniform((110, 110), (SIZE[1] - 110, SIZE[0] - 110))
        points = np.round(middle + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), 2)
        low, high = points.min(axis=0), points.max(axis=0)
        box = [*low.tolist(), *np.round(high - low, 2).tolist()]
        yield json.dumps([points.ravel().tolist()]), json.dumps(box), round(float(np.prod(high - low)), 2)


_CROWDED = (
    json.dumps({"size": list(SIZE), "counts": [0, 100, SIZE[0] * SIZE[1] - 100]}), "[0, 0, 1, 100]", 100.0
)  # fmt: skip


def _file_name(number: int) -> str:
    return f"{number:012d}.jpg"


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reference", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
