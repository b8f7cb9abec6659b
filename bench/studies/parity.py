"""Compare the network with AdelaiDet, stage by stage: largest error over its tolerance.

    python -m bench.studies.parity --reference PARITY

PARITY holds recorded values of the reference: six networks of reduced width, an inference of each, and a training step
of two of them. `tests/recorded` holds one network and its inference. A row `CASE/STAGE/PRECISION` is the worst array of
a stage: `error_over_allowed` is its largest error over its tolerance, so 1 is the limit. Exact stages (candidates,
detections after NMS, masks outside the pixels that the reference marks as uncertain) count 0 if all elements are equal.
The tests use the same comparison, `tests/quantize/parity.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from bench.lib.study import study_parser, write_study
from tests.quantize import parity, training_parity
from tests.quantize.parity import Agreement, Reference
from tests.quantize.training_parity import TrainingReference
from tests.reference_values import recorded_cases

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def main() -> None:
    """Compare and write bench/results/parity.json."""
    parser = study_parser(__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="folder of the recorded values")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for precision in PRECISIONS for row in measure(options.reference, precision)]
    for row in rows:
        print(f"{row['name']:<40} {row.get('error_over_allowed', row.get('error'))}")
    print(f"Written: {write_study('parity', rows, options.output)}")


def measure(folder: Path, precision: str) -> Iterator[dict[str, Any]]:
    """The rows of every case in one precision."""
    dtype = PRECISIONS[precision]
    for case in recorded_cases(folder=folder):
        yield from rows_of(parity.agreements(Reference(folder / case), dtype), case, precision)
    for case in recorded_cases("training/forward.npz", folder):
        agreements = training_parity.training_agreements(TrainingReference(folder / case), dtype)
        yield from rows_of(agreements, f"{case}/training", precision)


def rows_of(agreements: Iterable[Agreement], case: str, precision: str) -> Iterator[dict[str, Any]]:
    """One row for each stage, which is the first part of a recorded name."""
    named = sorted(agreements, key=_stage)
    for stage, group in groupby(named, key=_stage):
        members = list(group)
        worst = max(members, key=lambda agreement: agreement.error_over_allowed)
        name = f"{case}/{stage}/{precision}"
        if math.isinf(worst.error_over_allowed):
            yield {"name": name, "error": f"{worst.stage} is exact in the reference and differs here"}
            continue
        yield {
            "name": name,
            "error_over_allowed": float(f"{worst.error_over_allowed:.3g}"),
            "arrays": len(members),
            "worst": worst.stage,
            "largest_error": float(f"{worst.error:.3g}"),
            "allowed": worst.allowed,
        }


def _stage(agreement: Agreement) -> str:
    return agreement.stage.partition(".")[0]


if __name__ == "__main__":
    main()
