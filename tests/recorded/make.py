"""Choose, from all of AdelaiDet's recorded numbers, those that ship with the tests: README.md beside this file.

    python -m tests.recorded.make PARITY

PARITY is the folder of the whole recording. Values are copied or sampled, never computed.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.reference_values import CASES, SHIPPED

CASE = "rt_bnhead"
MOST = 512
"""Elements of an array that ship; of a larger one so many are drawn."""
UNITS = ("nms.npz", "losses.npz", "targets.npz", "postprocess.npz", "units.json")
TRAINING = ("meta.json", "targets.npz")
ALWAYS_WHOLE = ("cand", "nms", "final")
"""Stages of few and exact numbers."""

Arrays = dict[str, NDArray[Any]]


def main() -> None:
    """Write the folder that ships."""
    parity = Path(sys.argv[1])
    for name in CASES:
        copy(parity / name, SHIPPED / name, "config.json")
    copy(parity / CASE, SHIPPED / CASE, "weights.safetensors", "inference.json")
    copy(parity / CASE / "training", SHIPPED / CASE / "training", *TRAINING)
    copy(parity / "units", SHIPPED / "units", *UNITS)
    np.savez_compressed(SHIPPED / CASE / "inference.npz", **sampled(dict(np.load(parity / CASE / "inference.npz"))))
    image = np.load(parity / CASE / "image.npz")["rgb_original"]
    cv2.imwrite(str(SHIPPED / CASE / "image.png"), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def copy(source: Path, target: Path, *names: str) -> None:
    """Copy files, writable whatever the sources are; JSON without its spaces."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith(".json"):
            document = json.loads((source / name).read_text(encoding="utf-8"))
            (target / name).write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(source / name, target / name)


def sampled(arrays: Arrays) -> Arrays:
    """Each array as it is where it is small, else `NAME.idx` and `NAME.val`: places in it, and what lies there."""
    chosen: Arrays = {}
    for name, values in arrays.items():
        stage, _, kind = name.rpartition(".")
        if kind == "first10" or (kind == "idx" and values.size > MOST):
            continue
        if values.size <= MOST or kind == "packed" or name.split(".")[0] in ALWAYS_WHOLE:
            chosen[name] = values
            continue
        drawn = np.sort(np.random.default_rng(0).choice(values.size, MOST, replace=False))
        places, stage = (arrays[f"{stage}.idx"][drawn], stage) if kind == "val" else (drawn.astype(np.int32), name)
        chosen |= {f"{stage}.idx": places, f"{stage}.val": values.ravel()[drawn]}
    return chosen


if __name__ == "__main__":
    main()
