"""A compiled program is found by the hash of its graph, run, and held to the contract.

torch and Torch-TensorRT are stand-ins here: neither is a dependency of the tests, and a program needs a GPU.
"""

from __future__ import annotations

import contextlib
import hashlib
import types
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import pytest

from blendmask_edge import ClosedError, InferenceError, OutputError, RuntimeUnavailableError
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes import engines
from blendmask_edge.runtimes.contract import Contract
from blendmask_edge.runtimes.engines import program_cache, program_name
from blendmask_edge.runtimes.registry import SessionOptions, select
from tests.sdk.small_bundles import build_graph

GRAPH = build_graph()
WITH_THRESHOLD = build_graph(threshold_input=True)
IMAGE = np.zeros((1, 32, 48, 3), np.uint8)
IMAGE[..., 0] = 255
ORIN = Gpu("Orin", "8.7", "12.6/540.3.0")


class Tensor:
    """A tensor that knows where it lies, and gives its values to the host only."""

    def __init__(self, array: Any, device: str) -> None:
        self.array, self.device = array, device

    def cuda(self) -> Tensor:
        return Tensor(self.array, "cuda")

    def cpu(self) -> Tensor:
        return Tensor(self.array, "cpu")

    def numpy(self) -> Any:
        assert self.device == "cpu"
        return self.array


def outputs_of(image: Tensor, least: Optional[Tensor] = None) -> Any:
    """Return (boxes, scores, class_ids, mask_logits) on the GPU, the scores following from the image."""
    assert image.device == "cuda"
    means = image.array.mean((0, 1, 2)).astype(np.float32) / 255
    if least is not None:
        assert least.device == "cuda"
        means *= means >= least.array
    arrays = (
        np.zeros((1, 3, 4), np.float32),
        means[None],
        np.zeros((1, 3), np.int32),
        np.zeros((1, 3, 56, 56), np.float32),
    )
    return tuple(Tensor(array, "cuda") for array in arrays)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have a GPU."""
    monkeypatch.setattr(engines, "find_gpu", lambda: ORIN)


@pytest.fixture
def load(fresh_import: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that loads the program of `GRAPH`, computed by `function`."""

    def loaded(function: Any = outputs_of, has_gpu: bool = True, as_exported: bool = True, graph: bytes = GRAPH) -> Any:
        def read(path: str) -> Any:
            if Path(path).read_bytes() != b"program":
                raise RuntimeError("PytorchStreamReader failed reading zip archive")
            return types.SimpleNamespace(module=lambda: function) if as_exported else function

        torch = types.SimpleNamespace(
            __version__="2.14.1",
            cuda=types.SimpleNamespace(is_available=lambda: has_gpu),
            inference_mode=contextlib.nullcontext,
            from_numpy=lambda array: Tensor(array, "cpu"),
        )
        torch_tensorrt = types.SimpleNamespace(__version__="2.14.0", load=read)
        module = fresh_import("blendmask_edge.runtimes.torch_tensorrt", torch=torch, torch_tensorrt=torch_tensorrt)
        monkeypatch.setattr(module, "find_gpu", lambda: ORIN)
        return module.load(graph, SessionOptions(score_threshold=0.5))

    return loaded


@pytest.fixture
def program() -> Path:
    """Put a program of `GRAPH` in the cache."""
    return write_program(b"program")


def write_program(data: bytes, graph: bytes = GRAPH) -> Path:
    return program_cache().write(program_name(hashlib.sha256(graph).hexdigest(), ORIN), data)


def test_a_program_of_a_graph_with_a_threshold_gets_it(load: Callable[..., Any]) -> None:
    write_program(b"program", WITH_THRESHOLD)
    session = load(graph=WITH_THRESHOLD)
    orange = IMAGE.copy()
    orange[..., 1] = 102
    np.testing.assert_allclose(session.run(orange).scores, [[1, 0, 0]])


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("as_exported", [True, False])
def test_program_returns_the_outputs_of_the_contract(load: Callable[..., Any], as_exported: bool) -> None:
    session = load(as_exported=as_exported)
    np.testing.assert_allclose(session.run(IMAGE).scores, [[1, 0, 0]])
    session.close()
    session.close()
    with pytest.raises(ClosedError):
        session.run(IMAGE)


