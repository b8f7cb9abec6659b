"""The study of hostile files: each is refused or taken as it says, within the memory that a bundle may take."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.lib.hostile_files import attacks
from bench.studies.hostile import BEFORE, READERS, row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
TAKEN = "accepted"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in attacks() if "benign" not in name])
def test_hostile_file_is_refused_within_its_memory(name: str, tmp_path: Path) -> None:
    measured = row(name, tmp_path)  # in a process of its own: the peak of this one holds what other tests left
    assert measured["refused"] == (TAKEN not in name)
    assert measured["answer_characters"] < 1000
    if not name.startswith("annotation/"):  # whose lists take some dozen bytes a number, however they are written
        assert measured["peak_bytes"] <= measured["allowed_bytes"]


def test_files_that_were_measured_before_are_still_made() -> None:
    assert set(BEFORE) <= set(attacks())
    assert {name.partition("/")[0] for name in attacks()} == set(READERS)
