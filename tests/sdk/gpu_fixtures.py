"""A GPU, its driver and TensorRT, all made of ordinary memory."""

from __future__ import annotations

import ctypes
import importlib
import sys
from types import SimpleNamespace
from typing import Any, Callable, List, Optional

import pytest

from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes.engines import engine_cache
from blendmask_edge.runtimes.registry import SessionOptions
from tests.sdk.runtimes.fake_cuda import FakeDriver
from tests.sdk.runtimes.fake_tensorrt import ENGINE, make_module


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


@pytest.fixture
def tensorrt_runtime(
    make_tensorrt: Callable[..., Any],
    fresh_import: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Return the runtime, on a stand-in for TensorRT and on engines that need no building.

    `.trt` is the stand-in, `.built` what was asked to be compiled.
    """
    trt = make_tensorrt()
    module = fresh_import("blendmask_edge.runtimes.tensorrt.session", tensorrt=trt)
    path = engine_cache().write("a.engine", ENGINE)
    built: List[Any] = []

    def compiled(graph: bytes, toolchain: Any, options: Any) -> Any:
        built.append((graph, toolchain.trt, toolchain.gpu.sm, options.precision))
        return SimpleNamespace(path=path)

    monkeypatch.setattr(module, "built", built, raising=False)
    monkeypatch.setattr(module, "compile_graph", compiled)
    monkeypatch.setattr(module, "first_gpu", lambda: Gpu("Orin", "8.7", "12.6/540.3.0"))
    return module


@pytest.fixture
def load_engine(tensorrt_runtime: Any, tiny_graph: bytes) -> Callable[..., Any]:
    """Return a function that loads an engine; keywords change the stand-in for TensorRT."""

    def loaded(
        engine: bytes = ENGINE, version: str = "10.3.0", options: Optional[SessionOptions] = None, **changes: Any
    ) -> Any:
        vars(tensorrt_runtime.trt).update(changes, __version__=version)
        engine_cache().write("a.engine", engine)
        return tensorrt_runtime.load(tiny_graph, options or SessionOptions())

    return loaded
