"""The study of hostile files: each is refused or taken as it says, within the memory that a bundle may take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.lib.hostile_files import attacks
from bench.studies.hostile import BEFORE, READERS, allowed_bytes, measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
TAKEN = "accepted"


def written(name: str, folder: Path) -> Path:
    file_name, data = attacks()[name]()
    (folder / file_name).write_bytes(data)
    return folder / file_name


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in attacks() if "benign" not in name])
def test_hostile_file_is_refused_within_its_memory(name: str, tmp_path: Path) -> None:
    kind = name.partition("/")[0]
    (tmp_path / "sound").mkdir()
    sound, path = written(f"{kind}/benign", tmp_path / "sound"), written(name, tmp_path)
    measured = measure(kind, str(sound), str(path))
    assert measured["refused"] == (TAKEN not in name)
    assert measured["answer_characters"] < 1000
    if kind != "annotation":  # which lists take some dozen bytes a number, however they are written
        assert measured["peak_bytes"] <= allowed_bytes(path)


def test_files_that_were_measured_before_are_still_made() -> None:
    assert set(BEFORE) <= set(attacks())
    assert {name.partition("/")[0] for name in attacks()} == set(READERS)
