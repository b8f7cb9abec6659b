"""Fuzz one reader with atheris, in this process: `make fuzz` and `bench.studies.fuzz` start one for each reader.

    python -m tests.fuzz.run TARGET FOLDER [options of libFuzzer]

FOLDER keeps what led to new paths. What breaks the target is written beside it as crash-HASH and named; move it to
tests/fuzz/crashes/TARGET when it is mended, where `test_targets.py` tries it for ever.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
with atheris.instrument_imports(include=["blendmask_edge"]):
    from tests.fuzz.targets import CRASHES, LONGEST, TARGETS, seeds

from tests.fuzz.mutate import scramble_zip


def main() -> None:
    """Fuzz until libFuzzer's options end it; it ends the process itself."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate([*seeds(name), *(path.read_bytes() for path in (CRASHES / name).glob("*"))]):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [f"-max_len={LONGEST.get(name, 2048)}", f"-artifact_prefix={folder / name}-", "-print_final_stats=1"]
    mutator = scramble_zip if name in ("bundle", "archive") else None
    atheris.Setup([sys.argv[0], *options, "-timeout=10", "-rss_limit_mb=2048", *sys.argv[3:], str(corpus)],
                  lambda data: TARGETS[name](data) and None, custom_mutator=mutator)  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main()
