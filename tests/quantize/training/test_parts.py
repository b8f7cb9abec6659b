"""Every bottom module and blender trains: each of its weights gets a gradient, from masks and semantics alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.loop import train
from blendmask_quantize.training.losses import LossOptions
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.stream import AugmentedStream
from tests.quantize.images import PLAIN, some_images, write_images
from tests.quantize.small_networks import ASSEMBLER, DEEPLAB, WEIGHTED_SUM

OPTIONS = TrainOptions(
    iterations=12, batch=4, learning_rate=3e-3, warmup=2, ema=0.5, precision="32-true", workers=0, seed=5,
    augmentation=PLAIN, losses=LossOptions(mask_positives=16),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("config", [DEEPLAB, WEIGHTED_SUM, ASSEMBLER], ids=lambda config: config.name)
def test_it_learns(config: ModelConfig, tmp_path: Path) -> None:
    write_images(tmp_path, some_images())
    torch.manual_seed(0)
    model = BlendMask(config)
    before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    source = CocoImages.open(tmp_path, tmp_path / "annotations.json", config, OPTIONS.augmentation)
    stream = AugmentedStream([source], OPTIONS.iterations * OPTIONS.batch, OPTIONS.seed)
    masks: list[float] = []
    train(model, stream, tmp_path / "run", OPTIONS, on_step=lambda _, losses: masks.append(losses["loss_mask"]))
    assert sum(masks[-3:]) < sum(masks[:3])
    after = dict(model.named_parameters())
    parts = [name for name in before if name.startswith(("basis_module", "top_layer"))]
    assert any("seg_head" in name for name in parts)
    assert not [name for name in parts if torch.equal(after[name], before[name])]
