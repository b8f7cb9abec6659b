"""Claims of the paper: both networks detect as many instances, and both ways to suppress see the same candidates."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bench.lib.peer_tables import paper_table
from bench.peers.mask_rcnn import Frame, blendmask_frame, mask_rcnn_frame
from bench.studies import paper
from blendmask_edge import Labels
from tests.markdown import row_of
from tests.project.conftest import IMAGE, SIZE
from tests.quantize.small_networks import small_network
from tests.quantize.tiny import TINY


def test_the_assembler_needs_no_top_layer_and_the_blender_the_largest() -> None:
    rows = {row["name"]: row for row in paper.blender_rows(argparse.Namespace(size=(128, 128), rounds=1))}
    assert set(rows) == {f"{name}/{count}" for name in paper.BLENDERS for count in paper.COUNTS}
    assert rows["assembler/10"]["top_layer_ms"] == 0
    assert rows["weighted-sum/10"]["top_layer_ms"] > 0
    assert all(row["merge_ms"] > 0 for row in rows.values())
    assert (rows["blender/100"]["bases"], rows["blender/100"]["attention_size"]) == (4, 14)


def test_both_networks_are_timed_at_one_size_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mask_rcnn_frame", "blendmask_frame"):
        monkeypatch.setattr(paper, name, lambda _, count: lambda: count)
    rows = {row["name"]: row for row in paper.mask_rcnn_rows(argparse.Namespace(size=(96, 128), rounds=2))}
    assert set(rows) == {f"{name}/{count}" for name in ("mask-rcnn", "blendmask") for count in paper.COUNTS}
    assert row_of(paper_table(rows), "Mask R-CNN", "128x96", "10 instances")


def test_both_ways_to_suppress_are_scored_on_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_network(TINY)
    labels = Labels([str(number) for number in range(TINY.num_classes)], list(range(1, TINY.num_classes + 1)))
    for split in paper.SPLITS:
        (tmp_path / split).mkdir()
        cv2.imwrite(str(tmp_path / split / "1.jpg"), cv2.resize(IMAGE, SIZE[::-1]))
        box = {"bbox": [0, 0, 40, 40], "area": 1600, "segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]], "iscrowd": 0}
        document = {
            "images": [{"id": 1, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, **box}],
            "categories": [{"id": 1, "name": "0"}],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(document))
    monkeypatch.setattr(paper, "load_checkpoint", lambda _: argparse.Namespace(model=model, labels=labels))
    options = argparse.Namespace(checkpoint=None, data=tmp_path, images=2, resamples=3)
    rows = {row["name"]: row for row in paper.nms_rows(options)}
    assert set(rows) == {f"{kind}/{split}" for kind in paper.NMS for split in paper.SPLITS}
    for split in paper.SPLITS:
        batched, fast = rows[f"batched-nms/{split}"], rows[f"fast-nms/{split}"]
        assert batched["candidates"] == fast["candidates"]
        assert batched["images"] == 1
        assert np.isfinite([batched["mask_ap"], fast["mask_ap"]]).all()


@pytest.mark.slow
@pytest.mark.parametrize("make", [mask_rcnn_frame, blendmask_frame])
def test_a_frame_has_as_many_instances_as_are_asked_for(make: Callable[[torch.Tensor, int], Frame]) -> None:
    image = torch.rand(3, 128, 256, generator=torch.Generator().manual_seed(0))
    for count in (3, 10):
        assert make(image, count)() == count


@pytest.mark.parametrize(
    ("milliseconds", "mask_ap", "holds"),
    [(6.0, 0.72, "holds"), (0.2, 0.70, "does not hold"), (6.0, 0.78, "does not hold")],
)
def test_the_table_says_whether_batched_nms_is_the_better_choice(
    milliseconds: float, mask_ap: float, holds: str
) -> None:
    batched = {"mask_ap": 0.71, "mask_ap_low": 0.67, "mask_ap_high": 0.75, "suppression_ms": 0.3, "candidates": 9}
    fast = {**batched, "mask_ap": mask_ap, "suppression_ms": milliseconds}
    shown = paper_table({"batched-nms/val": batched, "fast-nms/val": fast})
    assert f"x the time of batched NMS, which is the better choice: {holds} |" in shown
