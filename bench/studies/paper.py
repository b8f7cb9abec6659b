"""Claims of the BlendMask paper, repeated on this machine: time with random weights, and AP of the shipped network.

    python -m bench.studies.paper --data HOMESCENES --part nms blender mask-rcnn

Rows of parts that are not measured stay as they are in the result.

| row | what |
|---|---|
| `mask-rcnn/N`, `blendmask/N` | torchvision's Mask R-CNN R50-FPN and BlendMask R_50_3x in PyTorch, image to masks |
| `blender/N`, `weighted-sum/N`, `assembler/N` | ways to merge bases to N masks |
| `batched-nms/SPLIT`, `fast-nms/SPLIT` | ways to suppress the candidates of the shipped network |

Both networks have the same input and detect the same number N of instances, in turn; `speedup` is the time of Mask
R-CNN over that of BlendMask. `merge_ms` is pooling and merging, `top_layer_ms` the convolution over all levels that
gives the weights. `suppression_ms` is suppression alone, and AP is measured on the first `--images` of a split.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.lib.progress import stage
from bench.lib.scenes import CALIBRATION, SPLITS, scenes_parser, split_images
from bench.lib.study import read_rows, run_study, write_study
from bench.peers.mask_rcnn import Frame, blendmask_frame, mask_rcnn_frame
from blendmask_edge import Instances, Labels, read_image
from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.bootstrap import RESAMPLES, Matches, draw_images, interval
from blendmask_edge.hardware.timing import WARM_UP, read_in_turn
from blendmask_edge.imaging import resize
from blendmask_quantize import load_checkpoint
from blendmask_quantize.model.blender import blend, pool_bases
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.detect import Candidates, candidates, select, with_masks
from blendmask_quantize.model.predictor import network_input, to_outputs

Row = dict[str, Any]
NMS = {"batched-nms": "batched", "fast-nms": "fast"}
BLENDERS = {"blender": (4, 14), "weighted-sum": (4, 1), "assembler": (9, 0)}
"""Number of bases and side M of the attention of the paper's configuration; the assembler has one base a place."""
COUNTS = (10, 100)
_RESOLUTION, _WIDTH, _STRIDES = 56, 256, (8, 16, 32, 64, 128)


def main() -> None:
    """Measure the parts that are asked for and write bench/results/paper.json."""
    options = _parse_arguments()
    torch.set_num_threads(options.threads)
    rows = read_rows("paper", options.output)
    for part in options.part:
        before = read_cpu_times()
        measured = PARTS[part](options)
        busy = int(bool(other_work(before, read_cpu_times())))
        for row in measured:
            print(f"{row['name']:<24}" + "  ".join(f"{key} {value}" for key, value in row.items() if key != "name"))
        rows |= {row["name"]: row | {"other_work": busy} for row in measured}
        print(f"Written: {write_study('paper', list(rows.values()), options.output)}", flush=True)


def mask_rcnn_rows(options: argparse.Namespace) -> list[Row]:
    """Frames of both networks, in turn."""
    pixels = resize(read_image(sorted(CALIBRATION.glob("*.jpg"))[0]), options.size)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    made: dict[str, Callable[[torch.Tensor, int], Frame]] = {"mask-rcnn": mask_rcnn_frame, "blendmask": blendmask_frame}
    frames = {f"{name}/{count}": make(image, count) for count in COUNTS for name, make in made.items()}
    detected = {name: frame() for name, frame in frames.items()}
    times = read_in_turn({name: partial(_milliseconds, frame) for name, frame in frames.items()}, _turns(options))
    rows = []
    for name, readings in times.items():
        height, width = options.size
        row = {"name": name, **_latency(readings), "instances": detected[name], "height": height, "width": width}
        if name.startswith("blendmask"):
            other = times[f"mask-rcnn/{name.partition('/')[2]}"]
            row["speedup"] = _rounded(np.median(other) / np.median(readings))
        rows.append(row)
    return rows


