"""Checkpoints as other programs write them: detectron2's pickles, arrays, prefixes, and hostile files."""

from __future__ import annotations

import json
import pickle
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from blendmask_edge import Labels
from blendmask_edge.errors import AnnotationError, CheckpointError
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import get_config
from tests.quantize.tiny import TINY, tiny_model


class Hostile:
    """An object whose pickle runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def same(loaded, model) -> bool:
    return all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.model.state_dict().items())


def test_a_pickle_of_arrays_is_read(tmp_path, model):
    path = tmp_path / "model.pkl"
    arrays = {key: value.numpy() for key, value in model.state_dict().items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    assert same(load_checkpoint(path, TINY), model)


def test_arrays_in_a_torch_file_are_read(tmp_path, model):
    torch.save({"model": {key: value.numpy() for key, value in model.state_dict().items()}}, tmp_path / "model.pth")
    assert same(load_checkpoint(tmp_path / "model.pth", TINY), model)


def test_the_prefix_of_data_parallel_is_stripped(tmp_path, model):
    torch.save({f"module.{key}": value for key, value in model.state_dict().items()}, tmp_path / "model.pth")
    assert same(load_checkpoint(tmp_path / "model.pth", TINY), model)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "module.model.", "student.net."])
def test_any_prefix_that_all_names_share_is_stripped(tmp_path, model, prefix):
    torch.save({f"{prefix}{key}": value for key, value in model.state_dict().items()}, tmp_path / "model.pth")
    assert same(load_checkpoint(tmp_path / "model.pth", TINY), model)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["ema_state_dict", "weights", "net"])
def test_a_network_is_found_beside_other_things(tmp_path, model, key):
    others = {"epoch": 3, "optimizer": {"state": {}, "lr": 0.1}, "note": torch.zeros(2)}
    torch.save({**others, key: model.state_dict()}, tmp_path / "model.pth")
    assert same(load_checkpoint(tmp_path / "model.pth", TINY), model)


def test_numbers_beside_the_tensors_are_passed_over(tmp_path, model):
    torch.save({**model.state_dict(), "epoch": 3}, tmp_path / "model.pth")
    assert same(load_checkpoint(tmp_path / "model.pth", TINY), model)


@pytest.mark.parametrize("name", ["model.pth", "model", "MODEL.SAFETENSORS"])
def test_safetensors_are_told_by_their_bytes(tmp_path, model, name):
    save_checkpoint(tmp_path / "model.safetensors", model, Labels(("a", "b", "c"), (1, 2, 3)))
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    assert same(load_checkpoint(tmp_path / name), model)


WEIGHT = "backbone.fpn_lateral3.weight"
UNFIT = {
    "NaN": (WEIGHT, lambda value: value * float("nan"), "not finite"),
    "infinite once it is in float32": (WEIGHT, lambda value: value.double() + 1e300, "not finite"),
    "negative variance": (None, lambda value: -value - 1, "negative variances"),
    "integers": (WEIGHT, lambda value: value.long(), "int64, expected floating point"),
    "complex": (WEIGHT, lambda value: value.to(torch.complex64), "complex64, expected floating point"),
    "sparse": (WEIGHT, lambda value: value.to_sparse(), "sparse"),
    "without data": (WEIGHT, lambda value: value.to("meta"), "no values"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_values_that_no_network_has_are_refused(tmp_path, model, case):
    name, spoil, reason = UNFIT[case]
    state = model.state_dict()
    name = name or next(key for key in state if key.endswith("running_var"))
    torch.save({**state, name: spoil(state[name])}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=rf"model\.pth: {name}.*{reason}"):
        load_checkpoint(tmp_path / "model.pth", TINY)


def test_a_compressed_zip_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    with pytest.raises(CheckpointError, match="compressed zip"):
        load_checkpoint(tmp_path / "model.pth", TINY)


@pytest.mark.parametrize(
    "change", [{"num_classes": 10**9}, {"num_classes": 0}, {"pyramid_width": 10**7}, {"name": "a\nb"},
               {"input": {"std": [0, 1, 1]}}, {"input": {"channels": "xyz"}}, {"head": {"class_convs": 10**7}},
               {"inference": {"score_threshold": -1}}],
)  # fmt: skip
def test_a_stored_configuration_out_of_range_is_refused_before_it_is_built(tmp_path, model, change):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, Labels(("a", "b", "c"), (1, 2, 3)))
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["blendmask"])
    record["config"].update({k: {**record["config"][k], **v} if isinstance(v, dict) else v for k, v in change.items()})
    save_file(load_file(path), path, {"blendmask": json.dumps(record)})
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors states a configuration that no network has: .*expected"
    ):
        load_checkpoint(path)


def test_the_advice_for_an_incomplete_file_can_be_followed(tmp_path):
    with torch.device("meta"):
        state = BlendMask(get_config("LITE0_RT")).state_dict()
    stored = {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}
    del stored["top_layer.weight"]
    torch.save(stored, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="incomplete or was changed: fetch it again"):
        load_checkpoint(tmp_path / "model.pth", "LITE0_RT")


def test_a_configuration_that_describes_no_network_is_to_be_corrected(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "model.pth")
    config = get_config("RT_R_50_4x_bn-head_syncbn_shtw")
    config = replace(config, name="mine", backbone=replace(config.backbone, depth=-1))
    with pytest.raises(CheckpointError, match=r"no ResNet of depth -1 .*: correct the configuration mine, or give"):
        load_checkpoint(tmp_path / "model.pth", config)


def test_an_empty_file_resembles_nothing(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="resembles no registered"):
        load_checkpoint(tmp_path / "model.pth", TINY)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_mappings_that_hold_each_other_many_times_are_read_once(tmp_path, model, suffix):
    path = tmp_path / f"model{suffix}"
    doubled: dict[str, object] = {}
    for _ in range(200):
        doubled = {"one": doubled, "other": doubled}
    content = {"model": model.state_dict(), "more": doubled}
    if suffix == ".pkl":
        content["model"] = {key: value.numpy() for key, value in model.state_dict().items()}
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    assert same(load_checkpoint(path, TINY), model)


def test_a_pickle_takes_no_memory_for_the_numbers_of_its_objects(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(b"\x80\x02}r" + (2**22).to_bytes(4, "little") + b".")
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="no state dict"):
        load_checkpoint(path, TINY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, model, suffix):
    path, marker = tmp_path / f"model{suffix}", tmp_path / "ran"
    content = {"model": {key: value.numpy() for key, value in model.state_dict().items()}, "more": Hostile(marker)}
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="model"):
        load_checkpoint(path, TINY)
    assert not marker.exists()


def test_classes_are_named_by_the_caller(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "model.pth")
    assert load_checkpoint(tmp_path / "model.pth", TINY, classes="cup,plate,fork").labels.names == (
        "cup",
        "plate",
        "fork",
    )
    with pytest.raises(AnnotationError, match="2 classes"):
        load_checkpoint(tmp_path / "model.pth", TINY, classes="cup,plate")
