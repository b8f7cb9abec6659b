"""The wheel: the three packages with their data, and no dependency that a robot does not need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"sdk": "blendmask_edge", "quantize": "blendmask_quantize", "calibration": "blendmask_calibration"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def requirements(metadata: Message, extra: str | None) -> set[str]:
    lines = [line.partition(";") for line in metadata.get_all("Requires-Dist") or []]
    wanted = "" if extra is None else f"extra == '{extra}'"
    return {name.split(">")[0].strip() for name, _, marker in lines if marker.strip() == wanted}


def test_holds_the_three_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES.values())


def test_holds_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    files = {
        path.relative_to(ROOT / root).as_posix()
        for root, package in PACKAGES.items()
        for path in (ROOT / root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES.values()} <= files


def test_the_sdk_with_its_runtime_needs_no_torch(metadata: Message) -> None:
    assert requirements(metadata, "cpu") == {"onnxruntime"}
    assert not {"torch", "torchvision", "onnx"} & requirements(metadata, None)
    assert {"torch", "torchvision", "onnx"} <= requirements(metadata, "quantize")


def test_brings_the_command(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "blendmask = blendmask_edge.cli.app:main" in wheel.read(name).decode()
