"""A GPU, its driver and TensorRT, all made of ordinary memory."""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import Any, Callable

import pytest

from tests.sdk.runtimes.fake_cuda import FakeDriver
from tests.sdk.runtimes.fake_tensorrt import make_module


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """Return a driver that is found where the real one would be."""
    fake, real = FakeDriver(), ctypes.CDLL
    monkeypatch.setattr(
        "ctypes.CDLL", lambda name, *rest, **more: fake if name == "libcuda.so.1" else real(name, *rest, **more)
    )
    return fake


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver's library be missing, whatever this machine has."""
    real = ctypes.CDLL

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "libcuda.so.1":
            raise OSError("libcuda.so.1: cannot open shared object file: No such file or directory")
        return real(name, *rest, **more)

    monkeypatch.setattr("ctypes.CDLL", missing)


@pytest.fixture
def fresh_import(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that imports a module anew, with stand-ins for what it imports."""

    def imported(name: str, **stand_ins: Any) -> Any:
        for package, module in stand_ins.items():
            monkeypatch.setitem(sys.modules, package, module)
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return imported


@pytest.fixture
def make_tensorrt(driver: FakeDriver) -> Callable[..., Any]:
    """Return a function that makes a stand-in for the package `tensorrt` of a version."""
    return lambda version="10.3.0": make_module(driver, version)
