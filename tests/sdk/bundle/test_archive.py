"""A zip that two readers could take for two different files is refused: each rule of docs/bundle.md, byte by byte."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from blendmask_edge import Bundle, BundleError
from tests.sdk.bundle.zip_bytes import HEADER_FIELDS, Part, changed, zip_of

GRAPH, MANIFEST = b"cpu.onnx", b"manifest.json"


def opened_whole(path: Path) -> Any:
    """Read everything that a bundle holds."""
    bundle = Bundle.open(path)
    return bundle.manifest, [bundle.graph(variant) for variant in bundle.manifest.graphs]


@pytest.fixture(scope="module")
def parts(bundle_path: Path) -> List[Part]:
    """Return the members of a sound bundle."""
    with zipfile.ZipFile(bundle_path) as archive:
        return [Part(name.encode(), archive.read(name)) for name in archive.namelist()]


def refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.bmz"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=reason):
        opened_whole(path)


def test_what_is_built_here_is_sound(parts: List[Part], tmp_path: Path, bundle_path: Path) -> None:
    path = tmp_path / "a.bmz"
    for method in (0, 8):
        path.write_bytes(zip_of([Part(part.name, part.content, method) for part in parts]))
        assert opened_whole(path) == opened_whole(bundle_path)


OTHER = {
    "version": 10, "flags": 2, "method": 0, "time": 1, "date": 34, "crc": 1, "packed_size": 5, "size": 7,
    "name": b"gpu.onnx", "signature": b"PK\3\5",
}  # fmt: skip


@pytest.mark.parametrize("field", OTHER)
@pytest.mark.parametrize("name", [MANIFEST, GRAPH])
def test_header_that_disagrees_with_the_directory_is_refused(
    parts: List[Part], tmp_path: Path, name: bytes, field: str
) -> None:
    assert set(HEADER_FIELDS) < set(OTHER)
    refused(tmp_path, zip_of(changed(parts, name, header={field: OTHER[field]})), r"disagree|header before .* damaged")


@pytest.mark.parametrize("name", [MANIFEST, GRAPH])
@pytest.mark.parametrize("where", ["header", "entry"])
@pytest.mark.parametrize("kind", [0x0001, 0x7075, 0x5455, 0xCAFE])
def test_extra_fields_are_refused(parts: List[Part], tmp_path: Path, name: bytes, where: str, kind: int) -> None:
    """Of zip64, of another name in Unicode, of times, of anything."""
    extra = struct.pack("<2H8s", kind, 8, b"\0" * 8)
    reason = "has extra fields" if where == "entry" else "belong to no member"
    refused(tmp_path, zip_of(changed(parts, name, **{where: {"extra": extra}})), reason)


def in_entry(**fields: Any) -> Dict[str, Any]:
    return {"entry": fields}


def in_both(**fields: Any) -> Dict[str, Any]:
    return {"entry": fields, "header": fields}


FAULTS: Dict[str, Tuple[Dict[str, Any], str]] = {
    "comment of a member": (in_entry(comment=b"hello"), "a comment"),
    "another disk": (in_entry(disk=1), "another disk"),
    "encrypted": (in_both(flags=1), "is encrypted"),
    "strongly encrypted": (in_both(flags=0x41), "is encrypted"),
    "data descriptor": (in_both(flags=8), "has flags 0x8"),
    "data descriptor behind": ({**in_both(flags=8), "after": b"PK\7\x08" + bytes(12)}, "has flags 0x8"),
    "patched data": (in_both(flags=0x20), "has flags 0x20"),
    "masked header": (in_both(flags=0x2000), "has flags 0x2000"),
    "zip64 version": (in_both(version=45), "asks for version 45"),
    "bzip2": (in_both(method=12), "a method other than stored or deflated"),
    "zip64 size": (in_both(size=0xFFFFFFFF), "times its packed size|unpacks to more"),
    "zip64 packed size": (in_both(packed_size=0xFFFFFFFF), "members lie over one another"),
    "zip64 offset": (in_entry(offset=0xFFFFFFFF), "belong to no member|over one another"),
    "bytes before it": ({"before": b"hidden"}, "belong to no member"),
    "bytes after it": ({"after": b"hidden"}, "belong to no member"),
    "a member that no entry names": ({"after": zip_of([Part(b"manifest.json", b"{}")])}, "belong to no member"),
    "link": (in_entry(attributes=0o120777 << 16), "a link or another special file"),
    "folder": (in_entry(attributes=0o40755 << 16), "a folder"),
    "DOS folder": (in_entry(attributes=0x10), "a folder"),
    "device": (in_entry(attributes=0o20666 << 16), "special file"),
    "name with a NUL": (in_both(name=b"cpu.onnx\0.txt"), "not allowed"),
    "name with a folder": (in_both(name=b"../cpu.onnx"), "not allowed"),
    "name that is no UTF-8": (in_both(name=b"\xff\xfe"), "not allowed"),
    "no name": (in_both(name=b""), "not allowed"),
    "entry signature": (in_entry(signature=b"PK\1\3"), "directory cannot be read"),
    "stored with two sizes": ({"method": 0, **in_both(size=3)}, "other than stored or deflated"),
    "checksum": (in_both(crc=1), "is damaged"),
    "smaller size": (in_both(size=10), "is damaged|the size of"),
    "larger size": (in_both(size=10**6), "is damaged|the size of"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", [MANIFEST, GRAPH])
def test_fault_of_a_member_is_refused(parts: List[Part], tmp_path: Path, name: bytes, fault: str) -> None:
    changes, reason = FAULTS[fault]
    refused(tmp_path, zip_of(changed(parts, name, **changes)), reason)


def test_bytes_behind_the_end_of_deflated_data_are_refused(parts: List[Part], tmp_path: Path) -> None:
    """They lie within the member's packed size, where most readers pass over them."""
    for name in (MANIFEST, GRAPH):
        (part,) = [part for part in parts if part.name == name]
        for hidden in (b"\0", b"hidden" * 20_000):
            refused(tmp_path, zip_of(changed(parts, name, packed=part.bytes_of_member() + hidden)), "stand behind")


