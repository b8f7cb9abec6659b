"""`evaluate` on several processes: checkpoint and bundle give the values of one process; bad choices are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.lib.tiny_bundle import write_tiny_bundle, write_tiny_images
from blendmask_edge.errors import ConfigError
from blendmask_quantize import evaluate
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from tests.quantize.images import some_images, write_images
from tests.quantize.tiny import LABELS, tiny_model


@pytest.mark.slow
def test_a_bundle_on_several_processes(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "model.bmz")
    images, annotations = write_tiny_images(tmp_path, 8)
    steps: list[int] = []
    one = evaluate(bundle, images, annotations, threads=1)
    two = evaluate(
        bundle, images, annotations, threads=1, processes=2, shards=tmp_path / "shards",
        progress=lambda *_: lambda: steps.append(1),
    )  # fmt: skip
    assert one == two
    assert one["box_ap50"] > 0
    assert len(steps) == 8
    assert not (tmp_path / "shards").exists()


@pytest.mark.slow
def test_a_checkpoint_on_several_processes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", tiny_model(), LABELS)
    annotations = write_images(tmp_path, some_images(3))
    model = tmp_path / "c.safetensors"
    one = evaluate(model, tmp_path, annotations, threads=1)
    assert evaluate(model, tmp_path, annotations, threads=1, processes=2) == one


@pytest.mark.parametrize("changes", [{"processes": 0}, {"threads": 0}, {"shards": 3}, {"processes": 2, "ray": "auto"}])
def test_impossible_arguments_are_refused_before_anything_is_read(changes: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        evaluate(tmp_path / "none.bmz", tmp_path, tmp_path / "none.json", **changes)
