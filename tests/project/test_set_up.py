"""`make` sets up once, passes pip's options on, and says what is missing; the pinned versions fit the extras."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
INSTALLED_HERE = ("cpu", "openvino", "quantize", "train", "dev", "docs")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def python_that_fails_on(word: str, folder: Path) -> Path:
    """An interpreter that refuses each program with `word` in it, and accepts all others without running them."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\ncase "$2" in *{word}*) exit 1;; esac\n')
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("failing", "message"), [("version_info", "older than 3.10"), ("ensurepip", "apt install python3-venv")]
)
def test_says_what_is_missing_and_makes_nothing(failing: str, message: str, tmp_path: Path) -> None:
    python = python_that_fails_on(failing, tmp_path)
    done = make("demo", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_fresh_machine_installs_with_the_pinned_versions_and_the_given_options(tmp_path: Path) -> None:
    plan = make("-n", "demo", f"VENV={tmp_path / 'venv'}", "PIP_OPTIONS=--no-index")
    installs = [line for line in plan.stdout.splitlines() if "pip install" in line]
    assert len(installs) == 1
    assert "--constraint constraints.txt --no-index" in installs[0]


@pytest.mark.parametrize(("target", "installs"), [("demo", 0), ("test", 2)])
def test_after_the_demo_only_the_test_tools_are_installed(target: str, installs: int, tmp_path: Path) -> None:
    for stamp in (".created", ".demo"):
        (tmp_path / stamp).touch()
    plan = make("-n", target, f"VENV={tmp_path}")
    assert plan.returncode == 0
    assert plan.stdout.count("pip install") == installs


def test_the_environment_of_the_targets_shares_torch_and_puts_the_newer_builder_first(tmp_path: Path) -> None:
    for stamp in (".created", ".demo", ".dev"):
        (tmp_path / stamp).touch()
    plan = make("-n", "targets-check", f"VENV={tmp_path}", f"TARGETS_VENV={tmp_path / 'own'}", "PIP_OPTIONS=--no-index")
    assert plan.returncode == 0
    assert "site.addsitedir" in plan.stdout
    assert "--constraint constraints-targets.txt --no-index" in plan.stdout.replace("\\\n", "").replace("  ", " ")
    assert re.search(r"PYTHONPATH=\S+/own/rtx-\S+ \S+/own/bin/python -m pytest .*tests/targets", plan.stdout)


def test_the_environment_of_the_peers_shares_torch_and_is_pinned(tmp_path: Path) -> None:
    for stamp in (".created", ".demo", ".dev"):
        (tmp_path / stamp).touch()
    plan = make("-n", "peers", f"VENV={tmp_path}", f"PEERS_VENV={tmp_path / 'own'}", "PIP_OPTIONS=--no-index")
    assert plan.returncode == 0
    assert "site.addsitedir" in plan.stdout
    install = plan.stdout.replace("\\\n", "").replace("  ", " ")
    assert re.search(
        r"own/bin/pip install .*--constraint constraints-targets.txt --no-index nncf nvidia-modelopt", install
    )
    assert f"{tmp_path / 'own'}/bin/python -m bench.studies.peers" in plan.stdout


def pinned(name: str = "constraints.txt") -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-targets.txt"])
def test_constraints_are_exact_and_name_no_place(name: str) -> None:
    for requirement in pinned(name):
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ["=="]


def test_each_dependency_is_pinned_to_a_version_that_the_metadata_allows() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *(line for extra in INSTALLED_HERE for line in extras[extra])]
    versions: dict[str, list[str]] = {}
    for requirement in pinned():
        versions.setdefault(normal(requirement.name), []).extend(s.version for s in requirement.specifier)
    for wanted in map(Requirement, listed):
        if wanted.name != project["name"]:
            held = versions.get(normal(wanted.name), [])
            assert held, f"{wanted.name} is not in constraints.txt"
            assert all(wanted.specifier.contains(version) for version in held), wanted


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
