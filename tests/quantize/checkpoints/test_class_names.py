"""Classes that a checkpoint does not name: named by a file, by the caller, or by the annotations of a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from blendmask_edge.errors import AnnotationError, ConfigError
from blendmask_edge.labels import Labels
from blendmask_quantize import evaluate, load_checkpoint, prune, quantize
from blendmask_quantize.checkpoints.class_names import annotated_labels, read_classes
from blendmask_quantize.model.labels import default_labels
from blendmask_quantize.pipeline import run as pipeline
from blendmask_quantize.pruning import job as pruning
from blendmask_quantize.training.labeled_images import read_labeled_images
from tests.quantize.images import describe, some_images, write_annotations
from tests.quantize.tiny import LABELS, TINY, tiny_model

UNUSED = {"id": 77, "name": "never shown"}
COCO = default_labels(80)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkpoint of AdelaiDet's kind: weights alone."""
    path = tmp_path / "model_final.pth"
    torch.save({"model": tiny_model().state_dict()}, path)
    return path


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """The annotations of the scenes with other categories."""

    def write(*categories: dict[str, Any], only: int | None = None) -> Path:
        document = describe(some_images(3))
        document["categories"] += categories
        if only is not None:
            document["annotations"] = [dict(entry, category_id=only) for entry in document["annotations"]]
        path = tmp_path / "other.json"
        path.write_text(json.dumps(document))
        return path

    return write


class Reached(Exception):
    """The long part began."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `quantize` and `prune` hand to the long part, which does not begin."""
    seen: list[Any] = []

    def stop(*given: Any, **_: Any) -> None:
        seen.extend(given)
        raise Reached

    monkeypatch.setattr(pipeline, "run", stop)
    monkeypatch.setattr(pruning, "prune", stop)
    return seen


# Where nobody names them


def test_a_checkpoint_says_whether_its_classes_are_named(bare: Path, checkpoint_path: Path) -> None:
    assert not load_checkpoint(bare, TINY).named
    assert load_checkpoint(bare, TINY, classes="a,b,c").named
    assert load_checkpoint(checkpoint_path).named


def test_evaluate_takes_names_and_ids_from_the_annotations(bare: Path, scenes: Path) -> None:
    metrics = evaluate(bare, scenes, scenes / "annotations.json", config=TINY)
    assert {"mask_ap/cup", "mask_ap/plate", "mask_ap/fork"} & set(metrics)
    with pytest.raises(AnnotationError, match="category 2 is 'cup' in the annotations"):
        evaluate(bare, scenes, scenes / "annotations.json", config=TINY, classes="a,b,c")


def test_quantize_takes_them_from_the_evaluation(
    bare: Path, photographs: Path, scenes: Path, tmp_path: Path, begun: list[Any]
) -> None:
    with pytest.raises(Reached):
        quantize(
            bare, photographs, tmp_path / "m.bmz", config=TINY, size=(64, 96),
            evaluation=(scenes, scenes / "annotations.json"),
        )  # fmt: skip
    assert begun[1].checkpoint.labels == LABELS


def test_prune_takes_them_from_the_training(bare: Path, scenes: Path, tmp_path: Path, begun: list[Any]) -> None:
    with pytest.raises(Reached):
        prune(bare, scenes, scenes / "annotations.json", tmp_path / "p.safetensors", config=TINY)
    checkpoint, sources, *_ = begun
    assert checkpoint.labels == sources[0].labels == LABELS


def test_categories_that_nothing_shows_do_not_matter(
    bare: Path, checkpoint_path: Path, scenes: Path, tmp_path: Path, changed: Callable[..., Path], begun: list[Any]
) -> None:
    annotations = changed(UNUSED)
    for path in (bare, checkpoint_path):
        begun.clear()
        with pytest.raises(Reached):
            prune(path, scenes, annotations, tmp_path / "p.safetensors", config=TINY)
        checkpoint, sources, *_ = begun
        assert checkpoint.labels == sources[0].labels == LABELS
    assert read_labeled_images(scenes, annotations, LABELS).labels == LABELS
    more = Labels(("cup", "plate", "fork", "spoon"), (2, 5, 9, 11))
    with pytest.raises(AnnotationError, match=r"4 categories, and 1 of the network's 4 classes are not .*\(spoon\)"):
        read_labeled_images(scenes, annotations, more)
    with pytest.raises(AnnotationError, match=r"other\.json: category 9 is 'fork'"):
        read_labeled_images(scenes, annotations, Labels(("cup", "plate", "spoon"), (2, 5, 9)))


