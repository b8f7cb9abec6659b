"""The pages under docs/targets say what the table says: every version, target and family in them exists in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Set

import pytest
from typer.testing import CliRunner

import blendmask_edge.devices.table as table_module
from blendmask_edge.cli.app import app
from blendmask_edge.devices import load_table

TABLE = load_table()
PAGES = Path(__file__).parents[2] / "docs/targets"
DATA = Path(table_module.__file__).with_name("devices.json").read_text("utf-8")
MEASURED = re.compile(r"<!-- table: .*?<!-- end -->", re.DOTALL)
VERSION = re.compile(r"(?<![\w.])\d+(?:\.\d+)+(?![\w.]*\w)")
pytestmark = pytest.mark.skipif(not PAGES.is_dir(), reason="the pages are in the repository, not in the wheel")
EACH = pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)


def versions(text: str) -> Set[str]:
    """Return every number with a point in it that is not measured."""
    return set(VERSION.findall(MEASURED.sub("", text)))


@EACH
def test_versions_of_a_page_are_in_the_table(page: Path) -> None:
    assert versions(page.read_text("utf-8")) - versions(DATA) == set()


@EACH
def test_targets_of_a_page_are_in_the_table(page: Path) -> None:
    for name in re.findall(r"--target ([a-z]\S*)|blendmask targets ([a-z]\S*)", page.read_text("utf-8")):
        written = "".join(name).rstrip("`.,")
        assert TABLE.find(written).name == written


def test_every_family_has_a_page_that_the_index_links() -> None:
    index = (PAGES / "README.md").read_text("utf-8")
    for target in TABLE.targets:
        assert f"({target.family}.md)" in index
        assert f"`{target.name}`" in index
        assert (PAGES / f"{target.family}.md").is_file()
    assert {page.stem for page in PAGES.glob("*.md")} == {target.family for target in TABLE.targets} | {"README"}


@pytest.mark.parametrize("target", [row for row in TABLE.targets if row.tensorrt], ids=lambda target: target.name)
def test_the_page_of_a_target_names_its_tensorrt(target: Any) -> None:
    assert target.tensorrt.value in versions((PAGES / f"{target.family}.md").read_text("utf-8"))


@EACH
def test_commands_of_a_page_have_options_that_exist(page: Path) -> None:
    for command, words in re.findall(
        r"^blendmask (targets|check|compile|verify-device)(.*)$", page.read_text("utf-8"), re.M
    ):
        usage = CliRunner().invoke(app, [command, "--help"], terminal_width=200).output
        for option in re.findall(r"--[a-z-]+", words):
            assert option in usage


FAMILY = pytest.mark.parametrize(
    "page", [page for page in sorted(PAGES.glob("*.md")) if page.stem != "README"], ids=lambda page: page.stem
)


@FAMILY
def test_a_page_leads_from_a_fresh_device_to_the_first_prediction_on_one_screen(page: Path) -> None:
    text = page.read_text("utf-8")
    steps = re.findall(r"^(?:sudo \S+|\S+ -m venv|pip install|blendmask [\w-]+)", text.split("```")[1], re.M)
    order = [step for step in steps if not step.startswith("sudo")]
    assert order[0].endswith("-m venv")
    assert order[-2:] == ["blendmask predict", "blendmask verify-device"]
    assert "blendmask check" in order
    assert "pip install" in order
    assert "[cpu]" in text.split("```")[1], "verify-device compares with ONNX Runtime on the CPU"
    assert "sudo apt install" in text.split("```")[1], "a fresh Ubuntu makes no environments"
    if "tensorrt" in text.split("```")[1]:
        assert "blendmask compile" in order
    for mark in ("verified", "documented", "estimated", "unknown"):
        assert re.search(rf"^\| {mark} \| .+ \|$", text, re.M)
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize(
    "target", [row for row in TABLE.targets if row.kind == "jetson"], ids=lambda target: target.name
)
def test_a_jetson_is_told_the_likely_cause_first_and_to_flash_last(target: Any) -> None:
    advice = target.install.value
    assert advice.index("--system-site-packages") < advice.index("python3-libnvinfer") < advice.index("flash JetPack")
