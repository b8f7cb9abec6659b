"""The public face: every name loads, importing brings no torch, and the program of the docstring runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import blendmask_quantize
from tests.programs import run_docstring


@pytest.mark.parametrize("name", blendmask_quantize.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(blendmask_quantize, name) is not None
    assert name in dir(blendmask_quantize)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="quantise"):
        blendmask_quantize.quantise  # noqa: B018


def test_importing_loads_no_torch() -> None:
    code = "import sys, blendmask_quantize; print([name for name in ('torch', 'onnx') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_program_of_the_docstring_runs(
    checkpoint_path: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copy(checkpoint_path, tmp_path / "checkpoint.safetensors")
    shutil.copytree(photographs, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    run_docstring(blendmask_quantize)
    assert "model.bmz: INT8 is" in capsys.readouterr().out


def test_no_module_hides_a_public_name() -> None:
    """Importing a module of the package sets it as an attribute, in the place of a public name of the same spelling."""
    modules = {entry.stem for entry in Path(blendmask_quantize.__file__).parent.iterdir()}
    assert not modules & set(blendmask_quantize.__all__)