def blender_rows(options: argparse.Namespace) -> list[Row]:
    """Merging, and the top layer that it needs, on random tensors of the input's size."""
    height, width = options.size
    draw = torch.Generator().manual_seed(0)
    levels = [torch.randn(1, _WIDTH, -(-height // s), -(-width // s), generator=draw) for s in _STRIDES]
    runs: dict[tuple[str, int, str], Callable[[], Any]] = {}
    for name, (bases, side) in BLENDERS.items():
        maps = torch.randn(1, bases, height // 4, width // 4, generator=draw)
        top = nn.Conv2d(_WIDTH, bases * side**2, 3, padding=1) if side else None
        for count in COUNTS:
            corners = torch.rand(count, 2, generator=draw) * 300
            boxes = torch.cat([corners, corners + 40 + 100 * torch.rand(count, 2, generator=draw)], dim=1)
            weights = torch.randn(count, bases * side**2, generator=draw)
            runs[name, count, "merge_ms"] = partial(_merge, maps, boxes, weights, side)
        runs[name, 0, "top_layer_ms"] = partial(_top_layer, top, levels)
    times = read_in_turn({key: partial(_milliseconds, run) for key, run in runs.items()}, _turns(options))
    medians = {key: _rounded(np.median(readings)) for key, readings in times.items()}
    return [
        {
            "name": f"{name}/{count}",
            "merge_ms": medians[name, count, "merge_ms"],
            "top_layer_ms": medians[name, 0, "top_layer_ms"] if side else 0.0,
            "bases": bases,
            "attention_size": side,
        }
        for name, (bases, side) in BLENDERS.items()
        for count in COUNTS
    ]


@torch.inference_mode()
def _merge(maps: torch.Tensor, boxes: torch.Tensor, weights: torch.Tensor, side: int) -> torch.Tensor:
    pooled = pool_bases(maps, boxes, torch.zeros(len(boxes), dtype=torch.int64), _RESOLUTION)
    return blend(pooled, weights, side)


@torch.inference_mode()
def _top_layer(top: nn.Conv2d | None, levels: list[torch.Tensor]) -> list[torch.Tensor]:
    return [] if top is None else [top(level) for level in levels]


def nms_rows(options: argparse.Namespace) -> list[Row]:
    """AP of both ways to suppress, on the same raw predictions, and their times on the candidates of each image."""
    checkpoint = load_checkpoint(options.checkpoint)
    return [row for split in SPLITS for row in _nms_rows(checkpoint.model, checkpoint.labels, split, options)]


def _nms_rows(model: BlendMask, labels: Labels, split: str, options: argparse.Namespace) -> list[Row]:
    images = split_images(options.data, split, options.images, labels)
    step = stage(split, len(images.ids))
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in NMS}
    times: dict[str, list[float]] = {name: [] for name in NMS}
    counts = []
    for image_id in images.ids:
        x, transform = network_input(model, images.read(image_id))
        with torch.inference_mode():
            predictions = model(x)
            selectable = candidates(predictions, model.config.head.strides, model.config.inference)
            counts.append(len(selectable.scores))
            for name, kind in NMS.items():
                selected = _suppressed(model, selectable, kind, times[name])
                outputs = to_outputs(with_masks(model, predictions, selected))
                results[name] += Instances.from_outputs(outputs, transform, labels).to_coco(image_id)
        step()
    draws = draw_images(len(images.ids), options.resamples, 0)
    rows = []
    for name, detections in results.items():
        low, high = interval(Matches.of(images.coco, detections, images.ids).distribution(draws)["mask_ap"])
        row = {"name": f"{name}/{split}", "mask_ap": round(score(images.coco, detections, images.ids)["mask_ap"], 4)}
        row |= {"mask_ap_low": round(low, 4), "mask_ap_high": round(high, 4), "images": len(images.ids)}
        rows.append(row | {"suppression_ms": _rounded(np.median(times[name])), "candidates": int(np.median(counts))})
    return rows


def _suppressed(model: BlendMask, selectable: Candidates, kind: str, times: list[float]) -> Candidates:
    """Survivors; the median of three times is added to `times`."""
    config, readings = replace(model.config.inference, nms=kind), []
    for _ in range(3):
        start = time.perf_counter()
        selected = select(selectable, config)
        readings.append(1000 * (time.perf_counter() - start))
    times.append(float(np.median(readings)))
    return selected


def _milliseconds(run: Callable[[], Any], _: int) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def _turns(options: argparse.Namespace) -> range:
    return range(WARM_UP, options.rounds)


def _latency(readings: list[float]) -> dict[str, float]:
    return {f"latency_p{share}_ms": _rounded(np.percentile(readings, share)) for share in (50, 90)}


def _rounded(value: Any) -> float:
    return float(f"{float(value):.4g}")


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "mask-rcnn": mask_rcnn_rows,
    "blender": blender_rows,
    "nms": nms_rows,
}


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "checkpoint", "threads")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--images", type=int, default=100, help="of each split, to measure AP on")
    parser.add_argument("--size", type=_size, default=(480, 640), help="HEIGHTxWIDTH of the input, multiples of 128")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="draws of the bootstrap")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
