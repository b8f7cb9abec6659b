"""Checkpoints as other programs write them: detectron2's pickles, arrays, prefixes, and hostile files."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from blendmask_edge.errors import AnnotationError, CheckpointError
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
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