def test_a_number_that_does_not_match_is_one_message_with_both(
    bare: Path, scenes: Path, changed: Callable[..., Path]
) -> None:
    with pytest.raises(AnnotationError, match=r"5 categories, 1 of them .* network has 3 classes.*--classes"):
        evaluate(bare, scenes, changed(UNUSED, {"id": 78, "name": "x"}, only=2), config=TINY)


def test_categories_are_those_of_the_file_or_those_that_it_shows_or_cocos(tmp_path: Path) -> None:
    document = describe(some_images(3))
    path = write_annotations(tmp_path, document)
    assert annotated_labels(path, 3) == LABELS
    document["categories"].append(UNUSED)
    path = write_annotations(tmp_path, document)
    assert annotated_labels(path, 3) == LABELS, "those that have annotations"
    assert annotated_labels(path, 4).names[-1] == "never shown", "all of them"
    document["categories"] = [{"id": i, "name": COCO.names[COCO.category_ids.index(i)]} for i in (2, 5, 9)]
    assert annotated_labels(write_annotations(tmp_path, document), 80) == COCO


def test_annotations_that_are_none_are_told_by_the_one_check(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for content in ("{", "[" * 100_000, '{"categories": [{"id": 1}], "annotations": []}', "\xff"):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(AnnotationError, match=r"a\.json"):
            annotated_labels(path, 3)


# Where a file or the caller names them


def test_names_are_read_from_text_json_and_annotations(tmp_path: Path) -> None:
    text, names, coco = (tmp_path / name for name in ("classes.txt", "names.json", "coco.json"))
    text.write_text("\ufeffcup\nplate\n\n fork \n", encoding="utf-8")
    names.write_text('["cup", "plate", "fork"]', encoding="utf-8")
    coco.write_text(json.dumps({"categories": describe([])["categories"]}), encoding="utf-8-sig")
    numbered = Labels(("cup", "plate", "fork"), (1, 2, 3))
    assert [read_classes(path) for path in (text, names, str(coco), "cup,plate,fork", ["cup", "plate", "fork"])] == [
        numbered, numbered, LABELS, numbered, numbered,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "id 1 is used twice"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}', "names 'a' twice"),
        ('{"categories": [{"id": 99999999999999999999, "name": "a"}]}', "cannot be read as names"),
        ('{"categories": [{"id": "1", "name": "a"}]}', "cannot be read as names"),
        ('{"categories": []}', "names no class"),
        ("[" * 100_000, "cannot be read as names"),
        ("{", "cannot be read as names"),
    ],
)
def test_files_that_name_nothing_are_one_message(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(AnnotationError, match=message):
        read_classes(tmp_path / "a.json")


@pytest.mark.parametrize("source", [3, ["cup", 3], b"cup", object()])
def test_what_names_no_class_is_refused(source: Any) -> None:
    with pytest.raises(AnnotationError, match="classes is"):
        read_classes(source)


def test_a_folder_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="not a file"):
        read_classes(str(tmp_path))
    assert read_classes("cup/mug").names == ("cup/mug",)


def test_text_that_is_no_list_of_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 5000)
    with pytest.raises(AnnotationError, match="5000 characters"):
        read_classes(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_classes(tmp_path / "a.txt")


@pytest.mark.parametrize("path", [Path("/dev/zero"), Path("n" * 300)])
def test_a_device_and_a_name_that_is_too_long_are_refused(path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"not a file|too long"):
        read_classes(path)
    with pytest.raises(AnnotationError, match=r"not a file|too long"):
        annotated_labels(path, 3)


def test_classes_of_a_loaded_checkpoint_are_given_when_it_is_loaded(bare: Path, scenes: Path) -> None:
    with pytest.raises(ConfigError, match="give the classes to load_checkpoint"):
        evaluate(load_checkpoint(bare, TINY), scenes, scenes / "annotations.json", classes="a,b,c")
