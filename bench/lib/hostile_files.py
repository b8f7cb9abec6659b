"""Generate hostile files: bundles, graphs, images and annotations that mislead a reader or exhaust memory and time.

Each builder returns a file name and bytes. The files are generated on each run and not stored in the repository.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "schema2.bmz"
_MIB = 2**20
LARGE = 10_000_000
"""Bytes of the files that are meant to be as large as a bundle."""

Builder = Callable[[], tuple[str, bytes]]


def attacks() -> dict[str, Builder]:
    """Return the builders by name, KIND/WHAT; `benign` of each kind is a sound file."""
    kinds = {"bundle": _BUNDLES, "graph": _GRAPHS, "image": _IMAGES, "annotation": _ANNOTATIONS}
    return {f"{kind}/{name}": builder for kind, builders in kinds.items() for name, builder in builders.items()}


@functools.cache
def _members() -> dict[str, bytes]:
    with zipfile.ZipFile(_GOLDEN) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _manifest() -> dict[str, Any]:
    return dict(json.loads(_members()["manifest.json"]))


def _zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method, 1)
    return data.getvalue()


def _entries(data: bytes) -> Iterable[tuple[int, str]]:
    """Offset and name of each entry of the directory."""
    at = struct.unpack_from("<L", data, len(data) - 6)[0]
    while data[at : at + 4] == b"PK\1\2":
        lengths = struct.unpack_from("<3H", data, at + 28)
        yield at, data[at + 46 : at + 46 + lengths[0]].decode()
        at += 46 + sum(lengths)


def _stating(data: bytes, member: str, size: int) -> bytes:
    """Return a zip in which a member states another size."""
    changed = bytearray(data)
    for at, name in _entries(data):
        if name == member:
            struct.pack_into("<L", changed, at + 24, size)
            struct.pack_into("<L", changed, struct.unpack_from("<L", data, at + 42)[0] + 22, size)
    return bytes(changed)


def _with_manifest(text: bytes) -> bytes:
    return _zipped({**_members(), "manifest.json": text})


def _noise(size: int) -> bytes:
    return random.Random(0).randbytes(size)


def _packing(size: int, unpacked: int) -> bytes:
    """Return bytes that pack to about `size`."""
    noise = _noise(size)
    return noise + bytes(unpacked - size)


def _with_graph(graph: bytes, sha256: str | None = None, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a bundle of one graph, by default with its right hash."""
    entry = next(iter(_manifest()["graphs"].values()))
    digest = sha256 or hashlib.sha256(graph).hexdigest()
    graphs = {"cpu": {**entry, "file": "cpu.onnx", "sha256": digest, "size": len(graph)}}
    text = json.dumps({**_manifest(), "graphs": graphs, "metrics": {}, "fidelity": {}})
    return _zipped({"manifest.json": text.encode(), "cpu.onnx": graph}, method)


def _bytes_before() -> bytes:
    sound, before = bytearray(_zipped(_members())), b"%PDF-1.4\n" + bytes(55)
    for at, _ in _entries(bytes(sound)):
        struct.pack_into("<L", sound, at + 42, struct.unpack_from("<L", sound, at + 42)[0] + len(before))
    struct.pack_into("<L", sound, len(sound) - 6, struct.unpack_from("<L", sound, len(sound) - 6)[0] + len(before))
    return before + bytes(sound)


def _overlapping() -> bytes:
    """Return a zip whose 32 entries share one packed member of 15 MiB."""
    names = [f"m{number}" for number in range(30)]
    data = bytearray(_zipped({"manifest.json": b"{}", "m": bytes(15 * _MIB), **dict.fromkeys(names, b"")}))
    shared = {name: at for at, name in _entries(bytes(data))}
    for name in names:
        data[shared[name] + 16 : shared[name] + 28] = data[shared["m"] + 16 : shared["m"] + 28]
        data[shared[name] + 42 : shared[name] + 46] = data[shared["m"] + 42 : shared["m"] + 46]
    return bytes(data)


def _many_fields() -> bytes:
    fields = ",".join(f'"\N{GRINNING FACE}{number:050}":0' for number in range(28_000))
    return json.dumps({**_manifest(), "config": {}}).replace('"config": {}', f'"config": {{{fields}}}').encode()


def _bundle(build: Callable[[], bytes]) -> Builder:
    return lambda: ("hostile.bmz", build())


