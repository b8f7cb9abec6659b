"""What is missing is named with the command to install it, and nothing is loaded before it is asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blendmask_edge import BundleError, ConfigError, MaskPredictor, RuntimeUnavailableError
from blendmask_edge.errors import install_command
from blendmask_edge.runtimes.registry import RUNTIMES, RuntimeRow, available_runtimes, installed_rows, select


def test_unknown_runtime_names_the_known_ones() -> None:
    names = "auto, onnxruntime, openvino, tensorrt, onnxruntime-tensorrt, onnxruntime-cuda, torch_tensorrt"
    with pytest.raises(ConfigError, match=rf"'tensorflow'.*{names}"):
        select("tensorflow")


@pytest.mark.parametrize("row", RUNTIMES, ids=lambda row: row.name)
def test_missing_runtime_is_named_with_the_pip_command(row: RuntimeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeUnavailableError, match=rf"{row.name}.*{re.escape(install_command(row.extra))}"):
        select(row.name).load()
    with pytest.raises(RuntimeUnavailableError, match=rf"{row.name}.*{re.escape(install_command('cpu'))}"):
        installed_rows()


def test_jetson_is_told_where_its_tensorrt_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeUnavailableError, match=r"JetPack.*--system-site-packages"):
        select("tensorrt").load()


@pytest.mark.parametrize("error", ["ImportError", "OSError", "AssertionError"])
def test_runtime_that_does_not_start_is_named(error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfway.py").write_text(f"raise {error}('libhalf.so: cannot open')")
    monkeypatch.syspath_prepend(str(tmp_path))
    row = RuntimeRow("broken", "halfway", "halfway", ("cpu",), "cpu")
    with pytest.raises(RuntimeUnavailableError, match=r"halfway is installed but cannot be imported: libhalf.so"):
        row.load()


def test_version_comes_from_the_first_distribution_that_is_there() -> None:
    row = RuntimeRow("a", "a", "a", ("cpu",), "cpu", distributions=("no-such-distribution", "pytest"))
    assert row.version == pytest.__version__
    assert RuntimeRow("a", "a", "no_such_package", ("cpu",), "cpu").version == "unknown"


def test_variant_that_no_installed_runtime_runs_is_refused(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match="'tpu'"):
        MaskPredictor(bundle_path, variant="tpu")


def run_python(code: str) -> Any:
    """Run code in a fresh interpreter and return what it printed."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


HEAVY = ["onnxruntime", "openvino", "tensorrt", "torch", "cv2", "typer", "rich", "pycocotools", "blendmask_quantize"]


def test_importing_the_package_loads_no_runtime_and_no_heavy_library() -> None:
    loaded = run_python(f"import sys, blendmask_edge; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded == "[]"


def test_naming_the_public_classes_loads_no_runtime() -> None:
    code = "import sys; from blendmask_edge import MaskPredictor, Instances; "
    names = ["onnxruntime", "openvino", "tensorrt", "torch"]
    assert run_python(code + f"print([name for name in {names} if name in sys.modules])") == "[]"


def test_every_public_name_can_be_reached() -> None:
    import blendmask_edge

    for name in blendmask_edge.__all__:
        assert getattr(blendmask_edge, name)
    assert blendmask_edge.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="Mask"):
        blendmask_edge.Mask  # noqa: B018


def test_available_runtimes_say_what_is_installed_and_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        RuntimeRow("here", "json", "pytest", ("cpu",), "cpu"),
        RuntimeRow("gpu", "json", "pytest", ("tensorrt",), "cpu", needs_gpu=True),
        RuntimeRow("away", "json", "no_such_package", ("cpu", "float"), "openvino"),
    )
    monkeypatch.setattr("blendmask_edge.runtimes.registry.RUNTIMES", rows)
    monkeypatch.setattr("blendmask_edge.runtimes.registry.find_gpu", lambda: None)
    here, gpu, away = available_runtimes()
    assert (here.name, here.installed, here.version, here.reason) == ("here", True, pytest.__version__, "")
    assert (gpu.installed, gpu.reason) == (True, "There is no GPU, or no CUDA driver.")
    assert (away.installed, away.version, away.variants) == (False, None, ("cpu", "float"))
    assert install_command("openvino") in away.reason


def test_available_runtimes_load_nothing() -> None:
    code = "import sys; from blendmask_edge.runtimes.registry import available_runtimes as a; a(); "
    names = ["onnxruntime", "openvino", "tensorrt", "torch"]
    assert run_python(code + f"print([name for name in {names} if name in sys.modules])") == "[]"