def test_deflated_data_without_an_end_are_refused(parts: List[Part], tmp_path: Path) -> None:
    for name in (MANIFEST, GRAPH):
        (part,) = [part for part in parts if part.name == name]
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        open_end = packer.compress(part.content) + packer.flush(zlib.Z_SYNC_FLUSH)
        refused(tmp_path, zip_of(changed(parts, name, packed=open_end)), "its end is missing")


@pytest.mark.parametrize("name", [MANIFEST, GRAPH, b"Manifest.JSON", b"CPU.onnx"])
def test_a_name_that_occurs_twice_is_refused(parts: List[Part], tmp_path: Path, name: bytes) -> None:
    refused(tmp_path, zip_of([*parts, Part(name, b"{}")]), "a name twice")
    refused(tmp_path, zip_of([Part(name, b"{}"), *parts]), "a name twice")


@pytest.mark.parametrize(
    "end", [{"disk": 1}, {"first_disk": 1}, {"here": 1}, {"count": 1}, {"here": 1, "count": 1}, {"here": 9, "count": 9},
            {"offset": 0}, {"length": 0}, {"comment": 5}, {"here": 0xFFFF, "count": 0xFFFF}, {"offset": 0xFFFFFFFF}],
)  # fmt: skip
def test_end_record_that_does_not_fit_is_refused(parts: List[Part], tmp_path: Path, end: Dict[str, int]) -> None:
    refused(tmp_path, zip_of(parts, end), r"end record|exceeds the limits")


def test_bytes_around_the_records_are_refused(parts: List[Part], tmp_path: Path) -> None:
    sound = zip_of(parts)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    for data, reason in [
        (b"#!/bin/sh\n" + sound, "before or after the zip"),
        (sound + b"\0", "data after its end"),
        (sound + sound, "before or after the zip"),
        (zip_of(parts, comment=b"hello"), "data after its end"),
        (zip_of(parts, comment=sound[-22:]), "data after its end|does not match|before or after the zip"),
        (zip_of(parts, before_end=locator), "zip64"),
        (zip_of(parts, before_end=b"hidden"), "does not match"),
        (zip_of(parts, {"length": len(sound)}), "does not match|exceeds the limits"),
    ]:
        refused(tmp_path, data, reason)


def test_bytes_behind_the_last_entry_are_refused(parts: List[Part], tmp_path: Path) -> None:
    """They lie within the directory that the end record states."""
    sound = zip_of(parts)
    length = struct.unpack_from("<L", sound, len(sound) - 10)[0]
    for hidden in (b"hidden", b"PK\1\2", b"PK\5\5" + bytes(60)):
        refused(tmp_path, zip_of(parts, {"length": length + len(hidden)}, hidden), "directory cannot be read")


def test_entries_in_another_order_than_the_members_are_one_file(parts: List[Part], tmp_path: Path) -> None:
    """No byte is left over, and names are looked up, so that every reader finds the same."""
    sound = zip_of(parts)
    first = struct.unpack_from("<L", sound, len(sound) - 6)[0]
    second = sound.index(b"PK\1\2", first + 4)
    third = sound.index(b"PK\1\2", second + 4)
    path = tmp_path / "a.bmz"
    path.write_bytes(sound[:first] + sound[second:third] + sound[first:second] + sound[third:])
    assert opened_whole(path)[0].model == "TINY"


def test_no_byte_of_the_records_can_change_what_is_read(parts: List[Part], tmp_path: Path) -> None:
    """Each byte outside of the packed data, changed in two ways: refused, or read as before."""
    sound, path = zip_of(parts), tmp_path / "a.bmz"
    path.write_bytes(sound)
    expected, offset, places = opened_whole(path), 0, []  # type: Tuple[Any, int, List[int]]
    for part in parts:
        places += range(offset, offset + 30 + len(part.name))
        offset += 30 + len(part.name) + len(part.bytes_of_member())
    accepted = []
    for place in [*places, *range(offset, len(sound))]:
        for flipped in (0x01, 0x80):
            path.write_bytes(sound[:place] + bytes([sound[place] ^ flipped]) + sound[place + 1 :])
            try:
                assert opened_whole(path) == expected
                accepted.append(place - offset)
            except BundleError:
                continue
    assert min(accepted) >= 0, "a header before a member may say nothing that its entry does not"


@pytest.mark.parametrize("variant", ["ptq" * 100, "../x", "a b", ""])
def test_variant_with_a_name_that_no_file_may_have_is_refused(
    manifest_json: Dict[str, Any], variant: str, parts: List[Part], tmp_path: Path
) -> None:
    manifest_json["graphs"][variant] = manifest_json["graphs"].pop("float")
    refused(tmp_path, zip_of(changed(parts, MANIFEST, content=json.dumps(manifest_json).encode())), "a variant")
