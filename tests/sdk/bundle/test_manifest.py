"""A manifest that two readers could read as two, or that takes long to read or print, is refused."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict

import pytest

from blendmask_edge import BundleError
from blendmask_edge.bundle import Manifest, decode_manifest, encode_manifest
from blendmask_edge.bundle.manifest import MAX_DEPTH, MAX_TEXT


def nested(depth: int) -> Any:
    value: Any = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_nesting_is_bounded(manifest_json: Dict[str, Any]) -> None:
    manifest_json["later"] = nested(MAX_DEPTH - 2)
    decode_manifest(json.dumps(manifest_json).encode())
    for depth in (MAX_DEPTH, 900):
        manifest_json["later"] = nested(depth)
        with pytest.raises(BundleError, match="nested more than 32 deep"):
            decode_manifest(json.dumps(manifest_json).encode())
    text = json.dumps({**manifest_json, "later": 0}).replace('"later": 0', '"later": ' + "[" * 30_000)
    with pytest.raises(BundleError, match="not sound"):
        decode_manifest(text.encode())


@pytest.mark.parametrize("place", ["value", "name", "known"])
def test_texts_are_bounded(manifest_json: Dict[str, Any], place: str) -> None:
    def with_text(length: int) -> bytes:
        text = "\N{GRINNING FACE}" * length
        entry = {"value": {"later": [text]}, "name": {text: 0}, "known": {"license": text}}[place]
        return json.dumps({**manifest_json, **entry}, ensure_ascii=False).encode()

    decode_manifest(with_text(MAX_TEXT))
    with pytest.raises(BundleError, match=f"more than {MAX_TEXT} characters") as caught:
        decode_manifest(with_text(MAX_TEXT + 1))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "found, twice",
    [
        ('"model": "TINY"', '"model": "TINY", "model": "OTHER"'),
        ('"model": "TINY"', '"model": "OTHER", "mod\\u0065l": "TINY"'),
        ('"height": 32', '"height": 32, "height": 64'),
        ('"model": "TINY"', '"schema_version": 3, "model": "TINY"'),
        ('"fpn_width": 8', '"fpn_width": 8, "fpn_width": 8'),
        ('"model": "TINY"', '"model": "TINY", "later": {"\\\\": 1, "a\\\\": 2, "\\\\": 3}'),
    ],
)
def test_field_that_is_named_twice_is_refused(manifest_json: Dict[str, Any], found: str, twice: str) -> None:
    text = json.dumps(manifest_json)
    assert found in text
    with pytest.raises(BundleError, match="names a field twice"):
        decode_manifest(text.replace(found, twice).encode())


@pytest.mark.parametrize("text", [":", '":"', '\\":', "\\", '\\\\":', 'a"b\\":\\\\', "{:}", "é:"])
def test_texts_with_colons_and_quotes_are_no_fields(manifest_json: Dict[str, Any], text: str) -> None:
    manifest_json["license"] = text
    manifest_json["later"] = {text: text, text + ":": [text]}
    for ascii_only in (True, False):
        assert decode_manifest(json.dumps(manifest_json, ensure_ascii=ascii_only).encode()).license == text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "latin-1"])
def test_other_encodings_than_utf8_are_refused(manifest_json: Dict[str, Any], encoding: str) -> None:
    manifest_json["license"] = "é"
    with pytest.raises(BundleError, match="not sound"):
        decode_manifest(json.dumps(manifest_json, ensure_ascii=False).encode(encoding))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "01", "1.", "0x10", "-", "+1", "1" * 400])
def test_numbers_that_are_no_json_or_no_number_are_refused(manifest_json: Dict[str, Any], number: str) -> None:
    for field in ('"score_threshold": 0.2', '"fpn_width": 8'):
        text = json.dumps(manifest_json).replace(field, field.partition(":")[0] + ": " + number)
        assert number in text
        with pytest.raises(BundleError, match="not sound"):
            decode_manifest(text.encode())


def test_writer_refuses_what_a_reader_would(make_manifest: Callable[..., Manifest]) -> None:
    with pytest.raises(BundleError, match="more than"):
        decode_manifest(encode_manifest(make_manifest({"cpu": b"x"}, license="x" * (MAX_TEXT + 1))))
