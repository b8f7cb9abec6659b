"""A trained network takes the classes of new data: rows of classes that both have stay, the others begin anew."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blendmask_edge.errors import CheckpointError
from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import CONFIGS, LayerWidth, ModelConfig
from blendmask_quantize.model.labels import default_labels
from blendmask_quantize.training.classes import with_classes, with_num_classes
from blendmask_quantize.training.start import starting_network
from tests.quantize.small_networks import FEW_FAST
from tests.quantize.tiny import LABELS, TINY, tiny_model

OTHERS = Labels(("spoon", "fork", "pan", "cup"), (1, 2, 3, 7))
SCORES = "proposal_generator.fcos_head.cls_logits.weight"


def rows_of(model: BlendMask, names: tuple[str, ...]) -> dict[str, list[Tensor]]:
    """The weights that belong to each class, and to none."""
    state = model.state_dict()
    semantic = state["basis_module.seg_head.6.weight"]
    rows = {name: [state[SCORES][i], semantic[i + 1]] for i, name in enumerate(names)}
    return {**rows, "nothing": [semantic[0]]}


def assert_equal(a: list[Tensor], b: list[Tensor]) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(tiny_model(), LABELS, Path("tiny.safetensors"))


def test_classes_of_the_same_name_keep_their_rows(checkpoint: Checkpoint) -> None:
    transfer = with_classes(checkpoint, OTHERS, seed=1)
    assert (transfer.kept, transfer.initialized) == (("fork", "cup"), ("spoon", "pan"))
    before, after = rows_of(checkpoint.model, LABELS.names), rows_of(transfer.model, OTHERS.names)
    for name in ("fork", "cup", "nothing"):
        assert_equal(before[name], after[name])
    for name in ("spoon", "pan"):
        assert all(not any(torch.equal(row, old) for old in before["plate"]) for row in after[name])


def test_everything_else_stays(checkpoint: Checkpoint) -> None:
    model = with_classes(checkpoint, OTHERS, seed=1).model
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, checkpoint.model.state_dict()[k])
               if v.shape == checkpoint.model.state_dict()[k].shape}  # fmt: skip
    assert not changed


def test_new_rows_are_those_of_a_new_network_and_follow_the_seed(checkpoint: Checkpoint) -> None:
    bias = [with_classes(checkpoint, OTHERS, seed).model.proposal_generator.fcos_head.cls_logits for seed in (1, 1, 2)]
    assert torch.equal(bias[0].weight, bias[1].weight)
    assert not torch.equal(bias[0].weight, bias[2].weight)
    assert bias[0].bias[0].sigmoid().item() == pytest.approx(TINY.head.prior)


def test_the_same_classes_in_another_order_take_their_rows_along(checkpoint: Checkpoint) -> None:
    turned = Labels(LABELS.names[::-1], LABELS.category_ids)
    transfer = with_classes(checkpoint, turned, seed=1)
    assert transfer.initialized == ()
    before, after = rows_of(checkpoint.model, LABELS.names), rows_of(transfer.model, turned.names)
    for name in before:
        assert_equal(before[name], after[name])


@pytest.mark.slow
@pytest.mark.parametrize("config", FEW_FAST, ids=lambda config: config.name)
def test_every_architecture_takes_other_classes(config: ModelConfig) -> None:
    model = tiny_model(config)
    changed = with_classes(Checkpoint(model, LABELS, Path("a")), OTHERS, seed=0).model
    assert changed.config == replace(config, num_classes=4)
    assert changed(torch.zeros(1, 3, 96, 160)) is not None


def test_a_pruned_network_stays_pruned() -> None:
    scores = "proposal_generator.fcos_head.cls_logits"
    config = replace(TINY, widths=(LayerWidth(scores, 8, TINY.num_classes),))
    changed = with_num_classes(config, 5)
    assert changed.widths == (LayerWidth(scores, 8, 5),)
    assert BlendMask(changed).state_dict()[f"{scores}.weight"].shape[:2] == (5, 8)


class TestStarting:
    def start(self, path: Path, labels: Labels, config: object = None) -> BlendMask:
        return starting_network(config, path, labels, 0)[0]

    def test_what_happens_to_the_classes_is_said_and_recorded(
        self, checkpoint_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            _, origin = starting_network(None, checkpoint_path, OTHERS, 0)
        assert "trained on other classes" in caplog.text
        assert "kept for fork, cup; initialized for spoon, pan; dropped for plate." in caplog.text
        assert (origin.weights, origin.initialized) == ("tiny.safetensors", ("spoon", "pan"))

    def test_nothing_is_said_where_they_are_the_same(
        self, checkpoint_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        starting_network(None, checkpoint_path, LABELS, 0)
        assert not caplog.text

    def test_a_file_without_names_takes_those_of_the_annotations(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(CONFIGS, "TINY", TINY)
        torch.save({"model": tiny_model().state_dict()}, tmp_path / "model_final.pth")
        model = self.start(tmp_path / "model_final.pth", LABELS, "TINY")
        assert torch.equal(model.state_dict()[SCORES], tiny_model().state_dict()[SCORES])
        assert "its 3 classes are called cup, plate, fork" in caplog.text

    def test_a_file_without_names_and_of_another_number_of_classes(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(CONFIGS, "TINY", TINY)
        torch.save({"model": tiny_model().state_dict()}, tmp_path / "model_final.pth")
        assert self.start(tmp_path / "model_final.pth", OTHERS, "TINY").config.num_classes == 4
        assert "initialized for spoon, fork, pan, cup" in caplog.text

    def test_a_given_configuration_may_state_the_new_number(self, tmp_path: Path) -> None:
        torch.save(tiny_model().state_dict(), tmp_path / "a.pth")
        assert self.start(tmp_path / "a.pth", OTHERS, replace(TINY, num_classes=4)).config.num_classes == 4

    def test_coco_names_are_known_of_eighty_classes(self) -> None:
        config = replace(TINY, num_classes=80)
        coco = Checkpoint(tiny_model(config), default_labels(80), Path("coco.pth"))
        transfer = with_classes(coco, Labels(("bottle", "mug"), (1, 2)), 0)
        assert (transfer.kept, transfer.initialized) == (("bottle",), ("mug",))

    def test_another_architecture_is_refused(self, checkpoint_path: Path) -> None:
        with pytest.raises(CheckpointError, match="use --config TINY"):
            self.start(checkpoint_path, OTHERS, "LITE0_RT")

    def test_what_is_saved_loads_with_the_new_classes(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "b.safetensors", with_classes(checkpoint, OTHERS, 0).model, OTHERS)
        assert load_checkpoint(tmp_path / "b.safetensors").labels == OTHERS
