"""Files made to mislead a reader are refused with the reason, and a writer makes none that a reader refuses."""

from __future__ import annotations

import errno
import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge import Bundle, BundleError, OutputError
from blendmask_edge.bundle import Calibration, CalibrationImage, Manifest, write_bundle

onnx = pytest.importorskip("onnx")
END = struct.Struct("<4s4H2LH")


def opened_whole(path: Path) -> Any:
    """Read everything that a bundle holds."""
    bundle = Bundle.open(path)
    return bundle.manifest, [bundle.graph(variant) for variant in bundle.manifest.graphs]


def with_end(path: Path, **changes: int) -> Path:
    """Change fields of a zip's end record."""
    data = path.read_bytes()
    names = ("signature", "disk", "first_disk", "here", "members", "directory", "offset", "comment")
    record = dict(zip(names, END.unpack(data[-END.size :])))
    path.write_bytes(data[: -END.size] + END.pack(*{**record, **changes}.values()))
    return path


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_member_that_is_no_regular_file_is_refused(rewrite: Callable[..., Path], kind: int) -> None:
    path = rewrite({})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("extra")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, b"/etc/passwd")
    with pytest.raises(BundleError, match="extra is a folder, a link or another special file"):
        Bundle.open(path)


def test_member_that_dos_calls_a_folder_is_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite({})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("extra")
        info.external_attr = 0x10
        archive.writestr(info, b"")
    with pytest.raises(BundleError, match="folder"):
        Bundle.open(path)


@pytest.mark.parametrize("rest", [b"\x00", b"garbage", b"PK\x05\x06", b"\n" * 70_000])
def test_what_follows_the_end_is_refused(bundle_path: Path, tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "a.bmz"
    path.write_bytes(bundle_path.read_bytes() + rest)
    with pytest.raises(BundleError, match="data after its end"):
        Bundle.open(path)


def test_second_zip_behind_the_first_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    """Readers that look for the first and for the last directory would see two different bundles."""
    path = tmp_path / "a.bmz"
    path.write_bytes(bundle_path.read_bytes() * 2)
    with pytest.raises(BundleError, match="before or after the zip"):
        Bundle.open(path)


def test_what_comes_first_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.bmz"
    path.write_bytes(b"#!/bin/sh\nexit\n" + bundle_path.read_bytes())
    with pytest.raises(BundleError, match="before or after the zip"):
        Bundle.open(path)


def test_comment_is_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite({})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hello"
    with pytest.raises(BundleError, match="data after its end"):
        Bundle.open(path)


@pytest.mark.parametrize(
    "changes",
    [{"members": 2, "here": 2}, {"members": 9, "here": 9}, {"here": 1}, {"disk": 1}, {"first_disk": 1}, {"comment": 4}],
)
def test_end_record_that_does_not_fit_is_refused(rewrite: Callable[..., Path], changes: Dict[str, int]) -> None:
    with pytest.raises(BundleError, match=r"end record"):
        Bundle.open(with_end(rewrite({}), **changes))


@pytest.mark.parametrize("changes", [{"members": 33}, {"directory": 70_000}])
def test_directory_beyond_the_limits_is_refused_before_it_is_read(
    rewrite: Callable[..., Path], changes: Dict[str, int]
) -> None:
    with pytest.raises(BundleError, match="limits"):
        Bundle.open(with_end(rewrite({}), **changes))


def test_members_that_share_their_bytes_are_refused(rewrite: Callable[..., Path]) -> None:
    """Many entries over one packed kernel are how a small zip unpacks to a large one."""
    path = rewrite({"aaaa": b"x" * 100, "bbbb": b"x" * 100})
    data = bytearray(path.read_bytes())
    entries = [data.index(name, data.index(b"PK\x01\x02")) - 46 for name in (b"aaaa", b"bbbb")]
    data[entries[1] + 42 : entries[1] + 46] = data[entries[0] + 42 : entries[0] + 46]
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"over one another|zip directory"):
        Bundle.open(path)