_BUNDLES: dict[str, Builder] = {
    "benign": _bundle(lambda: _GOLDEN.read_bytes()),
    "manifest states 1000 bytes, unpacks to 128 MiB": _bundle(
        lambda: _stating(_with_manifest(b" " * (128 * _MIB)), "manifest.json", 1000)
    ),
    "manifest of 128 MiB": _bundle(lambda: _with_manifest(b" " * (128 * _MIB))),
    "manifest of 500,000 lists": _bundle(lambda: _with_manifest(b'{"config":[' + b"[]," * 500_000 + b"0]}")),
    "manifest of 28,000 fields, accepted": _bundle(lambda: _with_manifest(_many_fields())),
    "manifest nested 300,000 deep": _bundle(lambda: _with_manifest(b'{"config":' + b"[" * 300_000)),
    "manifest with a text of 2 MB": _bundle(lambda: _with_manifest(b'{"model":"' + b"x" * 2_000_000 + b'"}')),
    "graph of 10 MB, wrong hash": _bundle(lambda: _with_graph(_noise(LARGE), "0" * 64)),
    "graph of 10 MB that unpacks to 95 MB, wrong hash": _bundle(
        lambda: _with_graph(_packing(LARGE, 95_000_000), "0" * 64)
    ),
    "graph of 128 MiB of zeros": _bundle(lambda: _with_graph(bytes(128 * _MIB))),
    "30 members over one": _bundle(_overlapping),
    "bytes before the first member": _bundle(_bytes_before),
    "10 MB of end records": _bundle(lambda: b"PK\5\6" * (LARGE // 4)),
}


def _model(nodes: Sequence[onnx.NodeProto] = (), constants: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    """A model that gives constants of the right types and shapes, and runs `nodes` beside."""
    manifest = _manifest()
    height, width = manifest["input"]["height"], manifest["input"]["width"]
    rows, size = manifest["detections"], manifest["mask_size"]
    values = {
        "boxes": np.tile(np.array([1, 1, width - 2, height - 2], np.float32), (1, rows, 1)),
        "scores": np.linspace(0.9, 0.5, rows, dtype=np.float32)[None], "class_ids": np.zeros((1, rows), np.int32),
        "mask_logits": np.ones((1, rows, size, size), np.float32),
    }  # fmt: skip
    made = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(v)) for name, v in values.items()]
    outputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in values.items()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph([*nodes, *made], "g", [image], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _graph(*nodes: onnx.NodeProto, **constants: Any) -> bytes:
    return bytes(_model(nodes, constants).SerializeToString())


def _loop() -> bytes:
    """An operator that repeats its body 2^62 times."""
    boolean, number = TensorProto.BOOL, TensorProto.FLOAT
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Add", ["x", "x"], ["y"])], "b",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", boolean, []),
         helper.make_tensor_value_info("x", number, [1])],
        [helper.make_tensor_value_info("again", boolean, []), helper.make_tensor_value_info("y", number, [1])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["n", "true", "x0"], ["forever"], body=body)
    return _graph(loop, n=np.array(2**62), true=np.array(True), x0=np.ones(1, np.float32))


def _functions() -> bytes:
    """Functions of which each calls the last one ten times."""
    model = _model()
    for level in range(12):
        inner = helper.make_node(f"f{level - 1}" if level else "Relu", ["x"], ["y"], domain="f" if level else "")
        calls = [helper.make_node(inner.op_type, [f"x{i}"], [f"x{i + 1}"], domain=inner.domain) for i in range(10)]
        model.functions.append(
            helper.make_function("f", f"f{level}", ["x0"], ["x10"], calls, [helper.make_opsetid("", 17)])
        )
    return bytes(model.SerializeToString())


