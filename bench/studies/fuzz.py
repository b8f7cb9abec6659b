"""Fuzz each reader of files: count the inputs, and those that broke it.

    make fuzz                                      # a minute for each reader
    python -m bench.studies.fuzz --seconds 280     # longer; --add adds to the counts of earlier runs
    python -m bench.studies.fuzz --executions 100000 --only record     # a number of inputs, on a busy machine

Each reader runs in a separate process under atheris, guided by coverage, from the valid files of tests/fuzz/targets.py
and from the corpus of earlier runs in `--folder`. A target fails if the reader raises a foreign error, or accepts a
file that a second parser (Python's json and zipfile, protobuf, pycocotools, OpenCV) reads differently. Each row has
`executions` and `crashes`, summed over `added` runs. The exit code is 1 if a target failed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.lib.study import read_rows, run_study, study_parser, write_study
from tests.fuzz.targets import TARGETS

_ROOT = Path(__file__).parents[2]


def main() -> None:
    """Fuzz and write bench/results/fuzz.json."""
    options = _parse_arguments()
    before = read_rows("fuzz", options.output) if options.add else {}
    rows = [_sum(fuzz(name, options), before.get(name, {})) for name in TARGETS if options.only in ("", name)]
    kept = [row for name, row in before.items() if name not in {row["name"] for row in rows}]
    print(f"Written: {write_study('fuzz', [*kept, *rows], options.output)}")
    if any(row["crashes"] for row in rows):
        sys.exit(1)


def fuzz(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fuzz one reader, and return its row."""
    command = [options.python, "-m", "tests.fuzz.run", name, str(options.folder)]
    limit = f"-runs={options.executions}" if options.executions else f"-max_total_time={options.seconds}"
    done = subprocess.run([*command, limit], cwd=_ROOT, capture_output=True, text=True, errors="replace", check=False)
    count = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    if count is None:
        sys.exit(f"error: {name} could not be fuzzed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    broken = bool(done.returncode)
    print(f"{name:<14}{int(count[1]):>10} executions" + ("  BROKEN" if broken else ""), flush=True)
    if broken:
        print(done.stdout[-3000:])
    return {"name": name, "executions": int(count[1]), "crashes": int(broken), "added": 1}


def _sum(row: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{metric: row[metric] + before.get(metric, 0) for metric in ("executions", "crashes", "added")}}


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each reader (default: 60)")
    parser.add_argument("--executions", type=int, default=0, help="for each reader, however long they take")
    parser.add_argument("--only", default="", choices=["", *TARGETS], metavar="READER", help=", ".join(TARGETS))
    parser.add_argument("--add", action="store_true", help="add to the counts of the last result")
    parser.add_argument(
        "--folder", type=Path, default=_ROOT / "out" / "fuzz", help="what led to new paths, and crashes"
    )
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has atheris")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
