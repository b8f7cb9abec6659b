"""What the documents name exists, and what they print runs."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer

from blendmask_edge.bundle import write_bundle
from blendmask_edge.cli.app import app
from tests.sdk.small_bundles import build_graph, describe

ROOT = Path(__file__).parents[2]
NOT_OURS = {"out", "dist", "build", "shared"}
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in NOT_OURS for part in path.relative_to(ROOT).parts)
)
EXAMPLES = [Path("README.md"), Path("docs/embed.md")]


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def code_lines(document: Path) -> Iterator[str]:
    """Lines of fenced and of indented code, continued lines joined."""
    fenced = False
    for line in text_of(document).replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.partition("  # ")[0].strip()


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text_of(document), re.DOTALL)


def documented(program: str) -> list[tuple[Path, list[str]]]:
    words = [(document, line) for document in DOCUMENTS for line in code_lines(document)]
    return [(document, shlex.split(line)[1:]) for document, line in words if line.startswith(f"{program} ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_relative_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(document))
    relative = [target for target in targets if "://" not in target]
    missing = [target for target in relative if not (ROOT / document.parent / target).exists()]
    assert not missing


def test_documented_commands_and_options_exist() -> None:
    group = typer.main.get_command(app)
    context = group.make_context("blendmask", ["info"], resilient_parsing=True)
    uses = documented("blendmask")
    assert uses
    for document, (name, *arguments) in uses:
        command = group.get_command(context, name)
        assert command is not None, f"{document}: blendmask {name}"
        known = {option for parameter in command.params for option in parameter.opts}
        unknown = [a for a in arguments if a.startswith("-") and a not in known]
        assert not unknown, f"{document}: blendmask {name} {unknown}"


def test_nothing_is_installed_by_name_from_an_index() -> None:
    """The project is on none: a source folder, a wheel or a repository is named instead."""
    by_name = re.compile(r"pip install(?!.*(?:--no-index|\.whl| @ )).*[\s\"']blendmask[-_]edge")
    sources = [path for folder in ("sdk", "quantize", "examples", "bench") for path in (ROOT / folder).rglob("*.py")]
    texts = [ROOT / document for document in DOCUMENTS] + sources
    lines = [(path, line) for path in texts for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [(path, line) for path, line in lines if by_name.search(line)]


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {words[0] for _, words in documented("make")} <= targets


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if python_blocks(d)], ids=str)
def test_imports_of_examples_resolve(document: Path) -> None:
    for block in python_blocks(document):
        tree = ast.parse(block)
        tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec(compile(tree, str(document), "exec"), {})


@pytest.mark.parametrize("document", EXAMPLES, ids=str)
def test_examples_of_the_sdk_run_as_printed(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = {"cpu": build_graph()}
    for name in ("lite0_rt.bmz", "model.bmz"):
        write_bundle(tmp_path / name, describe(graphs), graphs)
    cv2.imwrite(str(tmp_path / "image.jpg"), np.full((48, 64, 3), 230, np.uint8))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for block in python_blocks(document):
        exec(compile(block, str(document), "exec"), {})
        assert capsys.readouterr().out
