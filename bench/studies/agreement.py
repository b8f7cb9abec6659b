"""Measure how far the runtimes agree on the detections of an INT8 graph, and how far they can.

    python -m bench.studies.agreement

Each image runs through a graph in ONNX Runtime without optimizations, which computes the graph as written, and through
the same graph in each runtime as the SDK loads it. Rows are `VARIANT/RUNTIME`. Detections of the graph as written with
a score of at least 0.3 are compared.

Runtimes fuse operators and therefore add and scale in another order. A value within float rounding of the middle
between two integers may be rounded to either, and each following layer amplifies such steps. `VARIANT/rounding` shows
this effect alone: the graph as written against itself, with the first convolution perturbed by a random millionth.

`matched_share` is the share of both graphs' detections that the other graph has too. Targets are recorded beside the
results; `passed` is 1 if both are reached.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bench.lib.command import quantize_with_float
from bench.lib.progress import stage
from bench.lib.scenes import CALIBRATION, CHECKPOINT, EVALUATION
from bench.lib.sessions import RUNTIMES
from bench.lib.study import run_study, study_parser, write_study
from blendmask_edge import Bundle, Instances, MaskPredictor, read_image
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_quantize.validation.as_written import AsWritten
from blendmask_quantize.validation.fidelity import Fidelity, compare_instances

VARIANTS = ("cpu", "tensorrt")
ROUNDING = "rounding"
NOISE = 1e-6
"""Relative, of a float32 sum of some tens of products."""
_METRICS = ("score_drift", "box_iou", "mask_iou", "mask_iou_low")
TARGETS = {"matched_share": 0.99, "mask_iou": 0.99}


def main() -> None:
    """Measure and write bench/results/agreement.json."""
    options = _parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "agreement.bmz"
        bundle = options.bundle or quantize_with_float(options.checkpoint, options.calibration, made)
        images = [read_image(path) for path in sorted(options.images.glob("*.jpg"))[: options.limit]]
        rows = [row for variant in VARIANTS for row in variant_rows(bundle, variant, images)]
    for row in rows:
        print(f"{row['name']:<24}" + "  ".join(f"{name} {row[name]:.4g}" for name in row if name != "name"))
    print(f"Written: {write_study('agreement', rows, options.output)}")


def variant_rows(bundle: Path, variant: str, images: list[NDArray[np.uint8]]) -> list[dict[str, Any]]:
    """The rows of one variant."""
    opened, on_image = Bundle.open(bundle), stage(f"{variant} in every runtime", len(images))
    graph = opened.graph(variant)
    written = AsWritten(opened.manifest, graph)
    with ExitStack() as stack:
        others: dict[str, Predictor] = {
            runtime: stack.enter_context(MaskPredictor(bundle, runtime, threads=1, score_threshold=0, variant=variant))
            for runtime in RUNTIMES
        }
        others[ROUNDING] = AsWritten(opened.manifest, with_noise(graph))
        compared: dict[str, list[tuple[Instances, Instances]]] = {name: [] for name in others}
        for image in images:
            expected = written(image)
            for name, predict in others.items():
                compared[name].append((expected, predict(image)))
            on_image()
    return [{"name": f"{variant}/{name}", **_columns(compare_instances(pairs))} for name, pairs in compared.items()]


def with_noise(graph: bytes) -> bytes:
    """The graph with the result of its first convolution off by `NOISE`, drawn by a seed."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    shape = next(value for value in model.graph.value_info if value.name == conv.output[0]).type.tensor_type.shape
    values = np.random.default_rng(0).standard_normal([dimension.dim_value for dimension in shape.dim])
    noise = numpy_helper.from_array((1 + NOISE * values).astype(np.float32), "noise")
    result, exact = conv.output[0], "before_noise"
    conv.output[0] = exact
    model.graph.initializer.append(noise)
    at = list(model.graph.node).index(conv)
    model.graph.node.insert(at + 1, helper.make_node("Mul", [exact, noise.name], [result]))
    return model.SerializeToString()


def _columns(fidelity: Fidelity) -> dict[str, Any]:
    share = fidelity.matched / max(fidelity.matched + fidelity.missed + fidelity.spurious, 1)
    known = fidelity.record()
    columns: dict[str, Any] = {
        "images": fidelity.images,
        "instances": fidelity.instances,
        "matched_share": round(share, 4),
    }
    columns |= {name: round(known[name], 4) for name in _METRICS if name in known}
    reached = all(columns.get(name, 0) >= target for name, target in TARGETS.items())
    return {**columns, **{f"target_{name}": target for name, target in TARGETS.items()}, "passed": int(reached)}


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--calibration", type=Path, default=CALIBRATION)
    parser.add_argument("--images", type=Path, default=EVALUATION, help="folder of JPEG files to find instances in")
    parser.add_argument("--bundle", type=Path, help="measure this one")
    parser.add_argument("--limit", type=int, help="only the first images, to try things out")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
