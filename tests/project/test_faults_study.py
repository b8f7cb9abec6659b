"""The study of faults: whatever fails, there is a whole file, and nothing is left beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.lib.tables import TABLES
from bench.studies.faults import keep, read, write
from tests.markdown import table_rows

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks")


@pytest.mark.slow
def test_faults_end_in_an_error_or_the_right_result_and_leave_whole_files(tmp_path: Path) -> None:
    rows = [read(), write(tmp_path / "a", killed=False), write(tmp_path / "b", killed=True), keep(tmp_path)]
    for row in rows:
        assert row["faults"] > 40
        assert (row["partial"], row["left"]) == (0, 0)
    assert rows[2]["killed"] == rows[2]["faults"] == rows[2]["older"] + rows[2]["new"]
    shown = {cells[0]: cells[1] for cells in table_rows(TABLES["faults"]({row["name"]: row for row in rows}))}
    assert {str(row["name"]): str(row["faults"]) for row in rows}.items() <= shown.items()
