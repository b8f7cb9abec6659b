"""What is fuzzed: each reader of files from outside, and what must hold of whatever it takes.

A target takes any bytes. It returns whether the reader took them; it fails where the reader raises anything but its
own error, or takes a file that a second, independent parser reads as another.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import msgspec
import numpy as np

from blendmask_edge import AnnotationError, BaselineError, BundleError, ImageError, read_image
from blendmask_edge.benchmark.gate import Change
from blendmask_edge.benchmark.history import Run, decode_run
from blendmask_edge.benchmark.machine import Machine
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject
from blendmask_edge.bundle import MANIFEST_NAME, decode_manifest, encode_manifest
from blendmask_edge.bundle.archive import Archive
from blendmask_edge.bundle.graph_check import check_graph
from blendmask_edge.bundle.onnx_file import read_onnx_file
from blendmask_edge.comparison.prediction_file import read_predictions
from blendmask_edge.comparison.result import compare_predictions
from blendmask_edge.evaluation.annotations import read_coco
from blendmask_edge.imaging.headers import read_header

GOLDEN = Path(__file__).parents[1] / "golden"
CRASHES = Path(__file__).parent / "crashes"
"""One folder a target: what once broke it."""
LONGEST = {"manifest": 8192, "archive": 8192, "bundle": 12_000, "graph": 8192, "coco": 4096}
"""Bytes that are tried at most; 2048 where a target has no entry."""
_MOST_DECODED = 2**16
_FOLDER = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path(tempfile.gettempdir())
_FILE = _FOLDER / f"blendmask-fuzz-{os.getpid()}"
"""For readers that take a path; in memory where the system has such a folder."""


def manifest(data: bytes) -> bool:
    """A manifest that is taken is what Python's own parser reads, and is the same when it is written and read again."""
    try:
        result = decode_manifest(data)
    except BundleError:
        return False
    document = json.loads(data)
    assert (result.model, result.classes, result.detections) == tuple(
        document[name] for name in ("model", "classes", "detections")
    )
    assert decode_manifest(encode_manifest(result)) == result
    return True


def archive(data: bytes) -> bool:
    """A zip that is taken has the members that Python's own reader finds, with the same content."""
    try:
        ours = Archive(io.BytesIO(data))
        contents = {name: ours.read(name) for name in ours.members}
    except BundleError:
        return False
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        assert contents == {name: theirs.read(name) for name in theirs.namelist()}
        assert theirs.comment == b""
    return True


def bundle(data: bytes) -> bool:
    """Everything of a bundle, from the zip to the graphs."""
    try:
        members = Archive(io.BytesIO(data))
        result = decode_manifest(members.read(MANIFEST_NAME))
        for entry in result.graphs.values():
            check_graph(members.read(entry.file))
    except BundleError:
        return False
    return True


def graph(data: bytes) -> bool:
    """A graph that is taken has the nodes and tensors that protobuf reads."""
    try:
        check_graph(data)
    except BundleError:
        return False
    import onnx

    ours, theirs = read_onnx_file(data), onnx.load_from_string(data).graph
    assert [(node.operator, node.inputs, node.outputs) for node in ours.nodes] == [
        (node.op_type, tuple(node.input), tuple(node.output)) for node in theirs.node
    ]
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in ours.constants] == [
        (tensor.name, tensor.data_type, tuple(tensor.dims)) for tensor in theirs.initializer
    ]
    for place, mine in enumerate(ours.constants):
        other = theirs.initializer[place]
        np.testing.assert_array_equal(np.ravel(onnx.numpy_helper.to_array(other)), np.array(mine.values()))
    return True


def coco(data: bytes) -> bool:
    """Annotations that are taken give a mask for each instance."""
    _FILE.write_bytes(data)
    try:
        result = read_coco(_FILE)
    except AnnotationError:
        return False
    for annotation in result.dataset["annotations"]:
        entry = result.imgs[annotation["image_id"]]
        if entry["height"] * entry["width"] <= _MOST_DECODED:
            assert result.annToMask(annotation).shape == (entry["height"], entry["width"])
    return True


def predictions(data: bytes) -> bool:
    """Predictions that are taken do not differ from themselves, and each instance is counted once."""
    _FILE.write_bytes(data)
    try:
        found = read_predictions(_FILE, None)
        result = compare_predictions(found, found, 0.5, 0.9)
    except AnnotationError:
        return False
    detections = [one for image in found.images.values() for one in image.detections]
    assert result.instances == sum(one.score >= 0.5 for one in detections)
    assert not result.changes
    return True


