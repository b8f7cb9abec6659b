"""COCO results of annotated images are the same in one process and in several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, List

import pytest

from blendmask_edge import AnnotationError, ImageError, MaskPredictor, WorkerError
from blendmask_edge.batch.annotated import AnnotatedWork, predict_annotated
from blendmask_edge.batch.files import FilesWork
from blendmask_edge.batch.source import BundleSource, OpenedSource
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.execution.processes import ProcessExecutor
from blendmask_edge.execution.serial import SerialExecutor
from tests.sdk.scenes import IMAGES, Scenes

pytest.importorskip("onnxruntime")


def open_images(scenes: Scenes) -> AnnotatedImages:
    return AnnotatedImages.open(scenes.folder, scenes.annotations)


def open_source(bundle: Path, **options: Any) -> BundleSource:
    with MaskPredictor(bundle, "onnxruntime", 1, 0.0, **options) as predictor:
        return BundleSource.of(predictor, 1)


@pytest.mark.slow
def test_several_processes_agree_with_one_to_the_last_digit(bundle_path: Path, scenes: Scenes) -> None:
    images, counted = open_images(scenes), [0]
    with MaskPredictor(bundle_path, "onnxruntime", 1, score_threshold=0.0) as predictor:
        expected = [result for image_id in images.ids for result in predictor(images.read(image_id)).to_coco(image_id)]
        here = predict_annotated(OpenedSource(predictor, "one"), images, SerialExecutor())
    source = open_source(bundle_path)
    several = predict_annotated(source, images, ProcessExecutor(2), lambda: counted.append(1))
    assert expected == here == several
    assert sum(counted) == len(images.ids) == IMAGES
    assert len({result["score"] for result in expected}) > 1


def test_results_are_kept_for_the_same_network_and_images_only(bundle_path: Path, scenes: Scenes) -> None:
    images, source = open_images(scenes), open_source(bundle_path)
    work = AnnotatedWork(source, images)
    assert (
        work.identity == AnnotatedWork(replace(source, arguments={**source.arguments, "threads": 7}), images).identity
    )
    other = open_source(bundle_path, variant="float")
    fewer = replace(images, ids=images.ids[:5])
    changed = [AnnotatedWork(other, images).identity, AnnotatedWork(source, fewer).identity]
    (scenes.folder / "3.png").touch()
    changed.append(AnnotatedWork(source, images).identity)
    assert len({work.identity, *changed}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("fault, error", [("missing", ImageError), ("size", AnnotationError), ("bundle", WorkerError)])
def test_what_a_worker_lacks_is_said_by_the_error_of_one_process(
    fault: str, error: Any, bundle_path: Path, scenes: Scenes
) -> None:
    images, source = open_images(scenes), open_source(bundle_path)
    messages: List[str] = []
    if fault == "missing":
        (scenes.folder / "3.png").unlink()
    if fault == "size":
        images.coco.imgs[3]["width"] += 1
    if fault == "bundle":
        source = replace(source, sha256="0" * 64)
    for executor in (SerialExecutor(), ProcessExecutor(2)):
        work = AnnotatedWork(source, images)
        with pytest.raises(error) as raised:
            list(executor.run(work, shards_of(work)))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


def shards_of(work: AnnotatedWork) -> Any:
    from blendmask_edge.execution.work import cut

    return cut(work.total)


def test_images_at_which_workers_die_are_named(bundle_path: Path, scenes: Scenes, tmp_path: Path) -> None:
    source = open_source(bundle_path)
    annotated = AnnotatedWork(source, open_images(scenes))
    assert annotated.describe(range(3, 5)) == "images 4 to 5 (4.png to 5.png)"
    files = FilesWork(source, [("a.png", "a.overlay.jpg"), ("b.png", "b.overlay.jpg")], tmp_path)
    assert files.describe(range(1, 2)) == "image 2 (b.png)"
