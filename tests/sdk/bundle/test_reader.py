"""A bundle comes back as it was written, appears whole or not at all, and is refused when anything in it changed."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge import Bundle, BundleError, OutputError
from blendmask_edge.bundle import (
    SCHEMA_VERSION,
    GraphEntry,
    InputSpec,
    Manifest,
    decode_manifest,
    encode_manifest,
    write_bundle,
)


def read_all(path: Path) -> Any:
    """Return manifest and graphs of a bundle."""
    bundle = Bundle.open(path)
    return bundle.manifest, {variant: bundle.graph(variant) for variant in bundle.manifest.graphs}


def test_bundle_returns_what_was_written(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph, "tensorrt": tiny_graph + b"\x12\x00"}
    manifest = make_manifest(graphs)
    path = write_bundle(tmp_path / "a.bmz", manifest, graphs)
    assert read_all(path) == (manifest, graphs)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bmz"]


def test_same_content_gives_the_same_bytes(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph}
    paths = [write_bundle(tmp_path / name, make_manifest(graphs), graphs) for name in ("a.bmz", "b.bmz")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_unknown_variant_names_those_held(bundle_path: Path) -> None:
    with pytest.raises(BundleError, match=r"'tensorrt'.*cpu, float"):
        Bundle.open(bundle_path).graph("tensorrt")


def test_manifest_ignores_fields_of_later_releases(manifest_json: Dict[str, Any]) -> None:
    manifest_json["signature_scheme"] = {"kind": "ed25519"}
    manifest_json["input"]["dtype"] = "uint8"
    assert decode_manifest(json.dumps(manifest_json).encode()).model == "TINY"


def test_writer_refuses_graphs_that_the_manifest_does_not_describe(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    manifest = make_manifest({"cpu": tiny_graph})
    for graphs in ({"cpu": tiny_graph + b"x"}, {"float": tiny_graph}, {}):
        with pytest.raises(BundleError):
            write_bundle(tmp_path / "a.bmz", manifest, graphs)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_refused(tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]) -> None:
    graphs = {"cpu": tiny_graph}
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "no" / "a.bmz", tmp_path / "file" / "a.bmz", tmp_path):
        with pytest.raises(OutputError):
            write_bundle(target, make_manifest(graphs), graphs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]) -> None:
    graphs = {"cpu": tiny_graph}
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="writable"):
        write_bundle(tmp_path / "a.bmz", make_manifest(graphs), graphs)


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Make every write beyond `size` bytes of a file fail, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_leaves_the_older_file_and_nothing_else(
    tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph}
    path = tmp_path / "a.bmz"
    path.write_bytes(b"older")
    with room_for(1000), pytest.raises(OutputError, match=r"a\.bmz"):
        write_bundle(path, make_manifest(graphs), graphs)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06", b"\x00" * 100_000, b"PK\x03\x04" + b"x" * 500])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.bmz"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="not a zip"):
        Bundle.open(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no.bmz", tmp_path):
        with pytest.raises(BundleError, match=r"\.bmz"):
            Bundle.open(path)


@pytest.mark.parametrize("name", ["manifest.json", "cpu.onnx"])
def test_missing_member_is_refused(rewrite: Callable[..., Path], name: str) -> None:
    with pytest.raises(BundleError, match=name):
        Bundle.open(rewrite({name: None}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"schema_version": "1"}',
        b'{"schema_version": 1}',
        b"[" * 200_000,
        b'{"schema_version": 1, "config": ' + b"[" * 100_000,
        b'{"schema_version": ' + b"9" * 10_000 + b"}",
    ],
)
def test_bad_manifest_is_refused(rewrite: Callable[..., Path], content: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.open(rewrite({"manifest.json": content}))


@pytest.mark.parametrize("version, advice", [(0, "Rebuild"), (SCHEMA_VERSION + 1, "Upgrade"), (99, "Upgrade")])
def test_other_schema_version_is_refused_with_advice(
    rewrite: Callable[..., Path], manifest_json: Dict[str, Any], version: int, advice: str
) -> None:
    manifest_json["schema_version"] = version
    with pytest.raises(BundleError, match=f"schema version {version}.*{advice}"):
        Bundle.open(rewrite({"manifest.json": json.dumps(manifest_json)}))


@pytest.mark.parametrize(
    "path, value",
    [
        ("model", 3),
        ("classes", []),
        ("category_ids", [1]),
        ("graphs", {}),
        ("input.height", 0),
        ("input.width", 10**9),
        ("input.pad_value", [1, 2]),
        ("input.pad_value", [1, 2, 300]),
        ("input.channel_order", "bgr"),
        ("graphs.cpu.file", "../cpu.onnx"),
        ("graphs.cpu.file", "/etc/passwd"),
        ("graphs.cpu.file", "manifest.json"),
        ("graphs.cpu.file", "float.onnx"),
        ("graphs.cpu.sha256", "0" * 63),
        ("graphs.cpu.size", -1),
        ("graphs.cpu.size", 12),
        ("score_threshold", 1.5),
        ("display_threshold", -0.1),
        ("detections", 0),
        ("nms", None),
        ("nms.rounds", 0),
        ("nms.rounds", 2**63),
        ("config.fpn_width", -(2**63) - 1),
        ("nms.candidates", -1),
        ("nms.iou_threshold", 1.1),
        ("category_ids", [10, 20, 20]),
    ],
)
def test_manifest_field_out_of_range_is_refused(
    rewrite: Callable[..., Path], manifest_json: Dict[str, Any], path: str, value: Any
) -> None:
    *parents, last = path.split(".")
    holder = manifest_json
    for name in parents:
        holder = holder[name]
    holder[last] = value
    with pytest.raises(BundleError):
        Bundle.open(rewrite({"manifest.json": json.dumps(manifest_json)}))


@pytest.mark.parametrize("name", ["/cpu.onnx", "../cpu.onnx", "a/b", ".hidden", "a..b", "C:\\x", "ü.onnx", "a b", "x/"])
def test_name_that_is_not_plain_is_refused(rewrite: Callable[..., Path], name: str) -> None:
    with pytest.raises(BundleError, match="not allowed"):
        Bundle.open(rewrite({name: b"data"}))


def test_name_with_a_hidden_end_is_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite({"ZZZZ": b"data"})
    path.write_bytes(path.read_bytes().replace(b"ZZZZ", b"Z\x00ZZ"))
    with pytest.raises(BundleError, match=r"not allowed|zip directory"):
        Bundle.open(path)


def test_doubled_name_is_refused(rewrite: Callable[..., Path]) -> None:
    for name in ("cpu.onnx", "CPU.onnx"):
        path = rewrite({"zzz.onnx": b"another"})
        path.write_bytes(path.read_bytes().replace(b"zzz.onnx", name.encode()))
        with pytest.raises(BundleError, match="twice"):
            Bundle.open(path)


def test_too_many_members_are_refused(rewrite: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match="members"):
        Bundle.open(rewrite({f"extra{number}": b"" for number in range(40)}))


def test_extra_plain_member_is_tolerated(rewrite: Callable[..., Path]) -> None:
    assert Bundle.open(rewrite({"signature": b"later"})).manifest.model == "TINY"


def test_unpacking_far_beyond_the_packed_size_is_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite({"extra": bytes(80_000_000)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(BundleError, match="times its packed size"):
        Bundle.open(path)


def test_huge_manifest_is_refused_before_it_is_unpacked(rewrite: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match="at most"):
        Bundle.open(rewrite({"manifest.json": b" " * 9_000_000}, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packing_is_refused(rewrite: Callable[..., Path], method: int) -> None:
    with pytest.raises(BundleError, match="stored or deflated"):
        Bundle.open(rewrite({}, method))


def test_encrypted_member_is_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite({})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="encrypted"):
        Bundle.open(path)


def test_zip64_locator_is_refused(rewrite: Callable[..., Path]) -> None:
    path = rewrite({})
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    path.write_bytes(data[:end] + struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1) + data[end:])
    with pytest.raises(BundleError, match="limits"):
        Bundle.open(path)


def test_graph_with_another_hash_is_refused(rewrite: Callable[..., Path], tiny_graph: bytes) -> None:
    spoilt = tiny_graph[:-1] + bytes([tiny_graph[-1] ^ 1])
    with pytest.raises(BundleError, match="hash"):
        Bundle.open(rewrite({"cpu.onnx": spoilt})).graph("cpu")


def test_bundle_cut_anywhere_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    data = bundle_path.read_bytes()
    path = tmp_path / "cut.bmz"
    for length in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        with pytest.raises(BundleError):
            read_all(path)


@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_flipped_byte_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, bundle_path: Path, position: float, flip: int
) -> None:
    data = bytearray(bundle_path.read_bytes())
    data[int(position * len(data))] ^= flip
    path = tmp_path_factory.getbasetemp() / "flipped.bmz"
    path.write_bytes(bytes(data))
    with contextlib.suppress(BundleError):
        assert read_all(path) == read_all(bundle_path)


@given(data=st.data(), flip=st.integers(1, 255))
def test_any_flipped_byte_of_a_stored_member_is_refused(
    tmp_path_factory: pytest.TempPathFactory, bundle_path: Path, data: st.DataObject, flip: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "stored.bmz"
    with zipfile.ZipFile(bundle_path) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        member = data.draw(st.sampled_from(target.infolist()))
    start = member.header_offset + 30 + len(member.filename)
    content = bytearray(path.read_bytes())
    content[start + data.draw(st.integers(0, member.file_size - 1))] ^= flip
    path.write_bytes(bytes(content))
    with pytest.raises(BundleError):
        read_all(path)


def test_manifest_of_all_fields_survives_json(tiny_graph: bytes, make_manifest: Callable[..., Manifest]) -> None:
    manifest = make_manifest({"cpu": tiny_graph}, ranges_sha256="a" * 64, versions={"onnx": "1"})
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_structs_refuse_wrong_values_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="input size"):
        InputSpec(height=0, width=4, pad_value=(0, 0, 0))
    with pytest.raises(ValueError, match="file name"):
        GraphEntry(file="a/b", sha256="0" * 64, size=1, opset=17, precision="int8")
