"""Size of what a robot installs, time of the import and until the first mask, and peak memory."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.quiet import quietly
from bench.lib.robot.rows import rounded
from blendmask_edge import ConfigError


def install_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Sizes of the packages that a robot gets, by version of Python."""
    for version, python in _environments(options):
        yield _install_row(f"install/{version}", python)
        unused = sorted(UNUSED & set(json.loads(_run(python, "-c", _SIZES))))
        if unused:
            _run(python, "-m", "pip", "uninstall", "--quiet", "-y", *unused)
            _run(python, "-c", _PREDICT, options.bundle.absolute())
            yield _install_row(f"install/{version}/needed", python)


def start_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Times of the import and until the first mask, by version of Python."""
    for version, python in _environments(options):
        yield _start_row(version, python, options)


def _environments(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Version and interpreter of an environment with the wheel and the extra `cpu`, for each of `--pythons`."""
    if options.wheel is None:
        raise ConfigError("The parts install and start need --wheel FILE.whl, which `make wheel` builds.")
    for interpreter in options.pythons:
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder) / "bin" / "python"
            _run(interpreter, "-m", "venv", folder)
            _run(python, "-m", "pip", "install", "--quiet", f"{options.wheel}[cpu]")
            yield _run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip(), python


def _start_row(version: str, python: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Medians over fresh processes, whose files the system has cached after the first."""
    image = sorted((options.data / "val").glob("*.jpg"))[0].absolute()

    def measure() -> list[list[float]]:
        outputs = [_run(python, "-c", _START, options.bundle.absolute(), image) for _ in range(_STARTS + 1)]
        return [json.loads(output) for output in outputs[1:]]

    times = measure() if options.busy else quietly(measure)
    imported, first_mask, peak = np.median(times, axis=0).tolist()
    return {
        "name": f"start/{version}",
        "import_s": rounded(imported),
        "first_mask_s": rounded(first_mask),
        "peak_megabytes": rounded(peak),
        "busy": options.busy,
        "target_import_s": 0.15,
        "target_first_mask_s": 1.0,
    }


_STARTS = 7
_START = """
import time
start = time.perf_counter()
import blendmask_edge
imported = time.perf_counter() - start
import sys, resource
with blendmask_edge.MaskPredictor(sys.argv[1]) as predictor:
    assert predictor(blendmask_edge.read_image(sys.argv[2])).crops()
    print([imported, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3])
"""

UNUSED = {
    "coloredlogs", "contourpy", "cycler", "fonttools", "humanfriendly", "importlib-resources", "importlib_resources",
    "kiwisolver", "matplotlib", "mpmath", "pyparsing", "python-dateutil", "six", "sympy", "tzdata", "zipp",
}  # fmt: skip
"""Packages that others ask for and the SDK never imports; of these, pycocotools' evaluation needs matplotlib."""
_LEAST_BYTES = 500_000
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
    large = [name for name in sorted(sizes, key=sizes.get, reverse=True) if sizes[name] >= _LEAST_BYTES]
    return {
        "name": name,
        "megabytes": round(sum(sizes.values()) / 1e6),
        "packages": len(sizes),
        **{f"megabytes/{package}": round(sizes[package] / 1e6, 1) for package in large},
    }


def _run(*words: object) -> str:
    """Run a command outside of this checkout's Python path, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{words[0]} {words[1]} {words[2]} failed: {done.stderr[-500:]}")
    return done.stdout