def test_member_that_states_a_smaller_size_than_it_has_is_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite({}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<L", 100)
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
        Bundle.open(path)


def test_names_that_differ_between_directory_and_member_are_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite({})
    with zipfile.ZipFile(path) as archive:
        name = archive.getinfo("cpu.onnx").header_offset + 30
    data = path.read_bytes()
    path.write_bytes(data[:name] + b"xpu.onnx" + data[name + 8 :])
    with pytest.raises(BundleError, match=r"cpu\.onnx is damaged"):
        opened_whole(path)


def test_file_of_another_kind_that_is_a_bundle_too_is_refused(rewrite: Callable[..., Path]) -> None:
    """Offsets are moved by what stands before, so that a zip library sees nothing odd."""
    path, before = rewrite({}), b"%PDF-1.4\n" + b" " * 55
    data = bytearray(path.read_bytes())
    at = END.unpack(data[-END.size :])[6]
    data[-6:-2] = struct.pack("<L", at + len(before))
    while data[at : at + 4] == b"PK\1\2":
        offset = struct.unpack_from("<L", data, at + 42)[0]
        struct.pack_into("<L", data, at + 42, offset + len(before))
        at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    path.write_bytes(before + data)
    with pytest.raises(BundleError, match="belong to no member"):
        Bundle.open(path)


def test_member_that_inflates_far_beyond_its_stated_size_is_not_inflated(rewrite: Callable[..., Path]) -> None:
    path = rewrite({"manifest.json": b" " * (64 << 20)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<L", 1000)
    path.write_bytes(bytes(data))
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
            Bundle.open(path)
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size * 1.1 + (16 << 20)
    finally:
        tracemalloc.stop()


def test_manifest_of_millions_of_values_is_refused_before_they_are_read(rewrite: Callable[..., Path]) -> None:
    path = rewrite({"manifest.json": b'{"config": [' + b"[]," * 600_000 + b"0]}"}, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match="more than 32768 values") as caught:
            Bundle.open(path)
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size * 1.1 + (16 << 20)
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1000


def test_pipe_and_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(str(tmp_path / "pipe.bmz"))
    for path in (tmp_path / "pipe.bmz", Path("/dev/zero"), tmp_path):
        with pytest.raises(BundleError, match="is not a file"):
            Bundle.open(path)


def test_category_that_is_named_twice_is_refused(make_manifest: Callable[..., Manifest]) -> None:
    with pytest.raises(ValueError, match="category_ids"):
        make_manifest({"cpu": b"x"}, category_ids=[10, 20, 20]).__post_init__()


def assert_the_same_or_refused(path: Path, data: bytes | bytearray, sound: Path) -> None:
    """What `data`, written to `path`, reads as is the sound bundle, or it is refused."""
    path.write_bytes(data)
    try:
        contents = opened_whole(path)
    except BundleError:
        return
    assert contents == opened_whole(sound)


@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=2, max_size=12))
def test_bytes_changed_anywhere_never_give_another_bundle(
    tmp_path_factory: pytest.TempPathFactory, bundle_path: Path, edits: Any
) -> None:
    data = bytearray(bundle_path.read_bytes())
    for position, value in edits:
        data[int(position * len(data))] = value
    path = tmp_path_factory.getbasetemp() / "edited.bmz"
    assert_the_same_or_refused(path, data, bundle_path)


@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), length=st.integers(1, 4))
def test_changed_directory_never_gives_another_bundle(
    tmp_path_factory: pytest.TempPathFactory, bundle_path: Path, position: float, value: int, length: int
) -> None:
    """The directory is a hundredth of the file, so it is aimed at."""
    data = bytearray(bundle_path.read_bytes())
    start = data.index(b"PK\x01\x02")
    place = start + int(position * (len(data) - start))
    data[place : place + length] = bytes([value]) * len(data[place : place + length])
    path = tmp_path_factory.getbasetemp() / "directory.bmz"
    assert_the_same_or_refused(path, data, bundle_path)


def onnx_length(data: bytes) -> bytes:
    """Return the length of a message as protobuf writes it."""
    rest, out = len(data), b""
    while rest > 0x7F:
        out, rest = out + bytes([rest & 0x7F | 0x80]), rest >> 7
    return out + bytes([rest])


def test_writer_refuses_what_a_reader_would(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blendmask_edge.bundle.limits.RATIO_APPLIES_FROM", 100_000)
    seed = Calibration(images=[], seed=2**63)
    one, many = {"cpu": tiny_graph}, {f"g{number}": tiny_graph for number in range(32)}
    zeros = {"cpu": tiny_graph + b"\x32" + onnx_length(bytes(12_000_000)) + bytes(12_000_000)}
    refused = [
        (make_manifest(many), many, "more than 32 members"),
        (make_manifest(one, calibration=seed), one, "more than 64 bits"),
        (make_manifest(zeros), zeros, "times its packed size"),
        (make_manifest(one, license="x" * 9_000_000), one, "at most 2097152 are read"),
    ]
    for manifest, graphs, reason in refused:
        with pytest.raises(BundleError, match=reason):
            write_bundle(tmp_path / "a.bmz", manifest, graphs)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    with pytest.raises(BundleError, match="Leave a graph out"):
        write_bundle(tmp_path / "a.bmz", make_manifest(one), one)
    assert list(tmp_path.iterdir()) == []


def test_image_whose_name_is_no_utf8_is_recorded(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    image = CalibrationImage(name=b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), sha256="0" * 64)
    manifest = make_manifest({"cpu": tiny_graph}, calibration=Calibration(images=[image], seed=0))
    record = Bundle.open(write_bundle(tmp_path / "a.bmz", manifest, {"cpu": tiny_graph})).manifest.calibration
    assert record is not None
    assert record.images[0].name == "caf\\udce9.jpg"


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_disk_that_is_full_at_any_step_leaves_the_older_file_and_nothing_else(
    step: str,
    tmp_path: Path,
    tiny_graph: bytes,
    make_manifest: Callable[..., Manifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path, graphs = tmp_path / "a.bmz", {"cpu": tiny_graph}
    path.write_bytes(b"older")
    places = {"write": "zipfile.ZipFile.writestr", "fsync": "os.fsync", "rename": "os.replace"}
    monkeypatch.setattr(places[step], full)
    with pytest.raises(OutputError, match=r"Cannot write .*a\.bmz: No space left on device.*has room"):
        write_bundle(path, make_manifest(graphs), graphs)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]
