"""A bundle is compiled once for what its engine depends on, and refused before long work where it cannot be."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import types
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest

from blendmask_edge import ConfigError, InferenceError, OutputError, RuntimeUnavailableError
from blendmask_edge.compilation import compiler
from blendmask_edge.compilation import toolchain as toolchain_module
from blendmask_edge.compilation.compiler import compile_bundle
from blendmask_edge.compilation.options import CompileOptions
from blendmask_edge.compilation.toolchain import TorchToolchain
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes.engines import Engine, EngineKey, program_name
from blendmask_edge.runtimes.tensorrt.engine import Toolchain
from blendmask_edge.storage.cache import Cache
from tests.sdk.devices.fake_tensorrt import BUILD_ERROR, flags_of, make_tensorrt

MakeBundle = Callable[..., Any]
ORIN = Gpu("Orin NX", "8.7", "12.6/540.3.0")
PASCAL = Gpu("GTX 1080 Ti", "6.1", "12.2/535.1")


def tools(version: str = "10.3.0", gpu: Gpu = ORIN, **states: Any) -> Toolchain:
    """Return a stand-in for TensorRT and a GPU."""
    return Toolchain(make_tensorrt(version, **states), gpu)


def content(path: Path) -> Optional[bytes]:
    """Return what was written to a file of the cache."""
    return Cache(path.parent).read(path.name)


def test_the_tensorrt_graph_is_built_into_the_cache(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle, toolchain = make_bundle(), tools()
    engine = compile_bundle(bundle, "jetson-orin-nx", tmp_path / "deep/cache", toolchain=toolchain)
    assert content(engine.path) == b"engine of 10.3.0"
    assert engine.path.parent == tmp_path / "deep/cache"
    assert not engine.reused
    assert ("graph", bundle.graph("tensorrt")) in toolchain.trt.calls
    assert flags_of(toolchain.trt) == ["INT8", "FP16", "SPARSE_WEIGHTS"]
    assert ("network", 0) in toolchain.trt.calls
    assert stat.S_IMODE(engine.path.parent.stat().st_mode) == 0o700
    assert list(engine.path.parent.iterdir()) == [engine.path]


def test_pascal_is_built_by_8_6_1_without_fp16(make_bundle: MakeBundle, tmp_path: Path) -> None:
    toolchain = tools("8.6.1", PASCAL)
    compile_bundle(make_bundle(), "gtx-1080-ti", tmp_path, toolchain=toolchain)
    assert flags_of(toolchain.trt) == ["INT8"]
    assert ("network", 1 << 0) in toolchain.trt.calls


def test_tensorrt_11_is_given_no_flag_that_it_lost(make_bundle: MakeBundle, tmp_path: Path) -> None:
    toolchain = tools("11.4.1")
    compile_bundle(make_bundle(), "jetson-agx-orin", tmp_path, toolchain=toolchain)
    assert flags_of(toolchain.trt) == ["SPARSE_WEIGHTS"]
    assert ("network", 0) in toolchain.trt.calls


def test_tensorrt_11_gets_the_graph_with_a_half_remainder(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blendmask_edge.runtimes.tensorrt.engine.half_remainder", lambda graph: b"half of " + graph)
    bundle = make_bundle()
    graph = bundle.graph("tensorrt")
    for version, expected in (("11.4.1", b"half of " + graph), ("10.16.1", graph)):
        toolchain = tools(version)
        compile_bundle(bundle, "jetson-agx-orin", tmp_path, toolchain=toolchain)
        assert ("graph", expected) in toolchain.trt.calls


def test_options_reach_the_builder(make_bundle: MakeBundle, tmp_path: Path) -> None:
    toolchain = tools()
    compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path, CompileOptions("fp32", workspace_mib=2), toolchain)
    assert ("WORKSPACE", 2 * 2**20) in toolchain.trt.calls
    assert ("network", 1 << 1) in toolchain.trt.calls


def test_a_second_time_takes_the_file(make_bundle: MakeBundle, tmp_path: Path) -> None:
    first = compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path, toolchain=tools())
    broken = tools(parses=False)
    second = compile_bundle(make_bundle(), "jetson-orin-nano", tmp_path, toolchain=broken)
    assert second == Engine(first.path, first.key, reused=True)
    assert broken.trt.calls == []


def test_the_key_of_an_engine_is_stable() -> None:
    key = EngineKey("ab" * 32, "8.7", "10.3.0", "12.6/540", {"builder_flags": ("INT8",), "network_flags": ()})
    again = EngineKey("ab" * 32, "8.7", "10.3.0", "12.6/540", {"network_flags": (), "builder_flags": ("INT8",)})
    assert key.file_name == again.file_name
    assert key.file_name.startswith("abababababab-sm87-trt10.3.0-")
    assert Path(key.file_name).name == key.file_name


def test_a_version_cannot_lead_out_of_the_cache() -> None:
    assert "/" not in EngineKey("ab" * 32, "8.7", "10/../../x", "d", {}).file_name


def test_the_cache_of_the_machine_is_the_default(make_bundle: MakeBundle, own_cache: Path) -> None:
    engine = compile_bundle(make_bundle(), "jetson-orin-nx", toolchain=tools())
    assert engine.path.parent == own_cache / "engines"


@pytest.mark.parametrize(
    "states, message", [({"parses": False}, "no importer for Fancy in node 7"), ({"builds": False}, BUILD_ERROR)]
)
def test_what_tensorrt_refuses_is_told_and_leaves_no_file(
    make_bundle: MakeBundle, tmp_path: Path, states: Any, message: str
) -> None:
    with pytest.raises(InferenceError, match=rf"TensorRT 10\.3\.0 .*: {message}.*blendmask check"):
        compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path / "cache", toolchain=tools(**states))
    assert not (tmp_path / "cache").exists()


def test_memory_that_runs_out_during_the_build_is_told_with_what_takes_less(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Requested amount of GPU memory (8589934592 bytes) could not be allocated"
    monkeypatch.setattr("tests.sdk.devices.fake_tensorrt.BUILD_ERROR", said)
    with pytest.raises(InferenceError, match=rf"{re.escape(said)}\. Free GPU memory .*--workspace 256"):
        compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path / "cache", toolchain=tools(builds=False))
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_one_message(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match=r"Cannot write .*cache"):
        compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path / "cache", toolchain=tools())


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody can make files")
def test_a_folder_that_takes_no_files_is_refused_before_anything_is_built(make_bundle: MakeBundle) -> None:
    toolchain = tools()
    with pytest.raises(OutputError, match=r"Cannot write /proc/blendmask.*Choose a folder"):
        compile_bundle(make_bundle(), "jetson-orin-nx", Path("/proc/blendmask"), toolchain=toolchain)
    assert toolchain.trt.calls == []


def test_an_engine_in_a_cache_that_takes_no_more_files_is_used(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a read-only file system, which a robot may have."""
    built = compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path / "cache", toolchain=tools())

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", fails)
    found = compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path / "cache", toolchain=tools())
    assert (found.path, found.reused) == (built.path, True)
    with pytest.raises(OutputError, match="Read-only file system"):
        compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path / "cache", CompileOptions(workspace_mib=64), tools())