def record(data: bytes) -> bool:
    """A record that is taken is the same when it is written and read again."""
    try:
        found = decode_run("file", data)
    except BaselineError:
        return False
    assert decode_run("file", msgspec.json.encode(found)) == found
    return True


def image_header(data: bytes) -> bool:
    """A header that is taken states an image that may be decoded."""
    try:
        header = read_header(io.BytesIO(data), "file")
    except ImageError:
        return False
    assert min(header.size) >= 1
    assert header.size[0] * header.size[1] <= 2**28
    assert 1 <= header.orientation <= 8
    return True


def image(data: bytes) -> bool:
    """An image that is taken has the size of its header."""
    try:
        header = read_header(io.BytesIO(data), "file")
        if header.size[0] * header.size[1] > _MOST_DECODED:
            return False
        _FILE.write_bytes(data)
        pixels = read_image(_FILE)
    except ImageError:
        return False
    assert pixels.shape == (*header.upright_size, 3)
    assert pixels.dtype == np.uint8
    return True


TARGETS: Dict[str, Callable[[bytes], bool]] = {
    target.__name__: target
    for target in (manifest, archive, bundle, graph, coco, predictions, record, image_header, image)
}


def seeds(target: str) -> List[bytes]:
    """Return sound files to start from, small enough to be changed thousands of times a second."""
    bundles = [path.read_bytes() for path in sorted(GOLDEN.glob("schema*.bmz"))]
    if target in ("bundle", "archive"):
        return bundles
    if target in ("manifest", "graph"):
        result = [_members(data) for data in bundles]
        suffix = ".json" if target == "manifest" else ".onnx"
        return sorted({content for members in result for name, content in members.items() if name.endswith(suffix)})
    made = {"coco": _coco_seeds, "predictions": _prediction_seeds, "record": _record_seeds}
    return made.get(target, _image_seeds)()


def _members(data: bytes) -> Dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def _coco_seeds() -> List[bytes]:
    polygon: Any = [[1, 1, 9, 1, 9.5, 7]]
    counts = {"size": [8, 12], "counts": [10, 5, 81]}
    packed = {"size": [8, 12], "counts": ":5a2"}
    documents = []
    for mask in (polygon, counts, packed):
        entry = {"id": 3, "file_name": "a.jpg", "height": 8, "width": 12}
        result = {"id": 1, "image_id": 3, "category_id": 2, "segmentation": mask, "iscrowd": int(mask is counts),
                 "bbox": [1, 1, 8, 6], "area": 20.5}  # fmt: skip
        documents.append({"images": [entry], "annotations": [result], "categories": [{"id": 2, "name": "cup"}]})
    return [json.dumps(document).encode() for document in documents]


def _prediction_seeds() -> List[bytes]:
    """Return what `blendmask predict` writes, with all forms of masks."""
    found = []
    for seed in _coco_seeds():
        document = json.loads(seed)
        document["annotations"][0]["score"] = 0.75
        found.append(json.dumps(document).encode())
    return found


def _record_seeds() -> List[bytes]:
    machine = Machine(cpu="cpu", architecture="x86_64", cores=2, flags=["avx2"], system="Linux", python="3.11.7")
    subject = Subject(model="TINY", variant="cpu", graph_sha256="0" * 64, runtime="onnxruntime", threads=1)
    data = Data(annotations="a.json", sha256="1" * 64, images=5)
    kept = Record(
        created="2026-01-01T00:00:00+00:00",
        setting=Setting(subject=subject, data=data, machine=machine),
        frames=100,
        metrics={"mask_ap": 0.5},
        latency_quantiles_ms=[1.5] * 21,
    )
    left = Change("mask_ap", 0.5, None, 0.495, 0.51)
    return [msgspec.json.encode(Run(record=kept)), msgspec.json.encode(Run(label="a", record=kept, changes=[left]))]


def _image_seeds() -> List[bytes]:
    from PIL import Image

    pixels = Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3))
    turned = Image.Exif()
    turned[0x112] = 6
    result = []
    formats: List[Tuple[str, Dict[str, Any]]] = [
        ("JPEG", {"exif": turned}),
        ("JPEG", {"progressive": True}),
        ("PNG", {"exif": turned}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"exif": turned}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {}),
        ("PPM", {}),
    ]
    for name, options in formats:
        stream = io.BytesIO()
        pixels.save(stream, name, **options)
        result.append(stream.getvalue())
    return [*result, b"P2 # gray\n2 2 255\n0 1 2 3\n"]
