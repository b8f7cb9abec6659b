"""Measure the SDK as a robot uses it: a stream, a large image in tiles, the size of the install.

    python -m bench.studies.robot M.bmz --data HOMESCENES
    python -m bench.studies.robot M.bmz --data HOMESCENES --parts tiles

`stream`: a video of 640 x 480 is predicted frame by frame, which gives the time of each stage alone, and as a stream
that drops nothing, in alternating rounds with the same threads, with all instances that the graph outputs.
`stream_share` is the rate of the stream over the one that the slowest stage alone allows. `stream/paced` is a camera
of twice that rate, whose oldest frames are dropped.

`4k/single`, `4k/tiles`: images of 3840 x 2160 in which ten scenes of the held-out split lie at their own size, so that
most instances are small; mask AP of one call and of tiles of the network's input. Independent of other work.

`install/VERSION`: megabytes and packages of the wheel with the extra `cpu` in an empty environment of each of
`--pythons`, and of its largest packages; `install/VERSION/needed` is without those that prediction never imports, and
predicts to prove it.

Nothing else may run beside the stream: a disturbed round is repeated, and refused in the end. Rows of parts that are
left out stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench.lib.quiet import quietly
from bench.lib.scenes import frames, scenes_parser
from bench.lib.study import read_rows, run_study, write_study
from blendmask_edge import ConfigError, MaskPredictor, read_image
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import evaluate
from blendmask_edge.imaging import resize

Image = NDArray[np.uint8]
STAGES = ("capture", "preprocess", "inference", "postprocess")
FRAME_SIZE, FRAMES, ROUNDS = (480, 640), 150, 3
LARGE_SIZE, CELLS, SCENES = (2160, 3840), (5, 7), 10
"""Of a large image: its size, how many scenes would fit in rows and columns, and how many it shows."""


def main() -> None:
    """Measure and write bench/results/robot.json."""
    options = _parse_arguments()
    rows = read_rows("robot", options.output)
    for part in options.parts:
        for row in PARTS[part](options):
            rows[row["name"]] = row
            print(f"{row['name']:<16}" + "  ".join(f"{name} {row[name]:.4g}" for name in row if name != "name"))
    print(f"Written: {write_study('robot', list(rows.values()), options.output)}")


def stream_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rates of a video as a stream against its slowest stage."""
    with (
        tempfile.TemporaryDirectory() as folder,
        MaskPredictor(options.bundle, "onnxruntime", options.threads, score_threshold=0) as predictor,
    ):
        video = _write_video(Path(folder) / "drive.avi", frames(options.data, "val", FRAMES))
        predictor.warm_up(image=frames(options.data, "val", 1)[0])
        readings = quietly(
            lambda: [(stages_alone(predictor, video), streamed(predictor, video)) for _ in range(ROUNDS)]
        )
        stages = np.median([alone for alone, _ in readings], axis=0)
        rate = float(np.median([stream["rate"] for _, stream in readings]))
        yield {
            "name": "stream",
            "threads": options.threads,
            "cores": len(os.sched_getaffinity(0)),
            **{f"{name}_ms": _rounded(1000 * seconds) for name, seconds in zip(STAGES, stages, strict=True)},
            "stream_rate": _rounded(rate),
            "stream_share": _rounded(rate * float(stages.max())),
            **{name: _rounded(float(np.median([stream[name] for _, stream in readings]))) for name in _TIMES},
            "target_stream_share": 0.9,
        }
        paced = quietly(lambda: paced_stream(predictor, video, 2 / float(stages.max())))
        yield {"name": "stream/paced", **{name: _rounded(value) for name, value in paced.items()}}


_TIMES = ("latency_p50_ms", "jitter_ms")


def stages_alone(predictor: MaskPredictor, video: Path) -> list[float]:
    """Median seconds of each of `STAGES`, one frame after the other."""
    times: list[tuple[float, ...]] = []
    capture = cv2.VideoCapture(str(video))
    while True:
        start = time.perf_counter()
        is_read, frame = capture.read()
        captured = time.perf_counter() - start
        if not is_read:
            return np.median(times, axis=0).tolist()
        predictor(np.asarray(frame, np.uint8), channels="bgr")
        times.append((captured, *predictor.timings))