def _length(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _length(len(content)) + content


def _many_nodes() -> bytes:
    return _graph(*(helper.make_node("Relu", ["image"], [f"t{number}"]) for number in range(16_000)))


def _chain(operator: str, times: int, **attributes: Any) -> bytes:
    names = ["image", *(f"t{number}" for number in range(times))]
    inputs = 2 if operator in ("Concat", "Add") else 1
    pairs = itertools.pairwise(names)
    return _graph(*(helper.make_node(operator, [a] * inputs, [b], **attributes) for a, b in pairs))


def _node(operator: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, ["grown"], **attributes)


def _packed_numbers() -> bytes:
    """A tensor of ten million numbers that stand as one list."""
    tensor = _field(7, b"\1" * LARGE) + b"\x08" + _length(LARGE) + b"\x10\x07" + _field(8, b"w")
    model = _model()
    graph = model.graph.SerializeToString() + _field(5, tensor)
    return b"\x08\x08" + _field(8, b"\x10\x11") + _field(7, graph)


def _in_bundle(build: Callable[[], bytes]) -> Builder:
    return lambda: ("hostile.bmz", _with_graph(build(), method=zipfile.ZIP_STORED))


_ROW = np.ones((1, 2**14), np.float32)
_GRAPHS: dict[str, Builder] = {
    "benign": _in_bundle(_graph),
    "weights of 10 MB, accepted": _in_bundle(lambda: _graph(w=np.frombuffer(_noise(LARGE), np.uint8))),
    "5 million empty messages": _in_bundle(lambda: b"\x3a\x00" * (5 * _MIB)),
    "5 million empty nodes": _in_bundle(lambda: _field(7, b"\x0a\x00" * (5 * _MIB))),
    "5 million inputs of one node": _in_bundle(lambda: _field(7, _field(1, b"\x0a\x00" * (5 * _MIB)))),
    "16,000 nodes, accepted": _in_bundle(_many_nodes),
    "chain of 5,000 operators": _in_bundle(lambda: _chain("Relu", 5_000)),
    "list of 10 million numbers, accepted": _in_bundle(_packed_numbers),
    "name of 10 MB": _in_bundle(lambda: _graph(helper.make_node("Relu", ["x" * LARGE], ["y"]))),
    "operator of 10 MB": _in_bundle(lambda: _graph(helper.make_node("R" * LARGE, ["image"], ["y"]))),
    "endless loop": _in_bundle(_loop),
    "nested functions": _in_bundle(_functions),
    "ConstantOfShape of 2 billion": _in_bundle(lambda: _graph(_node("ConstantOfShape", "n"), n=[2 * 10**9])),
    "Expand to 2 billion": _in_bundle(lambda: _graph(_node("Expand", "x", "n"), x=np.float32(1), n=[2 * 10**9])),
    "Tile to 2 billion": _in_bundle(lambda: _graph(_node("Tile", "x", "n"), x=_ROW, n=[1, 2**17])),
    "Resize to 2 billion": _in_bundle(
        lambda: _graph(_node("Resize", "x", "", "n"), x=_ROW, n=np.array([1, 2**17], np.float32))
    ),
    "sum of a row and a column": _in_bundle(lambda: _graph(_node("Add", "x", "y"), x=_ROW, y=_ROW.T)),
    "60 doublings": _in_bundle(lambda: _chain("Concat", 60, axis=0)),
    "size from the image": _in_bundle(
        lambda: _graph(
            helper.make_node("Cast", ["image"], ["n"], to=TensorProto.INT64),
            helper.make_node("ReduceSum", ["n"], ["sum"], keepdims=0),
            helper.make_node("Reshape", ["sum", "one"], ["size"]),
            _node("Expand", "x", "size"),
            x=np.float32(1),
            one=[1],
        )
    ),
}


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, pixels: bytes = bytes(100)) -> bytes:
    head = _png_chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _png_chunk(b"IDAT", zlib.compress(pixels, 9)) + _png_chunk(b"IEND", b"")


@functools.cache
def _jpeg() -> bytes:
    import cv2

    return bytes(cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1])


def _jpeg_stating(width: int, height: int, before: bytes = b"") -> bytes:
    data = bytearray(_jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">2H", height, width)
    return bytes(data[:at]) + before + bytes(data[at:])


def _bmp(width: int, height: int, compression: int = 0) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, width, height, 1, 24, compression, 0, 0, 0, 0, 0)


def _tiff(width: int, height: int, compression: int = 1, **tags: int) -> bytes:
    values = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 8, 277: 1, 278: height, 279: 10}
    values.update({int(name[1:]): value for name, value in tags.items()})
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in sorted(values.items()))
    return b"II*\0" + struct.pack("<LH", 8, len(values)) + entries + bytes(4)


def _image(suffix: str, build: Callable[[], bytes]) -> Builder:
    return lambda: (f"hostile.{suffix}", build())


