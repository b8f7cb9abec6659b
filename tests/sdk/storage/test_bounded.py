"""A file is read up to its bound; devices, pipes and folders are refused at once."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import pytest

from blendmask_edge.storage.bounded import read_bounded, read_stream


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    (tmp_path / "link").symlink_to(path)
    assert read_bounded(path, 4) == read_bounded(tmp_path / "link", 4) == b"1234"
    with pytest.raises(OSError, match="more than 3 bytes"):
        read_bounded(path, 3)


def test_memory_follows_the_file_and_not_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    tracemalloc.start()
    try:
        assert read_bounded(path, 2**33) == b"1234"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_while_it_is_read_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12")

    class Growing(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            with path.open("ab") as end:
                end.write(b"3" if path.stat().st_size < 6 else b"")
            return super().read(size)

    with Growing(path) as stream:
        assert read_stream(stream, 6) == b"123333"
    with Growing(path) as stream, pytest.raises(OSError, match="more than 5 bytes"):
        read_stream(stream, 5)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a file"):
            read_bounded(path, 10)
