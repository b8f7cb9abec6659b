"""Whichever call to the file system fails, loader and writer end with one error of ours and leave a whole file."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Callable, List

import pytest

from blendmask_edge import Bundle, BundleError, OutputError
from blendmask_edge.bundle import Manifest, write_bundle
from blendmask_edge.storage.cache import Cache
from tests.sdk.storage.faults import die, each_fault, injected

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks, and calls of POSIX fail")
LEAST = 40
"""Calls that are made at least; fewer would mean that they are no longer counted."""


def names(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def write(tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]) -> Callable[[], Any]:
    """Return a function that writes a bundle to `a.bmz`."""
    graphs = {"cpu": tiny_graph}
    manifest = make_manifest(graphs)
    folder = tmp_path / "bundles"
    folder.mkdir()
    return lambda: write_bundle(folder / "a.bmz", manifest, graphs)


def test_loader_says_in_one_error_whatever_fails(bundle_path: Path) -> None:
    def load() -> Any:
        bundle = Bundle.open(bundle_path)
        return bundle.manifest, [bundle.graph(name) for name in bundle.manifest.graphs]

    sound, answers = load(), []
    for number in each_fault(load):
        with injected(number):
            answers.append(answer_of(load))
    assert all(answer == sound or str(bundle_path) in answer for answer in answers)
    assert sum(isinstance(answer, str) for answer in answers) > LEAST


def answer_of(work: Callable[[], Any]) -> Any:
    """Return what the work returns, or the message of its error."""
    try:
        return work()
    except (BundleError, OutputError) as error:
        return str(error)


def test_writer_leaves_the_older_bundle_whatever_fails(write: Callable[[], Any]) -> None:
    path = write()
    answers = []
    for number in each_fault(write):
        path.write_bytes(b"older")
        with injected(number) as faults:
            answers.append(answer_of(write))
        # Of a file whose place it cannot tell, Python's zip library writes another form of zip, which is refused.
        assert answers[-1] == path or str(path) in answers[-1] or "A reader would refuse" in answers[-1]
        is_new = path.read_bytes() != b"older"
        assert not is_new or Bundle.open(path).graph("cpu")
        assert is_new or isinstance(answers[-1], str)
        assert set(names(path.parent)) <= {".a.bmz.0.part", "a.bmz"}
        if "write" in faults.calls and faults.calls[number - 1] != "os.unlink":
            assert names(path.parent) == ["a.bmz"]
    assert sum(isinstance(answer, str) for answer in answers) > LEAST
    write()
    assert names(path.parent) == ["a.bmz"]


@pytest.mark.slow
def test_writer_that_is_killed_anywhere_leaves_the_older_or_the_new_bundle(write: Callable[[], Any]) -> None:
    """And what it leaves beside it, the next one takes over."""
    path = write()
    new = path.read_bytes()
    for thread in threading.enumerate():  # of earlier tests; a fork is safest from a process without threads
        if thread is not threading.main_thread():
            thread.join(timeout=5)
    states = set()
    for number in each_fault(write):
        path.write_bytes(b"older")
        child = os.fork()
        if not child:
            try:
                with injected(number, die):
                    write()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WEXITSTATUS(status) == 9
        states.add(path.read_bytes())
        assert set(names(path.parent)) <= {".a.bmz.0.part", "a.bmz"}
        write()
        assert names(path.parent) == ["a.bmz"]
        assert path.read_bytes() == new
    assert states == {b"older", new}


def test_cache_costs_no_run_whatever_fails(own_cache: Path) -> None:
    cache = Cache(own_cache, "engines")

    def use() -> Any:
        cache.keep("a.engine", b"new" * 1000)
        cache.names()
        return cache.read("a.engine")

    for number in each_fault(use):
        cache.write("a.engine", b"older" * 1000)
        with injected(number):
            assert use() in (b"new" * 1000, b"older" * 1000, None)
        assert cache.read("a.engine") in (b"new" * 1000, b"older" * 1000)
    assert use() == b"new" * 1000
    assert names(cache.folder) == ["a.engine"]
