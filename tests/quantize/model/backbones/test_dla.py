"""What the recorded numbers do not show of DLA-34."""

from __future__ import annotations

from dataclasses import replace

import torch

from blendmask_quantize.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.training.loop import freeze
from tests.quantize.small_networks import DLA
from tests.quantize.tiny import LABELS, tiny_model


class TestDLA34:
    def test_stages_are_frozen_from_the_image_on(self) -> None:
        model = BlendMask(replace(DLA, backbone=replace(DLA.backbone, frozen_stages=3))).train()
        freeze(model)
        frozen = {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
        assert frozen == {"base_layer", "level0", "level1"}

    def test_the_outer_projections_are_stored_and_never_read(self, tmp_path) -> None:
        model, x = tiny_model(DLA), torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(0))
        save_checkpoint(tmp_path / "a.safetensors", model, LABELS)
        other = load_checkpoint(tmp_path / "a.safetensors").model
        unread = other.backbone.bottom_up.level4.project[0]
        with torch.no_grad():
            unread.weight.fill_(float("nan"))
            for mine, theirs in zip(model.backbone(x).levels, other.backbone(x).levels, strict=True):
                assert torch.equal(mine, theirs)

    def test_frozen_statistics_are_those_of_evaluation(self) -> None:
        model = tiny_model(DLA)
        frozen = BlendMask(replace(DLA, backbone=replace(DLA.backbone, norm="FrozenBN"))).eval()
        state = {key: value for key, value in model.state_dict().items() if key in frozen.state_dict()}
        frozen.load_state_dict(state)
        x = torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for mine, theirs in zip(model.backbone(x).levels, frozen.backbone(x).levels, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
