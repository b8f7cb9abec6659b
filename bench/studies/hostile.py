"""Measure memory and time that readers spend on hostile bundles, graphs, images and annotations.

    python -m bench.studies.hostile

A separate process reads each file, after it has read a valid file of the same kind. `peak_bytes` is the growth of the
process's largest resident set since then. `cpu_seconds` is the processor time, an upper bound, since other work on the
machine lengthens it. `allowed_bytes` is 1.1 times the file size plus 16 MB, the rule for bundles. `refused` is 1 if the
reader raised an error of this project and 0 if it accepted the file; anything else ends the study. Takes a minute;
Linux only, since the peak is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.lib.hostile_files import attacks
from bench.lib.study import run_study, study_parser, write_study
from blendmask_edge import BlendMaskError, Bundle, read_image
from blendmask_edge.evaluation.annotations import read_coco

_MEMORY_LIMIT = 16 * 2**30
_SECONDS_LIMIT = 60
BEFORE = {
    "bundle/manifest states 1000 bytes, unpacks to 128 MiB": {"before_peak_bytes": 2.0e9},
    "graph/5 million empty messages": {"before_peak_bytes": 2.2e9, "before_cpu_seconds": 15.0},
    "bundle/manifest of 500,000 lists": {"before_peak_bytes": 534e6},
    "image/JPEG of 32767 x 32767 behind a fill byte": {"before_peak_bytes": 6e9},
    "image/GIF of 65535 x 65535 in 50 bytes": {"before_peak_bytes": 8e9},
    "image/PNG chunk of 4 GB": {"before_peak_bytes": 4e9},
    "annotation/polygon of 2 million points": {"before_peak_bytes": 265e6},
    "annotation/polygon of 8 MB in zigzag": {"before_peak_bytes": 14.5e9, "before_cpu_seconds": 211.0},
}
"""Measurements of such files before readers had bounds; other sizes of the same kind."""


def main() -> None:
    """Measure and write bench/results/hostile.json."""
    options = _parse_arguments()
    if options.read:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS_LIMIT, _SECONDS_LIMIT))
        print(json.dumps(measure(*options.read)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(name, Path(folder)) for name in attacks() if options.only in name]
    print(f"Written: {write_study('hostile', rows, options.output)}")


def row(name: str, folder: Path) -> dict[str, Any]:
    """Read one attack in a process of its own."""
    kind = name.partition("/")[0]
    sound, path = (_written(attack, folder) for attack in (f"{kind}/benign", name))
    command = [sys.executable, "-m", "bench.studies.hostile", "--read", kind, str(sound), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {name} ended the reader with {done.returncode}: {done.stderr[-2000:]}")
    size = path.stat().st_size
    measured = {"name": name, "file_bytes": size, "allowed_bytes": _allowed_bytes(path), **json.loads(done.stdout)}
    shown = f"{measured['peak_bytes'] / 1e6:.1f} MB, {measured['cpu_seconds']:.2f} s"
    print(f"{name:<60}{size:>10} bytes  {shown}  {measured['answer'][:100]}", flush=True)
    path.unlink()
    return {**measured, **BEFORE.get(name, {})}


def _allowed_bytes(path: Path) -> int:
    """Return what a reader may take for a file before it has compared hashes."""
    return int(1.1 * path.stat().st_size + 16e6)


def _written(name: str, folder: Path) -> Path:
    file_name, data = attacks()[name]()
    path = folder / (f"sound-{file_name}" if name.endswith("/benign") else file_name)
    path.write_bytes(data)
    return path


def measure(kind: str, sound: str, path: str) -> dict[str, Any]:
    """Read a sound file and then a hostile one, and return what the second took.

    Raises:
        Exception: whatever is not an error of the reader.
    """
    read = READERS[kind]
    read(sound)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # from here on the peak is counted anew
    before, start = _peak_bytes(), time.process_time()
    refused, answer = 1, ""
    try:
        read(path)
        refused = 0
    except BlendMaskError as error:
        answer = str(error).replace(path, Path(path).name)
    seconds = time.process_time() - start
    measured = {"peak_bytes": _peak_bytes() - before, "cpu_seconds": round(seconds, 3), "refused": refused}
    return {**measured, "answer": answer[:300], "answer_characters": len(answer)}


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _read_bundle(path: str) -> None:
    bundle = Bundle.open(path)
    for variant in bundle.manifest.graphs:
        bundle.graph(variant)


READERS: dict[str, Callable[[str], Any]] = {
    "bundle": _read_bundle,
    "graph": _read_bundle,
    "image": read_image,
    "annotation": read_coco,
}


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--only", default="", help="files whose name holds this text")
    parser.add_argument("--read", nargs=3, metavar=("KIND", "SOUND", "FILE"), help="read one file and say what it took")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
