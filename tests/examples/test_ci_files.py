"""The pipelines that users copy gate a bundle: their lines run as written, in a repository of a user."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge.bundle import write_bundle
from blendmask_edge.cli.app import app
from tests.sdk.small_bundles import build_graph, describe

yaml = pytest.importorskip("yaml")
for package in ("onnxruntime", "jinja2", "matplotlib"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples/ci"
Step = tuple[str, bool]
"""Lines of a step, and whether it runs after a failure too."""


def github_steps() -> tuple[dict[str, str], list[Step]]:
    document = yaml.safe_load((FILES / "github-actions.yml").read_text(encoding="utf-8"))
    steps = document["jobs"]["gate"]["steps"]
    return document["env"], [(step["run"], step.get("if") == "always()") for step in steps if "run" in step]


def gitlab_steps() -> tuple[dict[str, str], list[Step]]:
    job = yaml.safe_load((FILES / "gitlab-ci.yml").read_text(encoding="utf-8"))["blendmask"]
    return job["variables"], [(line, False) for line in job["script"]] + [(line, True) for line in job["after_script"]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a user's repository holds: bundles, images, annotations and a baseline."""
    folder = tmp_path_factory.mktemp("repository")
    graphs = {"cpu": build_graph()}
    (folder / "released").mkdir()
    (folder / "gate/images").mkdir(parents=True)
    for place in ("model.bmz", "released/model.bmz"):
        write_bundle(folder / place, describe(graphs), graphs)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / "gate/images" / name), np.full((32, 48, 3), 220, np.uint8))
    square = [[4, 4, 20, 4, 20, 20, 4, 20]]
    document = {
        "images": [{"id": i, "file_name": n, "height": 32, "width": 48} for i, n in enumerate(("a.png", "b.png"), 1)],
        "annotations": [{"id": i, "image_id": i, "category_id": 10, "segmentation": square} for i in (1, 2)],
        "categories": [{"id": 10, "name": "red"}],
    }
    (folder / "gate/annotations.json").write_text(json.dumps(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blendmask_edge.benchmark.measure.disturbances", lambda *_, **__: [])
        words = ["bench", "model.bmz", "--images", "gate/images", "--annotations", "gate/annotations.json"]
        words += ["--runtime", "onnxruntime", "--threads", "1", "--frames", "1"]
        patch.chdir(folder)
        done = CliRunner().invoke(app, [*words, "--baseline", "gate/baseline.json", "--update-baseline"])
    assert done.exit_code == 0, done.output
    return folder


def broken_bundle(path: Path) -> None:
    """Write a bundle that calls red instances green."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(build_graph())
    for weight in model.graph.initializer:
        if weight.name == "class":
            weight.CopyFrom(onnx.numpy_helper.from_array(np.array([[1, 1, 2, -1]], np.int32), "class"))
    graphs = {"cpu": model.SerializeToString()}
    write_bundle(path, describe(graphs), graphs)


def run_steps(folder: Path, variables: dict[str, str], steps: list[Step]) -> list[int | None]:
    """Run the steps as the service does, but for the installation; return exit codes, None for a step left out."""
    shims = folder / "bin"
    shims.mkdir()
    shim = shims / "blendmask"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from blendmask_edge.cli.app import main; main()" "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    summary = folder / "summary.md"
    environment = {
        **os.environ, **{name: str(value) for name, value in variables.items()}, "FRAMES": "1",
        "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": str(summary),
        "BLENDMASK_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    codes: list[int | None] = []
    for lines, always in steps:
        if lines.startswith("pip install"):
            continue
        if any(codes) and not always:
            codes.append(None)
            continue
        done = subprocess.run(
            ["bash", "-e", "-c", lines], cwd=folder, env=environment, capture_output=True, check=False
        )
        print(done.stdout.decode(), done.stderr.decode())
        codes.append(done.returncode)
    return codes


@pytest.mark.slow
def test_a_sound_bundle_passes_the_workflow_and_is_reported(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    shutil.copytree(repository, folder)
    assert run_steps(folder, *github_steps()) == [0, 0, 0]
    assert len(list((folder / "gate/history").glob("*.json"))) == 1
    for page in ("report.html", "changes.html"):
        assert "<!doctype html>" in (folder / page).read_text(encoding="utf-8")
    assert "| run |" in (folder / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_broken_bundle_fails_the_workflow_and_is_reported(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    shutil.copytree(repository, folder)
    broken_bundle(folder / "model.bmz")
    assert run_steps(folder, *github_steps()) == [3, 3, 0]
    assert "mask\\_ap worse" in (folder / "summary.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "codes"), [(False, [0, 0, 0]), (True, [3, None, 0])])
def test_gitlab_does_the_same(repository: Path, tmp_path: Path, broken: bool, codes: list[Any]) -> None:
    folder = tmp_path / "checkout"
    shutil.copytree(repository, folder)
    if broken:
        broken_bundle(folder / "model.bmz")
    assert run_steps(folder, *gitlab_steps()) == codes
    assert (folder / "report.html").is_file()


def test_both_files_do_the_same_and_install_what_the_wheel_has() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (github, steps), (gitlab, lines) = github_steps(), gitlab_steps()
    assert github == gitlab
    assert f"blendmask_edge-{project['version']}-" in github["WHEEL"]
    for text in (steps[0][0], lines[0][0]):
        extras = re.search(r"\[([\w,]+)\]", text)
        assert extras is not None
        assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
    used = [set(re.findall(r"\$\{?(\w+)", " ".join(line for line, _ in part))) for part in (steps, lines)]
    assert used[0] - {"GITHUB_STEP_SUMMARY"} == used[1] == set(github)