def test_a_no_of_the_check_stops_before_tensorrt_is_looked_for(make_bundle: MakeBundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no fast FP16.*INT8 by TensorRT 8\.6\.1 works instead"):
        compile_bundle(make_bundle(), "gtx-1080-ti", tmp_path, CompileOptions("fp16"))


def test_the_tensorrt_that_is_installed_is_checked_too(make_bundle: MakeBundle, tmp_path: Path) -> None:
    toolchain = tools("10.0.1", PASCAL)
    with pytest.raises(ConfigError, match=r"TensorRT 10\.0\.1 .*8\.6\.1"):
        compile_bundle(make_bundle(), "gtx-1080-ti", tmp_path, toolchain=toolchain)
    assert toolchain.trt.calls == []


def test_the_gpu_of_another_target_is_refused(make_bundle: MakeBundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Orin NX, SM 8\.7; Jetson Thor has SM 11\.0.*jetson-orin-nx"):
        compile_bundle(make_bundle(), "jetson-thor", tmp_path, toolchain=tools())


def test_a_cpu_needs_no_engine(make_bundle: MakeBundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs no engine. Type: blendmask predict"):
        compile_bundle(make_bundle(), "x86-vnni", tmp_path)


@pytest.mark.parametrize(
    "target, way",
    [("gtx-1080-ti", r"pip install tensorrt==8\.6\.1"), ("jetson-orin-nano", r"flash JetPack 6\.1 or 6\.2")],
)
def test_no_gpu_and_no_tensorrt_are_one_message_with_the_next_step(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, way: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: None)
    message = (
        rf"tensorrt cannot be imported .*and the CUDA driver shows no GPU.*{way}.*blendmask compile m\.bmz --target"
    )
    with pytest.raises(RuntimeUnavailableError, match=message):
        compile_bundle(make_bundle(), target, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "target, here, advice",
    [
        (
            "gtx-1080-ti",
            (3, 11),
            r"there: its TensorRT is for Python 3\.8 or 3\.9 or 3\.10, and this is 3\.11",
        ),
        ("gtx-1080-ti", (3, 10), r"To get TensorRT there: pip install"),
        ("jetson-orin-nano", (3, 11), r"this is 3\.11, so make the environment with such a Python; make"),
        ("rtx-30", (3, 11), r"To get TensorRT there: pip install"),
    ],
)
def test_python_that_tensorrt_is_not_for_is_named_first(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, target: str, here: Any, advice: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: None)
    monkeypatch.setattr(sys, "version_info", (*here, 0, "final", 0))
    with pytest.raises(RuntimeUnavailableError, match=advice):
        compile_bundle(make_bundle(), target)


def test_what_is_found_on_the_machine_is_used(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt("10.3.0"))
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: ORIN)
    assert compile_bundle(make_bundle(), "jetson-orin-nx", tmp_path).key.driver == ORIN.driver


class Compiler:
    """Stands for the maker of Torch-TensorRT programs; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: List[Any] = []

    def compile_program(self, graph: bytes, precision: str, workspace_bytes: Any) -> bytes:
        self.asked.append((graph, precision, workspace_bytes))
        return b"program %d" % len(self.asked)


@pytest.mark.parametrize("precision, variant", [("int8", "tensorrt"), ("fp32", "float")])
def test_a_program_is_made_where_its_runtime_looks_for_it(
    make_bundle: MakeBundle, own_cache: Path, precision: Any, variant: str
) -> None:
    bundle, compiler = make_bundle(), Compiler()
    toolchain = TorchToolchain(compiler, ORIN, "10.3.0")
    options = CompileOptions(precision, workspace_mib=1, runtime="torch_tensorrt")
    made = compile_bundle(bundle, "jetson-orin-nx", options=options, toolchain=toolchain)
    assert made.path.name == program_name(bundle.manifest.graphs[variant].sha256, ORIN)
    assert own_cache in made.path.parents
    assert content(made.path) == b"program 1"
    assert compiler.asked == [(bundle.graph(variant), precision, 2**20)]
    assert stat.S_IMODE(made.path.parent.stat().st_mode) == 0o700


def test_a_program_is_made_anew_each_time(make_bundle: MakeBundle) -> None:
    bundle, toolchain = make_bundle(), TorchToolchain(Compiler(), ORIN, "10.3.0")
    for expected in (b"program 1", b"program 2"):
        made = compile_bundle(
            bundle, "jetson-orin-nx", options=CompileOptions(runtime="torch_tensorrt"), toolchain=toolchain
        )
        assert (content(made.path), made.reused) == (expected, False)


def test_torch_tensorrt_of_another_tensorrt_is_refused(make_bundle: MakeBundle) -> None:
    compiler = Compiler()
    with pytest.raises(ConfigError, match=r"no Torch-TensorRT .*10\.7.*2\.8\.0"):
        compile_bundle(
            make_bundle(), "jetson-orin-nx", options=CompileOptions(runtime="torch_tensorrt"),
            toolchain=TorchToolchain(compiler, ORIN, "10.7.0"),
        )  # fmt: skip
    assert compiler.asked == []


def test_a_program_without_a_gpu_is_one_message_with_the_next_step(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "blendmask_quantize.export.torch_tensorrt.program", None)
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: None)
    message = (
        r"torch_tensorrt\.program cannot be imported .*and the CUDA driver shows no GPU.*pip install torch-tensorrt .*"
        r"blendmask compile m\.bmz --target jetson-orin-nx --runtime torch_tensorrt"
    )
    with pytest.raises(RuntimeUnavailableError, match=message):
        compile_bundle(make_bundle(), "jetson-orin-nx", options=CompileOptions(runtime="torch_tensorrt"))


def test_torch_tensorrt_that_is_missing_beside_a_gpu_is_named(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "blendmask_quantize.export.torch_tensorrt.program", Compiler())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: ORIN)
    with pytest.raises(RuntimeUnavailableError, match=r"this machine: torch_tensorrt cannot be imported"):
        compile_bundle(make_bundle(), "jetson-orin-nx", options=CompileOptions(runtime="torch_tensorrt"))


@pytest.fixture
def torch_tensorrt_10_3(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """Stand in for an Orin NX with Torch-TensorRT."""
    compiler = Compiler()
    monkeypatch.setitem(sys.modules, "blendmask_quantize.export.torch_tensorrt.program", compiler)  # type: ignore[arg-type]
    for name in ("torch_tensorrt", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(__version__="10.3.0"))
    monkeypatch.setattr(toolchain_module, "find_gpu", lambda: ORIN)
    return compiler


def test_the_program_of_a_network_is_that_of_its_graph(make_bundle: MakeBundle, torch_tensorrt_10_3: Compiler) -> None:
    """Its bundle is compiled without reading its graph, and `MaskPredictor` finds the program."""
    bundle = make_bundle()
    target, found = compiler.find_torch_tools("jetson-orin-nx", bundle.path)
    assert found.compiler is torch_tensorrt_10_3
    stored = compiler.store_network(bundle, target, found, lambda: b"of the network")
    assert stored.path.name == program_name(bundle.manifest.graphs["tensorrt"].sha256, ORIN)
    assert content(stored.path) == b"of the network"
    assert torch_tensorrt_10_3.asked == []


@pytest.mark.usefixtures("torch_tensorrt_10_3")
@pytest.mark.parametrize(
    "target, message",
    [
        ("jetson-orin-nxx", r"jetson-orin-nxx.*jetson-orin-nx"),
        ("jetson-thor", r"Orin NX, SM 8\.7; Jetson Thor has SM 11\.0.*jetson-orin-nx"),
        ("x86-vnni", r"needs no engine\. Type: blendmask predict m\.bmz"),
    ],
)
def test_a_device_that_this_is_not_is_refused_before_there_is_a_bundle(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compiler.find_torch_tools(target, "m.bmz")


@pytest.mark.usefixtures("torch_tensorrt_10_3")
def test_a_bundle_that_the_device_cannot_run_is_refused_before_its_network_is_compiled(make_bundle: MakeBundle) -> None:
    target, found = compiler.find_torch_tools("jetson-orin-nx", "m.bmz")
    newer = TorchToolchain(found.compiler, found.gpu, "10.7.0")
    with pytest.raises(ConfigError, match=r"no Torch-TensorRT .*10\.7.*2\.8\.0"):
        compiler.store_network(make_bundle(), target, newer, lambda: pytest.fail("compiled"))


def test_a_runtime_that_compiles_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'onnxruntime' does not compile. Expected tensorrt or torch_tensorrt"):
        CompileOptions(runtime="onnxruntime")


def test_a_path_and_plain_words_are_enough(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blendmask_edge.compilation.compiler.find_tools", lambda *_: tools())
    path = make_bundle().path
    engine = compiler.compile(path, "jetson-orin-nx", precision="fp16", workspace_mib=64)
    assert content(engine.path) == b"engine of 10.3.0"
    assert engine.key.workspace_bytes == 64 * 2**20
    assert compiler.compile(str(path), "jetson-orin-nx", precision="fp16", workspace_mib=64).reused
    with pytest.raises(ConfigError, match="precision"):
        compiler.compile(path, "jetson-orin-nx", precision="int4")


def test_an_unsafe_cache_is_told_before_the_build(make_bundle: MakeBundle, own_cache: Path) -> None:
    own_cache.mkdir(mode=0o700)
    own_cache.chmod(0o777)
    toolchain = tools()
    with pytest.raises(OutputError, match="chmod go-w"):
        compile_bundle(make_bundle(), "jetson-orin-nx", toolchain=toolchain)
    assert toolchain.trt.calls == []