def streamed(predictor: MaskPredictor, video: Path) -> dict[str, float]:
    """Rate, latency and jitter of the video as a stream, from its tenth result on."""
    with predictor.stream(video, "never", channels="bgr") as stream:
        received = [time.perf_counter() for _ in stream]
    report, steady = stream.report, received[10:]
    rate = (len(steady) - 1) / (steady[-1] - steady[0])
    return {"rate": rate, "latency_p50_ms": 1000 * report.latency, "jitter_ms": 1000 * report.jitter}


def paced_stream(predictor: MaskPredictor, video: Path, rate: float) -> dict[str, float]:
    """Latency, jitter and losses where a camera gives `rate` frames per second and the oldest are dropped."""
    with predictor.stream(_paced(_read(video), rate), "oldest", channels="bgr") as stream:
        for _ in stream:
            pass
    report = stream.report
    return {
        "camera_rate": rate,
        "stream_rate": report.rate,
        "latency_p50_ms": 1000 * report.latency,
        "jitter_ms": 1000 * report.jitter,
        "dropped_share": report.dropped / (report.dropped + report.frames),
    }


def _paced(images: Iterator[Image], rate: float) -> Iterator[Image]:
    start = time.perf_counter()
    for number, image in enumerate(images):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        yield image


def _read(video: Path) -> Iterator[Image]:
    capture = cv2.VideoCapture(str(video))
    while (read := capture.read())[0]:
        yield np.asarray(read[1], np.uint8)


def _write_video(path: Path, images: Sequence[Image]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, FRAME_SIZE[::-1])
    for image in images:
        writer.write(np.ascontiguousarray(resize(image, FRAME_SIZE)[..., ::-1]))
    writer.release()
    return path


def tile_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Mask AP of large images in one call and in tiles."""
    with (
        tempfile.TemporaryDirectory() as name,
        MaskPredictor(options.bundle, "onnxruntime", score_threshold=0) as predictor,
    ):
        folder = Path(name)
        _write_large_images(options.data, folder, options.images)
        images = AnnotatedImages.open(folder, folder / "large.json")
        size = predictor.manifest.input
        tiled = partial(predictor.predict_tiled, overlap=options.overlap)
        for name, predict in (("4k/single", predictor), ("4k/tiles", tiled)):
            metrics = evaluate(predict, images)
            yield {
                "name": name,
                "images": options.images,
                "tile_height": size.height,
                "tile_width": size.width,
                "overlap": options.overlap,
                **{key: round(value, 4) for key, value in metrics.items() if key in _METRICS},
            }


_METRICS = ("mask_ap", "mask_ap50", "mask_ap_small", "mask_ap_medium", "mask_ap_large")


def _write_large_images(data: Path, folder: Path, count: int) -> None:
    """Lay scenes of the held-out split into large gray images, with their annotations."""
    document = json.loads((data / "val.json").read_text(encoding="utf-8"))
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in document["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    scenes = iter(document["images"])
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        canvas = np.full((*LARGE_SIZE, 3), 114, np.uint8)
        cells = np.random.default_rng(number).permutation(CELLS[0] * CELLS[1])[:SCENES]
        for cell in cells.tolist():
            scene = next(scenes)
            pixels = read_image(data / "val" / scene["file_name"])
            y, x = (cell // CELLS[1]) * LARGE_SIZE[0] // CELLS[0], (cell % CELLS[1]) * LARGE_SIZE[1] // CELLS[1]
            canvas[y : y + scene["height"], x : x + scene["width"]] = pixels[..., ::-1]
            annotations += [_moved(each, x, y, scene, number) for each in by_image.get(scene["id"], [])]
        file_name = f"{number:03}.png"
        cv2.imwrite(str(folder / file_name), canvas)
        images.append({"id": number, "file_name": file_name, "height": LARGE_SIZE[0], "width": LARGE_SIZE[1]})
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    large = {"images": images, "annotations": annotations, "categories": document["categories"]}
    (folder / "large.json").write_text(json.dumps(large), encoding="utf-8")


def _moved(annotation: dict[str, Any], x: int, y: int, scene: dict[str, Any], image_id: int) -> dict[str, Any]:
    """An annotation of a scene that lies at x, y of a large image."""
    rle: Any = annotation["segmentation"]
    if isinstance(rle, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(rle, scene["height"], scene["width"]))
    elif isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, scene["height"], scene["width"])
    mask = np.zeros(LARGE_SIZE, np.uint8, order="F")
    mask[y : y + scene["height"], x : x + scene["width"]] = coco_mask.decode(rle)
    packed = coco_mask.encode(mask)
    left, top, width, height = annotation["bbox"]
    return {
        **annotation,
        "image_id": image_id,
        "bbox": [left + x, top + y, width, height],
        "segmentation": {"size": list(LARGE_SIZE), "counts": packed["counts"].decode()},
    }


def install_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Sizes of the packages that a robot gets, by version of Python."""
    if options.wheel is None:
        raise ConfigError("The part install needs --wheel FILE.whl, which `make wheel` builds.")
    for interpreter in options.pythons:
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder) / "bin" / "python"
            _run(interpreter, "-m", "venv", folder)
            _run(python, "-m", "pip", "install", "--quiet", f"{options.wheel}[cpu]")
            version = _run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
            yield _install_row(f"install/{version}", python)
            unused = sorted(UNUSED & set(json.loads(_run(python, "-c", _SIZES))))
            if unused:
                _run(python, "-m", "pip", "uninstall", "--quiet", "-y", *unused)
                _run(python, "-c", _PREDICT, options.bundle.absolute())
                yield _install_row(f"install/{version}/needed", python)