_SIDE = 16_000
_IMAGES: dict[str, Builder] = {
    "benign": _image("jpg", _jpeg),
    "JPEG of 65000 x 64000": _image("jpg", lambda: _jpeg_stating(65_000, 64_000)),
    "JPEG of 32767 x 32767 behind a fill byte": _image("jpg", lambda: _jpeg_stating(32_767, 32_767, b"\xff")),
    "JPEG of 16000 x 16000 in 640 bytes": _image("jpg", lambda: _jpeg_stating(_SIDE, _SIDE)),
    "GIF of 65535 x 65535 in 50 bytes": _image(
        "gif", lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(37)
    ),
    "PNG of 60000 x 60000": _image("png", lambda: _png(60_000, 60_000)),
    "PNG of 16000 x 16000 in 218 bytes": _image("png", lambda: _png(_SIDE, _SIDE)),
    "PNG chunk of 4 GB": _image("png", lambda: _png(5, 5)[:33] + struct.pack(">I", 0xFFFFFFFF) + b"IDAT"),
    "PNG of 800,000 empty chunks": _image("png", lambda: _png(5, 5)[:33] + _png_chunk(b"aaAa", b"") * 800_000),
    "WebP of 16384 x 16384 in 38 bytes": _image(
        "webp", lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a" + bytes(7) + b"\xff\x3f\x00\xff\x3f\x00" + bytes(8)
    ),
    "BMP of 60000 x 60000": _image("bmp", lambda: _bmp(60_000, -60_000)),
    "BMP of runs, 1000 x 60000": _image("bmp", lambda: _bmp(1_000, 60_000, compression=1)),
    "TIFF of 60000 x 60000": _image("tif", lambda: _tiff(60_000, 60_000)),
    "TIFF of 16000 x 16000, deflated": _image("tif", lambda: _tiff(_SIDE, _SIDE, compression=8)),
    "TIFF with tiles of 60000 x 60000": _image("tif", lambda: _tiff(9, 9, t322=60_000, t323=60_000)),
    "PNM of 16000 x 16000 in 22 bytes": _image("ppm", lambda: b"P6 16000 16000 255\n123"),
}


def _instances(annotation: Mapping[str, Any], **image: Any) -> bytes:
    entry = {"id": 1, "file_name": "a.jpg", "height": 32, "width": 32, **image}
    instance = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], **annotation}
    category = {"id": 1, "name": "cup"}
    return json.dumps({"images": [entry], "annotations": [instance], "categories": [category]}).encode()


def _polygon(text: bytes) -> bytes:
    return _instances({}).replace(b"[[1, 1, 9, 1, 9, 9]]", text)


def _polygons(count: int, segmentation: Sequence[Sequence[int]]) -> bytes:
    document = json.loads(_instances({"segmentation": segmentation}))
    document["annotations"] *= count
    return json.dumps(document, separators=(",", ":")).encode()


def _document(build: Callable[[], bytes]) -> Builder:
    return lambda: ("hostile.json", build())


_ANNOTATIONS: dict[str, Builder] = {
    "benign": _document(lambda: _instances({})),
    "10 MB of brackets": _document(lambda: b"[" * LARGE),
    "objects nested 100,000 deep": _document(lambda: b'{"a":' * 100_000),
    "number of 10 million digits": _document(lambda: _polygon(b"[[" + b"1" * LARGE + b",1,9,1,9,9]]")),
    "text of 10 MB as an id": _document(lambda: _instances({"image_id": "x" * LARGE})),
    "coordinates that are not finite": _document(lambda: _polygon(b"[[NaN,1,9,1,9,Infinity]]")),
    "coordinates of 1e300": _document(lambda: _polygon(b"[[1e300,1,9,1,9,9]]")),
    "polygon of 2 million points": _document(lambda: _polygon(b"[[" + b"1,9," * 1_999_999 + b"1,9]]")),
    "polygon of 250,000 points, accepted": _document(lambda: _polygon(b"[[" + b"1,9," * 249_999 + b"1,9]]")),
    "100 polygons of 20,000 points, accepted": _document(
        lambda: _polygons(100, [[1, 9] * 19_998 + [9, 9, 9, 1]]),
    ),
    "polygon of 8 MB in zigzag": _document(lambda: _polygon(b"[[" + b"0,0,31,31," * 799_999 + b"0,31,31,0]]")),
    "polygon of 1 MB in zigzag": _document(lambda: _polygon(b"[[" + b"0,0,31,31," * 99_999 + b"0,31,31,0]]")),
    "image of 2 billion pixels": _document(lambda: _instances({}, height=46_000, width=46_000)),
    "RLE of 2 billion pixels": _document(
        lambda: _instances({"segmentation": {"size": [46_000, 46_000], "counts": "0"}, "iscrowd": 1})
    ),
    "RLE whose counts do not fit": _document(
        lambda: _instances({"segmentation": {"size": [32, 32], "counts": [2**40] * 100}, "iscrowd": 1})
    ),
    "RLE text of 10 MB": _document(
        lambda: _instances({"segmentation": {"size": [32, 32], "counts": "o" * LARGE}, "iscrowd": 1})
    ),
}
