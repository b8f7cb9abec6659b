"""`blendmask compare` from its words to its exit code and its page."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from blendmask_edge.comparison.overlays import COLORS, draw_changes
from blendmask_edge.comparison.result import MASK, VANISHED, Change
from tests.sdk.comparison.test_compare import in_first, run_of, shifted
from tests.sdk.pages import requests_of
from tests.sdk.scenes import Scenes


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, words)], prog_name="blendmask")


@pytest.fixture
def runs(scenes: Scenes, tmp_path: Path) -> tuple:
    """Return two runs, the second without one instance of the first image and with a changed mask there."""
    changed = in_first(lambda instances: shifted(instances)[:-1])
    return run_of(scenes, tmp_path / "a"), run_of(scenes, tmp_path / "b", changed)


def test_the_limit_decides_on_the_exit_code(runs: tuple) -> None:
    for words, code in (((), 0), (("--max-changed", "5%"), 0), (("--max-changed", "0.041"), 3)):
        result = run(*runs, *words)
        assert result.exit_code == code, result.output
        assert "2 of 48 instances changed (4.17%): 1 vanished, 0 appeared, 1 mask changed" in result.output
        assert re.search(r"^1\.png: .* vanished", result.output, re.MULTILINE)
    assert "at most 0.041 (4.10%) may change" in result.output


def test_a_mask_that_moved_away_altogether_has_an_iou_of_zero(scenes: Scenes, tmp_path: Path) -> None:
    left = np.full((56, 56), -9, np.float32)
    left[:, :20] = 9

    def replaced(logits: np.ndarray) -> Any:
        return in_first(lambda instances: replace(instances[:1], mask_logits=logits[None]))

    right = left[:, ::-1]
    result = run(run_of(scenes, tmp_path / "a", replaced(left)), run_of(scenes, tmp_path / "b", replaced(right)))
    assert re.search(r"^1\.png: \w+ mask changed \(IoU 0\.00\)$", result.output, re.MULTILINE), result.output


def test_json_is_pure_and_tells_every_change(runs: tuple) -> None:
    result = run(*runs, "--json", "--max-changed", "1%")
    assert result.exit_code == 3
    document = json.loads(result.stdout.splitlines()[0])
    assert (document["changed"], document["instances"], document["passed"]) == (2, 48, False)
    assert {change["image"] for change in document["changes"]} == {"1.png"}


def test_the_page_shows_each_changed_image_and_asks_for_nothing(runs: tuple, scenes: Scenes, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page = tmp_path / "changes.html"
    assert run(*runs, "--images", scenes.folder, "--output", page, "--max-changed", "0%").exit_code == 3
    text = page.read_text(encoding="utf-8")
    assert requests_of(text) == []
    overlays = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(overlays) == 2
    for overlay in overlays:
        assert cv2.imdecode(np.frombuffer(base64.b64decode(overlay), np.uint8), cv2.IMREAD_COLOR) is not None
    assert "4.17%" in text
    assert "prefers-color-scheme: dark" in text


def test_markdown_needs_no_images(runs: tuple, tmp_path: Path) -> None:
    page = tmp_path / "changes.md"
    assert run(*runs, "--output", page).exit_code == 0
    assert "| 1.png | 1 | 0 | 1 |" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--max-changed", "1"), "--max-changed is '1', expected a share such as 1% or 0.01"),
        (("--max-changed", "-1%"), "expected a share"),
        (("--max-changed", "nan"), "expected a share"),
        (("--output", "page.pdf"), "expected one that ends in .html or .md"),
        (("--output", "no/such/page.md"), "lies in a folder that does not exist"),
        (("--mask-iou", "2"), "mask_iou is 2.0, expected a number from 0 to 1"),
    ],
)
def test_wrong_words_are_one_message(runs: tuple, words: tuple, message: str) -> None:
    result = run(*runs, *words)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_names_from_files_stay_text(scenes: Scenes, tmp_path: Path) -> None:
    """A class or image name cannot bring markup or a script into the page."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    evil = "<script>alert(1)</script>"
    document = scenes.document()
    for category in document["categories"]:
        category["name"] = f"{evil}{category['id']}"
    before = run_of(scenes, tmp_path / "a", categories=document["categories"])
    after = run_of(scenes, tmp_path / "b", categories=document["categories"], annotations=[])
    assert run(before, after, "--output", tmp_path / "page.html").exit_code == 0
    assert "<script" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert run(before, after, "--output", tmp_path / "page.md").exit_code == 0
    assert "<script" not in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_overlays_mark_the_changes_where_they_are(scenes: Scenes, tmp_path: Path) -> None:
    from blendmask_edge import compare

    before = run_of(scenes, tmp_path / "a")
    after = run_of(scenes, tmp_path / "b", in_first(lambda instances: instances[1:]))
    (change,) = compare(before, after).changes
    image = np.full((96, 128, 3), 90, np.uint8)
    first, second = draw_changes(image, [change])
    assert first.shape == second.shape
    assert max(first.shape) == 480
    assert (second == 90).all()
    assert (np.abs(first.astype(int) - COLORS[VANISHED]).sum(axis=2) < 30).any()


def test_an_image_of_another_size_is_refused(scenes: Scenes, tmp_path: Path) -> None:
    from blendmask_edge import ImageError, compare

    before = run_of(scenes, tmp_path / "a")
    result = compare(before, run_of(scenes, tmp_path / "b", in_first(shifted)))
    (change,) = result.changes
    assert isinstance(change, Change)
    assert change.kind == MASK
    with pytest.raises(ImageError, match="10 x 10 pixels, but was predicted at 128 x 96"):
        draw_changes(np.zeros((10, 10, 3), np.uint8), [change])