UNUSED = {
    "coloredlogs", "contourpy", "cycler", "fonttools", "humanfriendly", "importlib-resources", "importlib_resources",
    "kiwisolver", "matplotlib", "mpmath", "pillow", "pyparsing", "python-dateutil", "six", "sympy", "tzdata", "zipp",
}  # fmt: skip
"""Packages that others ask for and the SDK never imports; of these, pycocotools' evaluation needs matplotlib."""
_LARGEST = 4
_SIZES = """
import importlib.metadata as metadata, json
sizes = {}
for found in metadata.distributions():
    files = [found.locate_file(file) for file in found.files or ()]
    sizes[found.metadata["Name"].lower()] = sum(file.stat().st_size for file in files if file.is_file())
print(json.dumps({name: size for name, size in sizes.items() if name not in ("pip", "setuptools")}))
"""
_PREDICT = """
import sys, numpy
from blendmask_edge import MaskPredictor
with MaskPredictor(sys.argv[1]) as predictor:
    predictor(numpy.zeros((480, 640, 3), numpy.uint8)).rles()
"""


def _install_row(name: str, python: Path) -> dict[str, Any]:
    sizes = json.loads(_run(python, "-c", _SIZES))
    largest = sorted(sizes, key=sizes.get, reverse=True)[:_LARGEST]
    return {
        "name": name,
        "megabytes": round(sum(sizes.values()) / 1e6),
        "packages": len(sizes),
        **{f"megabytes/{package}": round(sizes[package] / 1e6) for package in largest},
    }


def _run(*words: object) -> str:
    """Run a command outside of this checkout's Python path, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{words[0]} {words[1]} {words[2]} failed: {done.stderr[-500:]}")
    return done.stdout


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "install": install_rows,
    "stream": stream_rows,
    "tiles": tile_rows,
}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=sorted(PARTS), help="what to measure")
    parser.add_argument("--threads", type=int, default=1, help="of the network in the stream")
    parser.add_argument("--images", type=int, default=20, help="large images, of ten scenes each")
    parser.add_argument("--overlap", type=float, default=0.25, help="share of a tile that its neighbor covers as well")
    parser.add_argument("--wheel", type=Path, help="for the part install; `make wheel` builds it")
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], help="interpreters for the part install")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
