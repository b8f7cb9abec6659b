"""Read and write the result file of a study, bench/results/NAME.json."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.lib.machine import machine_record
from blendmask_edge import BlendMaskError

RESULTS = Path(__file__).parents[1] / "results"
TIMING_PROTOCOL = 2
"""2: `blendmask_edge.benchmark.side_by_side`. Files without the field were timed without a rest between runtimes."""
GRAPH_VERSION = 2
"""2: predictors of classes, centerness and bases are quantized. Files without the field measured them in float.

Increase it with every change of the exported graphs that changes accuracy or time.
"""


def study_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of a study's arguments, with the folder of its result.

    Args:
        description: shown by `--help` as it stands.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the result")
    return parser


def run_study(main: Callable[[], None]) -> None:
    """Call what a study does; an error that a user can mend ends it with one message."""
    try:
        main()
    except BlendMaskError as error:
        sys.exit(f"error: {error}")


def write_study(study: str, rows: Sequence[Mapping[str, Any]], folder: Path = RESULTS) -> Path:
    """Write the rows of a study with the machine and the command that made them, and return the file's path.

    Args:
        study: name of the study, which is the module `bench.studies.NAME`.
        rows: `name`, and numbers by metric; README.md beside this file lists the metrics.
        folder: where the file goes.
    """
    document = {
        "study": study,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_record(),
        "command": command_line(study, sys.argv[1:]),
        "timing_protocol": TIMING_PROTOCOL,
        "graph_version": GRAPH_VERSION,
        "rows": list(rows),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study}.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def read_rows(study: str, folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the rows of a study by name; empty if it has not been run."""
    path = folder / f"{study}.json"
    if not path.is_file():
        return {}
    return {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}


def has_current_timing(study: str, folder: Path = RESULTS) -> bool:
    """Whether the times of a study were measured with the current protocol, or it has not been run."""
    return _field(study, "timing_protocol", folder) in (None, TIMING_PROTOCOL)


def has_current_graphs(study: str, folder: Path = RESULTS) -> bool:
    """Whether a study measured graphs of the current version, or it has not been run."""
    return _field(study, "graph_version", folder) in (None, GRAPH_VERSION)


def _field(study: str, name: str, folder: Path) -> int | None:
    """A version number in the file of a study: 1 if the file lacks it, None if there is no file."""
    path = folder / f"{study}.json"
    return int(json.loads(path.read_text(encoding="utf-8")).get(name, 1)) if path.is_file() else None


def command_line(study: str, arguments: Sequence[str]) -> str:
    """The command that runs a study; of a path that leaves the checkout only the last part is kept."""
    shown = [Path(a).name if Path(a).is_absolute() or ".." in Path(a).parts else a for a in arguments]
    return shlex.join(["python", "-m", f"bench.studies.{study}", *shown])
