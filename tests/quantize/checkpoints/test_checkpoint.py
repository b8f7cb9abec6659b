"""Checkpoints: every form a released file takes is understood, everything else is refused in one message."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from blendmask_edge.errors import BlendMaskError, CheckpointError, ConfigError, OutputError
from blendmask_quantize.checkpoints import checkpoint as checkpoint_module
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import CONFIGS, get_config
from blendmask_quantize.model.detect import detect
from tests.quantize.tiny import LABELS, TINY, tiny_model


@pytest.fixture(scope="module")
def model() -> BlendMask:
    return tiny_model()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(1))


def save_pth(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def save_bare_safetensors(path: Path, state: dict[str, Tensor]) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def with_old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {key.replace("ctrness", "centerness"): value for key, value in state.items()}
    assert renamed.keys() != state.keys()
    return renamed


def under_model(state: dict[str, Tensor]) -> dict[str, Any]:
    return {"model": state, "iteration": 7, "optimizer": {"state": {}}}


FORMS: dict[str, Callable[[Path, dict[str, Tensor]], Path]] = {
    "bare": lambda folder, state: save_pth(folder / "a.pth", state),
    "under model": lambda folder, state: save_pth(folder / "a.pth", under_model(state)),
    "old names": lambda folder, state: save_pth(folder / "a.pth", with_old_names(state)),
    "old names under model": lambda folder, state: save_pth(folder / "a.pth", under_model(with_old_names(state))),
    "safetensors": lambda folder, state: save_bare_safetensors(folder / "a.safetensors", state),
    "safetensors with old names": lambda folder, state: save_bare_safetensors(
        folder / "a.safetensors", with_old_names(state)
    ),
    "half precision": lambda folder, state: save_pth(
        folder / "a.pth", {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    ),
}


class TestLoading:
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_gives_the_same_weights(self, model, tmp_path, form):
        loaded = load_checkpoint(FORMS[form](tmp_path, model.state_dict()), TINY).model
        tolerance = 1e-3 if form == "half precision" else 0
        for key, value in model.state_dict().items():
            tensor = loaded.state_dict()[key]
            assert tensor.dtype == value.dtype
            torch.testing.assert_close(tensor, value, rtol=tolerance, atol=tolerance, msg=key)

    def test_the_network_is_ready_to_predict(self, model, image, tmp_path):
        loaded = load_checkpoint(FORMS["bare"](tmp_path, model.state_dict()), TINY).model
        assert not loaded.training
        torch.testing.assert_close(detect(loaded, image).mask_logits, detect(model, image).mask_logits)

    def test_counters_and_the_semantic_head_may_be_missing(self, model, tmp_path):
        left = {k: v for k, v in model.state_dict().items() if "num_batches" not in k and "seg_head" not in k}
        assert load_checkpoint(save_pth(tmp_path / "a.pth", left), TINY).config == TINY

    def test_a_semantic_head_is_left_out_where_the_configuration_has_none(self, model, tmp_path):
        config = replace(TINY, bases=replace(TINY.bases, semantic=False))
        loaded = load_checkpoint(FORMS["bare"](tmp_path, model.state_dict()), config)
        assert not any("seg_head" in key for key in loaded.model.state_dict())

    def test_classes_without_labels_are_numbered(self, model, tmp_path):
        labels = load_checkpoint(FORMS["bare"](tmp_path, model.state_dict()), TINY).labels
        assert (labels.names, labels.category_ids) == (("class 0", "class 1", "class 2"), (1, 2, 3))


class TestSaving:
    def test_everything_comes_back(self, model, tmp_path):
        save_checkpoint(tmp_path / "a.safetensors", model, LABELS)
        loaded = load_checkpoint(tmp_path / "a.safetensors")
        assert (loaded.config, loaded.labels, loaded.path) == (TINY, LABELS, tmp_path / "a.safetensors")
        for key, value in model.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[key], value), key

    def test_half_precision_keeps_the_predictions(self, model, image, tmp_path):
        save_checkpoint(tmp_path / "a.safetensors", model, LABELS, half=True)
        loaded = load_checkpoint(tmp_path / "a.safetensors").model
        with torch.no_grad():
            mine, theirs = model(image), loaded(image)
        assert {value.dtype for value in loaded.state_dict().values() if value.is_floating_point()} == {torch.float32}
        for name in ("logits", "regression", "centerness"):
            for a, b in zip(getattr(mine, name), getattr(theirs, name), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=2e-2 * float(a.abs().max()))

    def test_half_precision_halves_the_file_and_drops_the_semantic_head(self, model, tmp_path):
        whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
        save_checkpoint(whole, model, LABELS)
        save_checkpoint(half, model, LABELS, half=True)
        loaded = load_checkpoint(half)
        assert loaded.config == replace(TINY, bases=replace(TINY.bases, semantic=False))
        weights = sum(value.numel() for value in loaded.model.state_dict().values() if value.is_floating_point())
        assert half.stat().st_size < 2 * weights + 128 * len(loaded.model.state_dict()) + 4096
        assert half.stat().st_size < whole.stat().st_size

    def test_values_past_half_precision_stay_as_they_are(self, tmp_path):
        model = tiny_model()
        norm = model.backbone.bottom_up.stem.conv1.norm
        norm.running_var.fill_(1e6)
        save_checkpoint(tmp_path / "a.safetensors", model, LABELS, half=True)
        loaded = load_checkpoint(tmp_path / "a.safetensors").model
        assert torch.equal(loaded.backbone.bottom_up.stem.conv1.norm.running_var, norm.running_var)

    def test_a_failed_write_leaves_the_older_file_and_nothing_else(self, model, tmp_path, monkeypatch):
        path = tmp_path / "a.safetensors"
        save_checkpoint(path, model, LABELS)
        before = path.read_bytes()

        def full_disk(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(OutputError, match="No space left on device"):
            save_checkpoint(path, tiny_model(seed=1), LABELS)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_missing_folder_is_named(self, model, tmp_path):
        with pytest.raises(OutputError, match="nowhere"):
            save_checkpoint(tmp_path / "nowhere/a.safetensors", model, LABELS)


def full_size_state(name: str) -> dict[str, Tensor]:
    """Keys and shapes of a registered configuration; one stored number a tensor."""
    with torch.device("meta"):
        state = BlendMask(get_config(name)).state_dict()
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


class TestAnotherConfiguration:
    @pytest.mark.parametrize("name", [name for name in CONFIGS if name != "LITE0_RT"])
    def test_it_says_what_does_not_fit_and_which_one_does(self, tmp_path, name):
        path = save_pth(tmp_path / "a.pth", full_size_state(name))
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path, "LITE0_RT")
        message = str(caught.value)
        first, width = ("base_layer.0.weight", 128) if name.startswith("DLA") else ("stem.conv1", 512)
        assert "a.pth does not match LITE0_RT" in message
        for problem in ("missing (backbone.bottom_up.stem.norm.weight", f"unexpected (backbone.bottom_up.{first}"):
            assert problem in message
        shape = f"backbone.fpn_lateral3.weight is (256, {width}, 1, 1), expected (96, 40, 1, 1)"
        assert f"of another shape ({shape}" in message
        assert message.endswith(f"try --config {name}")

    def test_ours_is_recognized_too(self, tmp_path):
        path = save_pth(tmp_path / "a.pth", full_size_state("LITE0_RT"))
        with pytest.raises(CheckpointError, match="try --config LITE0_RT"):
            load_checkpoint(path, TINY)

    def test_a_differing_class_count_shows_both_shapes(self, model, tmp_path):
        path = save_pth(tmp_path / "a.pth", model.state_dict())
        with pytest.raises(CheckpointError, match=r"cls_logits.weight is \(3, 16, 3, 3\), expected \(5, 16, 3, 3\)"):
            load_checkpoint(path, replace(TINY, num_classes=5))

    def test_a_released_name_stands_for_the_network_with_the_classes_of_the_file(self, tmp_path):
        with torch.device("meta"):
            state = BlendMask(replace(get_config("R_50_3x"), num_classes=12)).state_dict()
        stored = {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}
        loaded = load_checkpoint(save_pth(tmp_path / "a.pth", stored), "R_50_3x")
        assert loaded.config.num_classes == len(loaded.labels.names) == 12

    def test_a_network_of_no_known_configuration(self, model, tmp_path):
        path = save_pth(tmp_path / "a.pth", model.state_dict())
        with pytest.raises(CheckpointError, match="resembles no registered configuration"):
            load_checkpoint(path, replace(TINY, pyramid_width=32))

    def test_a_checkpoint_that_names_another_one(self, model, tmp_path):
        save_checkpoint(tmp_path / "a.safetensors", model, LABELS)
        with pytest.raises(CheckpointError, match="of TINY, not of LITE0_RT: use --config TINY"):
            load_checkpoint(tmp_path / "a.safetensors", "LITE0_RT")

    def test_a_checkpoint_that_names_none(self, model, tmp_path):
        with pytest.raises(CheckpointError, match="does not name its configuration"):
            load_checkpoint(save_pth(tmp_path / "a.pth", model.state_dict()))

    def test_a_misspelt_configuration(self, model, tmp_path):
        with pytest.raises(ConfigError, match="did you mean R_50_3x"):
            load_checkpoint(save_pth(tmp_path / "a.pth", model.state_dict()), "R50_3x")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


class TestUnfitFiles:
    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    def test_a_missing_file(self, tmp_path, name):
        with pytest.raises(CheckpointError, match=f"no checkpoint at .*{name}"):
            load_checkpoint(tmp_path / name, TINY)

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    def test_a_folder(self, tmp_path, name):
        (tmp_path / name).mkdir()
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name, TINY)

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", b"hello, not a checkpoint", b"\xff" * 64])
    def test_a_file_that_is_none(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{name}.*give a \.safetensors file"):
            load_checkpoint(tmp_path / name, TINY)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=40), name=st.sampled_from(["fuzzed.pth", "fuzzed.safetensors"]))
    def test_no_bytes_bring_a_traceback(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name, TINY)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data(), name=st.sampled_from(["a.pth", "a.safetensors"]))
    def test_nor_does_a_damaged_one(self, tmp_path, data, name):
        state = {"top_layer.bias": torch.arange(4.0), "other": torch.zeros(2)}
        (save_pth if name == "a.pth" else save_bare_safetensors)(tmp_path / name, state)
        content = bytearray((tmp_path / name).read_bytes())
        for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[position] ^= data.draw(st.integers(1, 255))
        (tmp_path / name).write_bytes(content[: data.draw(st.integers(1, len(content)))])
        with pytest.raises(BlendMaskError):
            load_checkpoint(tmp_path / name, TINY)

    @pytest.mark.parametrize(
        "content",
        [7, "text", [torch.zeros(3)], {"a": 1}, {"model": {"a": 1}}, {3: torch.zeros(1)}, {"model": torch.zeros(1)}],
    )
    def test_a_torch_file_without_a_state_dict(self, tmp_path, content):
        with pytest.raises(CheckpointError):
            load_checkpoint(save_pth(tmp_path / "a.pth", content), TINY)

    @pytest.mark.parametrize("wrap", [lambda trap: trap, lambda trap: {"model": trap}])
    @pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
    def test_a_pickle_that_would_run_code(self, tmp_path, wrap, save):
        save(wrap(Trap(tmp_path / "sprung")), tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="tensors only"):
            load_checkpoint(tmp_path / "a.pth", TINY)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        "about", ["not json", "[]", '{"config": 3}', '{"config": {"name": "x", "classes": "many"}}', "{}"]
    )
    def test_metadata_that_cannot_be_read(self, model, tmp_path, about):
        path = tmp_path / "a.safetensors"
        save_file(dict(model.state_dict()), path, metadata={checkpoint_module.METADATA_KEY: about})
        with pytest.raises(CheckpointError, match=r"a\.safetensors"):
            load_checkpoint(path)
