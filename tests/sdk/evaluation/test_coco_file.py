"""COCO files are read as pycocotools reads them, or refused in one sentence that names file, entry and field."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation import coco_file
from blendmask_edge.evaluation.annotations import read_coco
from blendmask_edge.evaluation.average_precision import match, score

Document = Dict[str, Any]
HEIGHT, WIDTH = 30, 40


def rle(mask: np.ndarray) -> Dict[str, Any]:
    """Return compressed run lengths of a mask."""
    encoded = rle_codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def noise(seed: int, share: float = 0.5) -> np.ndarray:
    """Return a mask whose run lengths are many, with differences of either sign."""
    return np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share


def sound() -> Document:
    """Return two images, holes between category ids, and an annotation of each form."""
    counts = [100, 50, 20, 30, HEIGHT * WIDTH - 200]
    forms: List[Any] = [
        [[2.0, 3.0, 20.5, 3.0, 20.5, 18.0]],
        [[1, 1, 9, 1, 9, 9, 1, 9], [15, 5, 25, 5, 25, 15]],
        rle(noise(0)),
        {"size": [HEIGHT, WIDTH], "counts": counts},
        rle(noise(1, 0.02)),
    ]
    annotations = [
        {
            "id": number, "image_id": 3 + number % 2, "category_id": 2 + 5 * (number % 2), "segmentation": form,
            "bbox": [1.0, 1.0, 25.0, 20.0], "area": 200.0, "iscrowd": int(number == 4), "note": {"by": ["x", None]},
        }
        for number, form in enumerate(forms)
    ]  # fmt: skip
    names = ["a.jpg", "./b/c.jpg", "negative.jpg"]
    images = [
        {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH} for number, name in enumerate(names, 3)
    ]
    categories = [{"id": 7, "name": "cup"}, {"id": 2, "name": "fork"}, {"id": 90, "name": "never shown"}]
    return {"info": {"year": 2026}, "images": images, "annotations": annotations, "categories": categories}


def written(folder: Path, document: Any) -> Path:
    """Write a document as JSON."""
    path = folder / "some.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def by_pycocotools(document: Document) -> COCO:
    """Index a document as pycocotools does."""
    coco = COCO()
    coco.dataset = copy.deepcopy(document)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def masks(coco: COCO) -> List[bytes]:
    """Return the decoded masks in the order of the file."""
    return [coco.annToMask(annotation).tobytes() for annotation in coco.dataset["annotations"]]


def test_sound_file_is_read_as_pycocotools_reads_it(tmp_path: Path) -> None:
    result, expected = read_coco(written(tmp_path, sound())), by_pycocotools(sound())
    assert masks(result) == masks(expected)
    assert [image["file_name"] for image in result.imgs.values()] == ["a.jpg", "b/c.jpg", "negative.jpg"]
    assert list(result.cats) == list(expected.cats)
    for field in ("image_id", "category_id", "bbox", "area", "iscrowd"):
        assert [a[field] for a in result.anns.values()] == [a[field] for a in expected.anns.values()]


def test_average_precision_agrees_with_pycocotools_to_the_last_digit(tmp_path: Path) -> None:
    document = sound()
    for number, annotation in enumerate(document["annotations"], start=1):
        annotation["id"] = number
    results = [
        {"image_id": 3 + i % 2, "category_id": 2 + 5 * (i % 2), "score": 0.9 - i / 10, "segmentation": rle(noise(i))}
        for i in range(4)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = by_pycocotools(document)
        expected = COCOeval(reference, reference.loadRes(copy.deepcopy(results)), "segm")
        expected.evaluate()
        expected.accumulate()
        result = match(read_coco(written(tmp_path, document)), results, [3, 4, 5], "mask")
        result.accumulate()
    np.testing.assert_array_equal(result.eval["precision"], expected.eval["precision"])


def test_masks_of_many_numbers_are_those_that_pycocotools_reads(tmp_path: Path) -> None:
    angles = np.linspace(0, 2 * np.pi, 3000)
    circle = (np.stack([np.cos(angles), np.sin(angles)], axis=1) * 11 + 14).ravel().tolist()
    pixels = np.random.default_rng(0).random((120, 200)) < 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels.T.ravel(), [0]])))
    counts = np.diff(edges, prepend=0, append=pixels.size).tolist()
    document = sound()
    document["images"][0].update(height=120, width=200)
    forms: List[Any] = [[circle], [circle, [1, 1, 9, 1, 9, 9]], {"size": [120, 200], "counts": counts}]
    document["annotations"] = [{**document["annotations"][0], "id": n, "segmentation": f} for n, f in enumerate(forms)]
    result = read_coco(written(tmp_path, document))
    assert masks(result) == masks(by_pycocotools(document))
    assert all(isinstance(entry["segmentation"]["counts"], str) for entry in result.dataset["annotations"])


@pytest.mark.slow
def test_memory_for_long_polygons_is_bounded(tmp_path: Path) -> None:
    document = sound()
    polygon = [[1, 1] * 99_997 + [9, 1, 9, 9, 1, 9]]
    document["annotations"] = [{**document["annotations"][0], "id": n, "segmentation": polygon} for n in range(6)]
    path = written(tmp_path, json.dumps(document, separators=(",", ":")))
    tracemalloc.start()
    try:
        assert len(read_coco(path).anns) == 6
        assert tracemalloc.get_traced_memory()[1] < 70e6  # 105 MB if all are decoded at once
    finally:
        tracemalloc.stop()


def test_million_points_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    document = sound()
    document["annotations"][1]["segmentation"] = [[1, 1] * 10**6 + [9, 1, 9, 9]]
    path = written(tmp_path, json.dumps(document, separators=(",", ":")))
    tracemalloc.start()
    try:
        with pytest.raises(AnnotationError, match=r"annotation 1 \(index 1\): holds 2\d{6} values, expected at most"):
            read_coco(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "start, said",
    [
        ('{"images": NaN, "info": [', r"it is not plain JSON \(JSON is malformed"),
        ('{"info": [', "it lacks the list images"),
        ('{"images": [], "annotations": [], "categories": [], "info": [', "it holds an empty list, or a key twice"),
    ],
)
def test_large_file_that_is_no_coco_file_is_refused_unparsed(start: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(start.encode() + b"[]," * 12_000_000 + b"[]]}")
    tracemalloc.start()
    try:
        with pytest.raises(AnnotationError, match=said):
            read_coco(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * path.stat().st_size
    finally:
        tracemalloc.stop()


def test_annotation_of_too_much_text_is_refused(tmp_path: Path) -> None:
    document = sound()
    document["annotations"][1]["segmentation"] = [[1, 1] * 2**20 + [9, 1, 9, 9]]
    path = written(tmp_path, json.dumps(document, separators=(",", ":")))
    with pytest.raises(AnnotationError, match=r"annotation 1 \(index 1\): takes 41\d{5} bytes, expected at"):
        read_coco(path)


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4], [7, 7, 7, 7, 7], [-1, 0, 2**62, 5, 5], [None] * 5])
def test_ids_of_annotations_do_not_matter(tmp_path: Path, ids: List[Any]) -> None:
    """pycocotools takes id 0 for unmatched, and the last of equal ids for all of them."""
    document = sound()
    for annotation, number in zip(document["annotations"], ids):
        annotation["id"] = number
        if number is None:
            del annotation["id"]
    coco = read_coco(written(tmp_path, document))
    assert list(coco.anns) == [1, 2, 3, 4, 5]
    results = [
        {**{name: a[name] for name in ("image_id", "category_id", "bbox")}, "score": 0.9, "segmentation": rle(mask)}
        for a, mask in ((a, coco.annToMask(a)) for a in coco.anns.values() if not a["iscrowd"])
    ]
    assert score(coco, results, [3, 4, 5])["mask_ap"] == pytest.approx(1)


def test_what_follows_from_the_other_fields_may_be_missing(tmp_path: Path) -> None:
    document = sound()
    for field in ("iscrowd", "bbox", "area"):
        del document["annotations"][1][field]
    annotation = read_coco(written(tmp_path, document)).anns[2]
    mask = by_pycocotools(sound()).annToMask(sound()["annotations"][1])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert annotation["iscrowd"] == 0
    assert annotation["area"] == mask.sum()
    assert annotation["bbox"] == [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]


def test_boxes_and_areas_of_zero_are_those_of_the_mask(tmp_path: Path) -> None:
    document, missing = sound(), sound()
    for annotation, other in zip(document["annotations"], missing["annotations"]):
        annotation["bbox"], annotation["area"] = [5.0, 5.0, 0.0, 0.0], 0
        del other["bbox"], other["area"]
    assert read_coco(written(tmp_path, document)).anns == read_coco(written(tmp_path, missing)).anns


@pytest.mark.parametrize(
    ("box", "form"),
    [
        ([15, 10, 35, 25], "corners"),
        ([15 / WIDTH, 10 / HEIGHT, 20 / WIDTH, 15 / HEIGHT], "shares of the image"),
        ([15 / WIDTH, 10 / HEIGHT, 35 / WIDTH, 25 / HEIGHT], "corners as shares of the image"),
        ([10, 15, 25, 35], "corners, rows first"),
        ([10, 15, 15, 20], "rows first"),
        ([25, 17.5, 20, 15], "the center, width and height"),
        ([25 / WIDTH, 17.5 / HEIGHT, 20 / WIDTH, 15 / HEIGHT], "the center, width and height as shares of the image"),
        ([10 / HEIGHT, 15 / WIDTH, 25 / HEIGHT, 35 / WIDTH], "corners as shares of the image, rows first"),
    ],
)
@pytest.mark.parametrize("kind", ["polygon", "run lengths"])
def test_box_of_another_form_is_refused(tmp_path: Path, box: List[float], form: str, kind: str) -> None:
    document = sound()
    mask = np.zeros((HEIGHT, WIDTH))
    mask[10:25, 15:35] = 1
    shape = [[15, 10, 35, 10, 35, 25, 15, 25]] if kind == "polygon" else rle(mask)
    document["annotations"][1].update(segmentation=shape, bbox=[15, 10, 20, 15])
    read_coco(written(tmp_path, document))
    document["annotations"][1]["bbox"] = box
    with pytest.raises(AnnotationError, match=rf"some\.json: .*index 1\): `bbox` is .* which are {form}, expected"):
        read_coco(written(tmp_path, document))


@pytest.mark.parametrize("kind", ["polygon", "run lengths"])
@pytest.mark.parametrize(("box", "form"), [([4, 3, 12, 9], "corners"), ([8, 6, 8, 6], "the center, width and height")])
def test_box_of_another_form_is_refused_where_it_lies_within_the_image(
    tmp_path: Path, box: List[float], form: str, kind: str
) -> None:
    document = sound()
    mask = np.zeros((HEIGHT, WIDTH))
    mask[3:9, 4:12] = 1
    shape = [[4, 3, 12, 3, 12, 9, 4, 9]] if kind == "polygon" else rle(mask)
    document["annotations"][1].update(segmentation=shape, bbox=box)
    with pytest.raises(AnnotationError, match=rf"index 1\): `bbox` is .* which are {form}, expected"):
        read_coco(written(tmp_path, document))


def test_box_that_leaves_the_image_without_being_of_another_form_is_taken(tmp_path: Path) -> None:
    document = sound()
    document["annotations"][1]["bbox"] = [30.0, 20.0, 15.0, 20.0]
    assert read_coco(written(tmp_path, document)).anns[2]["bbox"] == [30.0, 20.0, 15.0, 20.0]


Spoil = Callable[[Document], Any]


def put(key: str, field: str, value: Any) -> Spoil:
    """Return what sets a field of the second entry."""
    return lambda document: document[key][1].update({field: value})


def drop(key: str, field: str) -> Spoil:
    """Return what leaves a field of the second entry out."""
    return lambda document: document[key][1].pop(field)


SEGMENTATIONS = {
    "empty": ([], "is empty"),
    "flat": ([10.0, 10.0, 40.0, 10.0, 40.0, 40.0], "flat list"),
    "four numbers, which pycocotools takes for a box": ([[10.0, 10.0, 20.0, 20.0]], "polygon of 4 numbers"),
    "one point": ([[12.0, 12.0]], "polygon of 2 numbers"),
    "odd": ([[1, 1, 9, 1, 9, 9, 1]], "polygon of 7 numbers"),
    "empty polygon": ([[]], "polygon of 0 numbers"),
    "missing": (None, "`segmentation`"),
    "text": ("polygon", "`segmentation`"),
    "zigzag": ([[0, 0, 40, 30] * 14_000], "an outline of 1120000 pixels, expected at most 1048576"),
    "text in a polygon": ([["1", "1", "9", "1", "9", "9"]], "`segmentation`"),
    "not a number": ([[10, 10, float("nan"), 10, 20, 20]], "point"),
    "infinite": ([[10, 10, float("inf"), 10, 20, 20]], "point"),
    "far away": ([[-1e2, -2e2, 2e8, 3e8, 2e2, 2e2]], r"point \(-100, -200\)"),
    "swapped size": (rle(np.zeros((WIDTH, HEIGHT))), r"\[40, 30\], expected .* \[30, 40\]: height and width are sw"),
    "another size": (rle(np.zeros((5, 6))), r"\[5, 6\]"),
    "too long": ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH, 1]}, "do not add up"),
    "too short": ({"size": [HEIGHT, WIDTH], "counts": [7]}, "do not add up"),
    "negative": ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 1, -1]}, "do not add up"),
    "cut": ({"size": [HEIGHT, WIDTH], "counts": rle(noise(0))["counts"][:-1]}, "do not add up"),
    "no characters": ({"size": [HEIGHT, WIDTH], "counts": ""}, "no run lengths"),
    "other characters": ({"size": [HEIGHT, WIDTH], "counts": "\u00fc\ud800 \0"}, "do not add up"),
    "endless number": ({"size": [HEIGHT, WIDTH], "counts": "o" * 40}, "do not add up"),
    "without size": ({"counts": "0"}, "`size`"),
}


@pytest.mark.parametrize("form", SEGMENTATIONS)
def test_mask_that_cannot_be_decoded_is_refused(tmp_path: Path, form: str) -> None:
    value, reason = SEGMENTATIONS[form]
    document = sound()
    document["annotations"][1]["segmentation"] = value
    with pytest.raises(AnnotationError, match=rf"some\.json: annotation 1 \(index 1\): .*{reason}"):
        read_coco(written(tmp_path, document))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (drop("images", "id"), r"image None \(index 1\).*`id`"),
        (drop("images", "file_name"), r"image 4 \(index 1\).*`file_name`"),
        (drop("images", "width"), r"image 4 \(index 1\).*`width`"),
        (drop("images", "height"), r"image 4 \(index 1\).*`height`"),
        (drop("annotations", "image_id"), r"annotation 1 \(index 1\).*`image_id`"),
        (drop("annotations", "category_id"), "`category_id`"),
        (drop("annotations", "segmentation"), "`segmentation`"),
        (drop("categories", "name"), r"category 2 \(index 1\).*`name`"),
        (put("images", "id", 3), "`id` is used twice"),
        (put("images", "id", "4"), "`id`.*found '4'"),
        (put("images", "id", 10**400), "image .*`id`"),
        (put("images", "width", 0), "`width` is 0"),
        (put("images", "width", 10**9), "`width` is 1000000000"),
        (put("images", "height", "30"), "`height`.*found '30'"),
        (put("images", "file_name", "/etc/passwd"), "inside the folder"),
        (put("images", "file_name", "a/../../b.jpg"), "inside the folder"),
        (put("images", "file_name", ""), "inside the folder"),
        (put("images", "file_name", "a\0.jpg"), "inside the folder"),
        (put("images", "file_name", "caf\udce9.jpg"), "not UTF-8"),
        (put("images", "file_name", 7), "`file_name`"),
        (put("annotations", "image_id", 999), "`image_id` is 999"),
        (put("annotations", "category_id", 999), "`category_id` is 999"),
        (put("annotations", "id", "one"), "annotation 'one'.*`id`"),
        (put("annotations", "iscrowd", 2), "`iscrowd` is 2"),
        (put("annotations", "iscrowd", "no"), "`iscrowd`"),
        (put("annotations", "bbox", [1, 2, 3]), "`bbox`"),
        (put("annotations", "bbox", [1, 2, -3, 4]), "`bbox`"),
        (put("annotations", "bbox", [1, 2, float("nan"), 4]), "`bbox`"),
        (put("annotations", "bbox", [1, 2, 3e9, 4]), "`bbox`"),
        (put("annotations", "bbox", [10**400, 2, 3, 4]), "annotation 1"),
        (put("annotations", "area", -1), "`area`"),
        (put("annotations", "area", float("inf")), "`area`"),
        (put("annotations", "area", "big"), "`area`.*found 'big'"),
        (put("categories", "id", 7), "`id` is used twice"),
        (put("categories", "id", 2**70), "`id`"),
        (put("categories", "name", "cup"), "`name` 'cup' is used twice"),
        *(
            (put("categories", "name", name), "1 to 256 printable")
            for name in ("", " ", "a\nb", "a\0", "\ud800", "x" * 257)
        ),
        (put("images", "file_name", "./a.jpg"), r"`file_name` is './a.jpg', which is used twice"),
        (put("images", "file_name", "x/" * 9000), "at most 4096 characters"),
        (lambda document: document.update(categories=[]), "no categories"),
        (lambda document: document.update(annotations=[]), "no annotations"),
        (lambda document: document.update(images=[]), "no images"),
        (lambda document: document.update(images={}), "lacks the list images"),
        (lambda document: document["images"].append(7), r"image None \(index 3\)"),
    ],
)
def test_field_of_another_type_or_range_is_refused(tmp_path: Path, spoil: Spoil, reason: str) -> None:
    document = sound()
    spoil(document)
    with pytest.raises(AnnotationError, match=rf"some\.json: .*{reason}") as caught:
        read_coco(written(tmp_path, document))
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "lacks the lists images, annotations, categories"),
        ("3", "lacks"),
        ('{"images": []}', "lacks the lists annotations, categories"),
        ("[" * 200_000, "too deeply"),
        ('{"images": ' + "[" * 100_000, "too deeply"),
        ('{"images": ' + "9" * 10_000 + "}", "JSON|lacks"),
        ('{"images": [], "images": [{"id": 1}]}', "'images' twice"),
        ('{"images": [{"id": 5, "width": 3, "width": 4}]}', "object with id 5 holds the key 'width' twice"),
    ],
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(AnnotationError, match=rf"some\.json: .*({reason})"):
        read_coco(written(tmp_path, text))


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(b'{"images": "\xff"}')
    os.mkfifo(str(tmp_path / "pipe"))
    for given_path, reason in [
        (path, "not UTF-8"),
        (tmp_path, "not a file"),
        (tmp_path / "pipe", "not a file"),
        ("no\0name", "cannot be read"),
        (tmp_path / "none.json", "cannot be read"),
    ]:
        with pytest.raises(AnnotationError, match=reason):
            read_coco(given_path)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([2**31, 2**63, -(2**63), 10**30]),
    st.floats(), st.text(max_size=4), st.lists(st.integers(-2, 50), max_size=8),
    st.lists(st.lists(st.floats(-100, 100), max_size=8), max_size=2), st.builds(dict),
    st.builds(lambda: {"size": [HEIGHT, WIDTH]}),  # a new one each time: later places may lie inside it
    st.text(st.characters(min_codepoint=40, max_codepoint=115), max_size=12),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> Document:
    """Return the sound document with one to three places dropped or replaced."""
    document = sound()
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = document
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(holder[key], (dict, list)) and draw(st.integers(0, 4)):
                holder = holder[key]
                continue
            if draw(st.booleans()):
                holder[key] = draw(VALUES)
            else:
                del holder[key]
            break
    return document


@given(document=mutated())
def test_mutated_file_is_refused_or_read_as_it_stands(
    tmp_path_factory: pytest.TempPathFactory, document: Document
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.json"
    path.write_text(json.dumps(document))
    try:
        result = read_coco(path)
    except AnnotationError:
        return
    sized = [{**annotation, "id": number} for number, annotation in enumerate(document["annotations"], start=1)]
    assert masks(result) == masks(by_pycocotools({**document, "annotations": sized}))
    assert all(a["image_id"] in result.imgs and a["category_id"] in result.cats for a in result.anns.values())


@given(text=st.text(st.characters(min_codepoint=46, max_codepoint=112), min_size=1, max_size=12))
def test_run_lengths_are_refused_or_fill_the_image(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    document = sound()
    document["annotations"][2]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": text}
    path = tmp_path_factory.getbasetemp() / "runs.json"
    path.write_text(json.dumps(document))
    with contextlib.suppress(AnnotationError):
        coco = read_coco(path)
        assert coco.annToMask(coco.anns[3]).shape == (HEIGHT, WIDTH)


class TestTwoReaders:
    """Large files are read by a quick reader, which leaves what it does not like to the thorough one."""

    @staticmethod
    def both(path: Path, monkeypatch: pytest.MonkeyPatch) -> List[Any]:
        """Return what each makes of a file: the document, or the message."""
        result: List[Any] = []
        for quick in (True, False):
            with monkeypatch.context() as patched:
                patched.setattr(coco_file, "_CHUNK", 2)
                if not quick:
                    patched.setattr(coco_file, "split", lambda _: None)
                try:
                    result.append(coco_file.read_document(path))
                except AnnotationError as error:
                    result.append(str(error))
        return result

    @pytest.mark.parametrize(
        "change",
        [
            dict.copy,
            lambda d: d["annotations"][3].update(note='a "quoted" text'),
            lambda d: d["annotations"][3].update(attributes={"id": 3, "area": {"id": "x"}}),
            lambda d: d["annotations"][3].update(score=float("nan")),
            lambda d: d["annotations"][4].pop("bbox"),
            lambda d: d["annotations"][4].update(bbox=None, area=0),
            lambda d: d["categories"][0].update(name="tasse \u00e9"),
            lambda d: d["categories"][0].update(name='"id"'),
            lambda d: d.update(licenses=[{"id": 1, "name": "CC0"}]),
        ],
    )
    def test_they_agree_on_sound_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Document], Any]
    ) -> None:
        document = sound()
        change(document)
        quick, thorough = self.both(written(tmp_path, document), monkeypatch)
        assert isinstance(quick, dict)
        assert quick == thorough

    @pytest.mark.parametrize(
        "old, new",
        [
            ('"image_id": 4', '"image_id": 4, "image_id": 3'),
            ('"area": 200.0', '"area": 200.0, "\\u0061rea": 3'),
            ('"counts": [', '"counts": [5], "counts": ['),
            ('"by": ["x"', '"by": 3, "by": ["x"'),
            ('"name": "cup"', '"name": "cup", "name": "mug"'),
            ('"info": {', '"annotations": [], "info": {'),
            ('"segmentation": [[2.0', '"segmentation": [[Infinity'),
            ('"category_id": 7', '"category_id": 8'),
            ('"iscrowd": 1', '"iscrowd": 2'),
            ('"iscrowd": 1', '"iscrowd": "no"'),
            ("}]}", "}]"),
        ],
    )
    def test_they_refuse_the_same_with_the_same_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
    ) -> None:
        text = json.dumps(sound())
        assert old in text
        quick, thorough = self.both(written(tmp_path, text.replace(old, new, 1)), monkeypatch)
        assert isinstance(quick, str)
        assert quick == thorough

    def test_an_opened_file_yields_as_it_reads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coco_file, "_CHUNK", 2)
        document = sound()
        document["annotations"][3]["category_id"] = 8
        opened = coco_file.open_document(written(tmp_path, document))
        assert [image["id"] for image in opened.images] == [3, 4, 5]
        assert [next(opened.annotations)["id"] for _ in range(2)] == [1, 2]
        with pytest.raises(AnnotationError, match=r"annotation 3 \(index 3\): `category_id` is 8"):
            list(opened.annotations)