def test_missing_program_is_told_with_its_place_and_the_command(load: Callable[..., Any], own_cache: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match=rf"{own_cache}.*blendmask compile .* --runtime torch_tensorrt"):
        load()


def test_planted_program_is_not_loaded(load: Callable[..., Any], program: Path) -> None:
    program.write_bytes(b"program")
    with pytest.raises(RuntimeUnavailableError, match=r"[Nn]o valid Torch-TensorRT program"):
        load()


@pytest.mark.usefixtures("program")
def test_machine_without_a_gpu_is_told_with_the_next_step(load: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r'sees no GPU.*runtime="onnxruntime"'):
        load(has_gpu=False)


@pytest.mark.usefixtures("program")
def test_temporary_files_that_cannot_be_written_are_told_as_such(
    load: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"Cannot write .*gone.*Choose a folder"):
        load()


def test_program_that_cannot_be_read_is_refused(load: Callable[..., Any]) -> None:
    write_program(b"of another torch")
    with pytest.raises(InferenceError, match=r"cannot read .*StreamReader failed.*compile .* --runtime torch_tensorrt"):
        load()


@pytest.mark.usefixtures("program")
def test_program_of_another_contract_is_refused(load: Callable[..., Any], make_manifest: Callable[..., Any]) -> None:
    contract = Contract.of(make_manifest({"tensorrt": b"graph"}, detections=3))
    contract.check_session(load())
    with pytest.raises(InferenceError, match=r"boxes as float32 \[1, 3, 56, 56\]"):
        contract.check_session(load(lambda image: outputs_of(image)[::-1]))
    with pytest.raises(InferenceError, match="failed to run"):
        contract.check_session(load(lambda image: outputs_of(image)[:3]))


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    "said, advice",
    [
        ("CUDA error: an illegal memory access was encountered", "Load the bundle again"),
        ("CUDA out of memory", "Free GPU memory"),
    ],
)
def test_failure_inside_the_program_is_ours(said: str, advice: str, load: Callable[..., Any]) -> None:
    def fails(_: Tensor) -> Any:
        raise RuntimeError(said)

    with pytest.raises(InferenceError, match=f"{said}.*{advice}"):
        load(fails).run(IMAGE)


def test_memory_that_runs_out_while_loading_is_ours(load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Tensor) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    write_program(b"program", WITH_THRESHOLD)
    monkeypatch.setattr(Tensor, "cuda", fails)
    with pytest.raises(InferenceError, match=r"CUDA out of memory.*Free GPU memory"):
        load(graph=WITH_THRESHOLD)


def test_runtime_is_ready_when_the_program_is_there(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, digest = select("torch_tensorrt"), hashlib.sha256(GRAPH).hexdigest()
    assert row.ready(digest)
    monkeypatch.setattr(engines, "find_gpu", lambda: None)
    assert not row.ready(digest)
    monkeypatch.setattr(engines, "find_gpu", lambda: ORIN)
    program.unlink()
    assert not row.ready(digest)


def test_all_that_is_known_to_change_a_program_changes_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    digest, other = "ab" * 32, "cd" * 32
    paths = [
        program_name(digest, ORIN),
        program_name(other, ORIN),
        program_name(digest, Gpu("Orin", "8.6", ORIN.driver)),
        program_name(digest, Gpu("Orin", ORIN.sm, "12.6/550")),
    ]
    monkeypatch.setattr(engines, "_torch_tensorrt_version", lambda: "2.9.0")
    paths.append(program_name(digest, ORIN))
    assert len(set(paths)) == len(paths)
