"""Inject faults: each file system call of loader, writer and cache fails in turn, or the process is killed there.

    python -m bench.studies.faults

`faults` counts the places. `refused` counts those where the caller got one error of this project, `right` those where
it got the correct result all the same, `missed` those where a cache had no entry, `killed` where the process died.
`older` and `new` count which file existed afterwards, `partial` those where it was neither, and `left` those where
another file remained after the next write. A foreign error ends the study. Takes seconds; POSIX only.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.lib.study import run_study, study_parser, write_study
from blendmask_edge import Bundle, BundleError, OutputError
from blendmask_edge.bundle import write_bundle
from blendmask_edge.storage.cache import Cache
from tests.sdk.storage.faults import die, each_fault, injected

_GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "schema2.bmz"
_OLDER = b"older"
OUTCOMES = ("refused", "right", "missed", "killed", "older", "new", "partial", "left")


def main() -> None:
    """Inject the faults and write bench/results/faults.json."""
    options = study_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        rows = [read(), write(folder / "written", killed=False), write(folder / "killed", killed=True), keep(folder)]
    for row in rows:
        print("  ".join(f"{metric} {value}" for metric, value in row.items()))
    print(f"Written: {write_study('faults', rows, options.output)}")


def read() -> dict[str, Any]:
    """Read a bundle and its graphs."""

    def load() -> Any:
        bundle = Bundle.open(_GOLDEN)
        return bundle.manifest, [bundle.graph(name) for name in bundle.manifest.graphs]

    sound, counts = load(), Counter[str]()
    for number in each_fault(load):
        with injected(number):
            answer = _answer(load)
        counts["refused" if answer is None else "right" if answer == sound else "partial"] += 1
    return _row("read a bundle, a call fails", counts)


def write(folder: Path, killed: bool) -> dict[str, Any]:
    """Write a bundle over an older file, with an error or the end of the process at each call."""
    folder.mkdir()
    bundle, path = Bundle.open(_GOLDEN), folder / "a.bmz"
    graphs = {name: bundle.graph(name) for name in bundle.manifest.graphs}

    def save() -> Any:
        return write_bundle(path, bundle.manifest, graphs)

    save()
    new, counts = path.read_bytes(), Counter[str]()
    for number in each_fault(save):
        path.write_bytes(_OLDER)
        counts[_killed(save, number) if killed else _failed(save, number)] += 1
        counts[_kind(path.read_bytes(), _OLDER, new)] += 1
        save()
        counts["left"] += len(list(folder.iterdir())) - 1
    return _row(f"write a bundle, {'the process is killed' if killed else 'a call fails'}", counts)


def keep(folder: Path) -> dict[str, Any]:
    """Keep a compiled graph in the cache and read it."""
    cache, older, new = Cache(folder / "cache", "engines"), b"older" * 1000, b"new" * 1000

    def use() -> Any:
        cache.keep("a.engine", new)
        return cache.read("a.engine")

    counts: Counter[str] = Counter()
    for number in each_fault(use):
        cache.write("a.engine", older)
        with injected(number):
            answer = use()
        counts["right" if answer == new else "missed"] += 1
        counts[_kind(cache.read("a.engine"), older, new)] += 1
        use()
        counts["left"] += len(list(cache.folder.iterdir())) - 1
    return _row("keep and read an engine, a call fails", counts)


def _kind(content: bytes | None, older: bytes, new: bytes) -> str:
    return {older: "older", new: "new"}.get(content or b"", "partial")


def _failed(work: Callable[[], Any], number: int) -> str:
    with injected(number):
        return "refused" if _answer(work) is None else "right"


def _killed(work: Callable[[], Any], number: int) -> str:
    child = os.fork()
    if not child:
        with injected(number, die):
            work()
        os._exit(1)
    os.waitpid(child, 0)
    return "killed"


def _answer(work: Callable[[], Any]) -> Any:
    """Return what the work returns, None where it ends with an error of ours."""
    try:
        return work()
    except (BundleError, OutputError):
        return None


def _row(name: str, counts: Counter[str]) -> dict[str, Any]:
    faults = sum(counts[metric] for metric in OUTCOMES[:4])
    return {"name": name, "faults": faults, **{metric: counts[metric] for metric in OUTCOMES}}


if __name__ == "__main__":
    run_study(main)
