"""Arithmetic: what becomes of AP and masks of the `tensorrt` graph in each arithmetic that a GPU may use?

    make demo
    python -m bench.studies.arithmetic --data HOMESCENES --limit 200

ONNX Runtime without optimizations computes rewritten graphs in float32, so neither a GPU nor a CPU with VNNI is needed;
rows are those of `blendmask_quantize.validation.gpu_arithmetic.GRAPH_IN`.

`mask_iou`, `missed` and `spurious` compare instances of a score of at least 0.3 with those of `reference`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.scenes import accuracy, scenes_parser
from bench.lib.study import run_study, write_study
from blendmask_edge import Bundle, Instances
from blendmask_quantize.validation.as_written import AsWritten
from blendmask_quantize.validation.fidelity import compare_instances
from blendmask_quantize.validation.gpu_arithmetic import GRAPH_IN

_BUNDLE = Path(__file__).parents[2] / "out" / "demo" / "lite0_rt.bmz"
_MOST = 200


class Recorded:
    """A predictor that keeps what it predicted, in order."""

    def __init__(self, predict: Callable[[NDArray[np.uint8]], Instances]) -> None:
        self.predict, self.instances = predict, list[Instances]()

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Instances in an image (H, W, 3) uint8 RGB."""
        self.instances.append(self.predict(image))
        return self.instances[-1]


def main() -> None:
    """Measure and write bench/results/arithmetic.json."""
    options = _parse_arguments()
    bundle = Bundle.open(options.bundle)
    graph = bundle.graph("tensorrt")
    rows: list[dict[str, Any]] = []
    reference: list[Instances] = []
    for name, rewrite in GRAPH_IN.items():
        recorded = Recorded(AsWritten(bundle.manifest, rewrite(graph)))
        metrics = accuracy(recorded, options.data, "val", options.limit or _MOST)
        reference = reference or recorded.instances
        compared = compare_instances(zip(reference, recorded.instances, strict=True))
        agreement = {"mask_iou": round(compared.mask_iou, 4), "missed": compared.missed, "spurious": compared.spurious}
        rows.append({"name": name, **metrics, **agreement, "instances": compared.instances, "images": compared.images})
        print(rows[-1], flush=True)
    print(f"Written: {write_study('arithmetic', rows, options.output)}")


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "limit")
    parser.add_argument("--bundle", type=Path, default=_BUNDLE, help="bundle of the shipped model, as of `make demo`")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
