"""The examples in the docstrings of the main public names run as printed, in a folder with a bundle and images."""

from __future__ import annotations

import doctest
from pathlib import Path

import cv2
import numpy as np
import pytest

import blendmask_edge
from blendmask_edge.bundle import write_bundle
from tests.sdk.small_bundles import build_graph, describe

ROBOT = ("Bundle", "Instances", "Labels", "MaskPredictor", "available_runtimes", "check", "compile", "read_image")


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
    cv2.imwrite(str(tmp_path / "image.jpg"), np.full((48, 64, 3), 230, np.uint8))
    monkeypatch.chdir(tmp_path)
    run_examples(blendmask_edge, name)
