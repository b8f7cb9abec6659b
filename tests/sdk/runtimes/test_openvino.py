"""OpenVINO keeps what it compiled: the next start takes it, and nothing that befalls the cache changes an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest

from blendmask_edge.runtimes.registry import SessionOptions, select

openvino = pytest.importorskip("openvino")

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 32, 48, 3), np.uint8)


def answer(graph: bytes, threads: int = 1) -> List[np.ndarray]:
    """Load the graph anew and run it once."""
    session = select("openvino").load().load(graph, SessionOptions(threads))
    outputs = [np.array(output) for output in session.run(IMAGE)]
    session.close()
    return outputs


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """Return a list that grows with each compilation."""
    compiled: List[int] = []
    real: Callable[..., Any] = openvino.Core.compile_model

    def counted(*words: Any, **options: Any) -> Any:
        compiled.append(1)
        return real(*words, **options)

    monkeypatch.setattr(openvino.Core, "compile_model", counted)
    return compiled


def kept(cache: Path) -> List[Path]:
    return sorted((cache / "compiled").glob("*"))


def assert_same(one: List[np.ndarray], other: List[np.ndarray]) -> None:
    for left, right in zip(one, other):
        np.testing.assert_array_equal(left, right)


def test_second_start_compiles_nothing_and_answers_the_same(
    tiny_graph: bytes, own_cache: Path, compilations: List[int]
) -> None:
    first = answer(tiny_graph)
    assert len(kept(own_cache)) == 1
    assert_same(answer(tiny_graph), first)
    assert len(compilations) == 1


def test_another_graph_or_other_options_are_compiled(
    tiny_graph: bytes, own_cache: Path, compilations: List[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer(tiny_graph)
    answer(tiny_graph, threads=2)
    assert b"tiny" in tiny_graph
    answer(tiny_graph.replace(b"tiny", b"thin"))
    monkeypatch.setattr("blendmask_edge.hardware.cpu._CPU_INFO", tmp_path / "none")
    answer(tiny_graph)
    assert len(compilations) == len(kept(own_cache)) == 4


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [flipped, cut, emptied])
def test_spoilt_file_is_compiled_anew_and_replaced(
    spoil: Callable[[Path], None], tiny_graph: bytes, own_cache: Path, compilations: List[int]
) -> None:
    first = answer(tiny_graph)
    (path,) = kept(own_cache)
    spoil(path)
    spoilt = path.read_bytes()
    assert_same(answer(tiny_graph), first)
    assert len(compilations) == 2
    assert path.read_bytes() != spoilt
    answer(tiny_graph)
    assert len(compilations) == 2


def test_model_that_openvino_no_longer_takes_is_compiled_anew(
    tiny_graph: bytes, compilations: List[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answer(tiny_graph)

    def refused(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Check 'version' failed")

    monkeypatch.setattr(openvino.Core, "import_model", refused)
    assert_same(answer(tiny_graph), first)
    assert len(compilations) == 2


def test_folder_that_cannot_be_written_is_no_error(tiny_graph: bytes, own_cache: Path, compilations: List[int]) -> None:
    own_cache.write_text("a file where the folder would be")
    assert_same(answer(tiny_graph), answer(tiny_graph))
    assert len(compilations) == 2
