"""Command lines of an earlier release go on working, and no file name is mistaken for an old word."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from blendmask_edge.cli.old_spellings import respell


@pytest.mark.parametrize(
    "old, new",
    [
        (["--flavour", "cpu"], ["--variant", "cpu"]),
        (["--flavour=cpu"], ["--variant=cpu"]),
        (["--licence", "MIT"], ["--license", "MIT"]),
        (["--trunk-rate", "1", "--hosts", "2"], ["--backbone-rate", "1", "--nodes", "2"]),
        (["--view", "64x96"], ["--crop", "64x96"]),
        (["--allow", "lost-objects"], ["--allow", "missed-instances"]),
        (["--allow=colourless-images"], ["--allow=colorless-images"]),
        (["--steps", "descent,bias"], ["--steps", "coordinate_descent,bias_correction"]),
    ],
)
def test_old_options_and_values_become_those_of_today(old: List[str], new: List[str]) -> None:
    assert respell(old) == new


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "m.bmz", "bias"],
        ["predict", "m.bmz", "lost-objects", "--score", "0.5"],
        ["--allow=few-images", "lost-objects"],
        ["predict", "--", "--flavour"],
    ],
)
def test_files_keep_their_names(words: List[str]) -> None:
    assert respell(words) == words


def test_old_option_is_obeyed_and_not_listed(bundle_path: Path) -> None:
    result = CliRunner().invoke(app, ["predict", str(bundle_path), str(bundle_path), "--flavour", "cpuu"])
    assert "no 'cpuu' graph" in result.output
    assert "flavour" not in CliRunner().invoke(app, ["predict", "--help"]).output
