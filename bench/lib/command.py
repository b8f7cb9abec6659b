"""Run the command line as a user does, in a separate process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MAIN = "from blendmask_edge.cli.app import main; main()"


def blendmask(*words: object) -> None:
    """Run `blendmask WORDS` with this interpreter; what it prints is shown.

    Raises:
        SystemExit: the command failed; it has said why.
    """
    shown = [str(word) for word in words]
    print(f"$ blendmask {' '.join(shown[:2])} ...", flush=True)
    failed = subprocess.run([sys.executable, "-c", _MAIN, *shown], check=False).returncode
    if failed:
        sys.exit(failed)


def quantize_with_float(checkpoint: Path, calibration: Path, output: Path) -> Path:
    """Quantize by the default recipe, keep the float graph to compare with, and return the bundle's path.

    Raises:
        SystemExit: the command failed; it has said why.
    """
    blendmask("quantize", checkpoint, "--calibration", calibration, "--output", output, "--keep-float")
    return output
