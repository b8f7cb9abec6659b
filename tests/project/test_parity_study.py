"""The parity study says of each stage how near its worst array is to what is allowed, and hides no difference."""

from __future__ import annotations

from bench.lib.study import read_rows
from bench.studies.parity import rows_of
from tests.quantize import training_parity
from tests.quantize.parity import Agreement
from tests.reference_values import CASES


def test_a_stage_is_its_worst_array() -> None:
    agreements = [Agreement("fpn.p3", 1e-5, 5e-5), Agreement("cand.class", 0, 0), Agreement("fpn.p4", 2e-5, 5e-5)]
    rows = {row["name"]: row for row in rows_of(agreements, "r50", "float32")}
    assert rows.keys() == {"r50/fpn/float32", "r50/cand/float32"}
    assert rows["r50/cand/float32"]["error_over_allowed"] == 0
    stage = rows["r50/fpn/float32"]
    assert (stage["error_over_allowed"], stage["arrays"], stage["worst"]) == (0.4, 2, "fpn.p4")
    assert (stage["largest_error"], stage["allowed"]) == (2e-5, 5e-5)


def test_what_passes_the_limit_is_above_one() -> None:
    (row,) = rows_of([Agreement("head.reg.p3", 1e-4, 5e-5)], "r50", "float32")
    assert row["error_over_allowed"] == 2


def test_an_exact_array_that_differs_is_an_error_and_no_number() -> None:
    (row,) = rows_of([Agreement("cand.class", 3, 0), Agreement("cand.score", 0, 3e-5)], "r50", "float32")
    assert row == {"name": "r50/cand/float32", "error": "cand.class is exact in the reference and differs here"}


def test_the_published_file_holds_every_case_and_nothing_past_its_limit() -> None:
    rows = read_rows("parity")
    for case in CASES:
        assert f"{case}/final/float32" in rows
    for case in training_parity.CASES:
        assert f"{case}/training/gradients/float64" in rows
    assert max(row["error_over_allowed"] for row in rows.values()) <= 1
