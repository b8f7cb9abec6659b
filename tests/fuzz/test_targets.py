"""Every reader that is fuzzed takes its sound files, and refuses what once broke it, without atheris."""

from __future__ import annotations

import random
from pathlib import Path
from typing import List, Tuple

import pytest

from tests.fuzz.mutate import scramble, scramble_zip
from tests.fuzz.targets import CRASHES, LONGEST, TARGETS, seeds

pytest.importorskip("onnx")
pytest.importorskip("PIL")

FOUND: List[Tuple[str, Path]] = [(path.parent.name, path) for path in sorted(CRASHES.glob("*/*"))]
CHANGES = 200


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_are_taken(name: str) -> None:
    for data in seeds(name):
        assert TARGETS[name](data)
        assert len(data) <= LONGEST.get(name, 2048)


@pytest.mark.parametrize("name, path", FOUND, ids=lambda value: getattr(value, "name", value))
def test_what_once_broke_a_reader_no_longer_does(name: str, path: Path) -> None:
    assert TARGETS[name](path.read_bytes()) in (True, False)


@pytest.mark.parametrize("name", TARGETS)
def test_files_changed_at_random_are_taken_or_refused(name: str) -> None:
    draw = random.Random(name)
    sound, most = seeds(name), LONGEST.get(name, 2048)
    for number in range(CHANGES):
        start = draw.choice(sound)
        is_zip = name in ("bundle", "archive") and number % 2
        TARGETS[name](scramble_zip(start, most, number) if is_zip else scramble(start, most, draw))
