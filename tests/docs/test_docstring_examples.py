"""The examples in the docstrings of the main public names run as printed, in a folder with a bundle and images."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import blendmask_edge
from blendmask_edge.bundle import write_bundle
from tests.sdk.small_bundles import build_graph, describe

ROOT = Path(__file__).parents[2]
ROBOT = (
    "Bundle",
    "Instances",
    "Labels",
    "MaskPredictor",
    "available_runtimes",
    "check",
    "compare",
    "compile",
    "read_image",
    "write_report",
)
WORKSTATION = (
    "CalibrationDataset", "QuantizeOptions", "evaluate", "load_checkpoint", "load_recipe",
    "register_backbone", "register_config", "train", pytest.param("explain", marks=pytest.mark.slow),
    pytest.param("prune", marks=pytest.mark.slow),
    pytest.param("sensitivity", marks=pytest.mark.slow),
    pytest.param("quantize", marks=pytest.mark.slow),
)  # fmt: skip


def run_examples(package: object, name: str) -> None:
    """Run the examples of a public name; fail with what was printed instead of what was expected."""
    finder = doctest.DocTestFinder(recurse=False)
    tests = [test for test in finder.find(getattr(package, name), name, globs={}) if test.examples]
    assert tests, f"{name} has no example"
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", ROBOT)
def test_examples_of_the_sdk_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    graphs = {"cpu": build_graph()}
    write_bundle(tmp_path / "model.bmz", describe(graphs), graphs)
    write_bundle(tmp_path / "new.bmz", describe(graphs), graphs)
    cv2.imwrite(str(tmp_path / "image.jpg"), np.full((48, 64, 3), 230, np.uint8))
    (tmp_path / "images").mkdir()
    shutil.copy(tmp_path / "image.jpg", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    run_examples(blendmask_edge, name)


@pytest.fixture(scope="module")
def workstation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a checkpoint, annotated scenes and images to calibrate on."""
    pytest.importorskip("torch")
    from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
    from tests.quantize.images import describe as annotations_of
    from tests.quantize.images import some_images, write_annotations, write_images
    from tests.quantize.prunable import SMALL
    from tests.quantize.tiny import LABELS, tiny_model

    folder = tmp_path_factory.mktemp("workstation")
    save_checkpoint(folder / "checkpoint.safetensors", tiny_model(SMALL), LABELS)
    scenes = some_images()
    write_images(folder / "scenes", scenes)
    write_annotations(folder, annotations_of(scenes)).rename(folder / "scenes.json")
    (folder / "images").mkdir()
    for path in sorted((ROOT / "examples/homescenes/calibration").glob("*.jpg"))[:6]:
        shutil.copy(path, folder / "images")
    return folder


@pytest.mark.parametrize("name", WORKSTATION)
def test_examples_of_the_workstation_run(name: str, workstation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import blendmask_quantize

    monkeypatch.chdir(workstation)
    run_examples(blendmask_quantize, name)
