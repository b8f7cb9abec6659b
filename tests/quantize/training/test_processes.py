"""Several processes do what one does with all their images."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import BackboneConfig
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.loop import DivergedError, train
from blendmask_quantize.training.losses import LossOptions
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.processes import (
    SyncNorm,
    average_gradients,
    mean_over_processes,
    resolve_precision,
    synchronized,
)
from blendmask_quantize.training.stream import AugmentedStream
from tests.quantize.images import SIZE, some_images, write_images
from tests.quantize.tiny import TINY

ONE = TrainOptions(
    iterations=1, batch=4, optimizer="sgd", learning_rate=0.05, warmup=0, clip=0, ema=0, precision="32-true", workers=0,
    augmentation=Augmentation(crop=SIZE), losses=LossOptions(),
)  # fmt: skip
TWO = replace(ONE, batch=2, devices=2)
SHALLOW = replace(TINY, name="SHALLOW", backbone=BackboneConfig(kind="lite0", norm="FrozenBN", frozen_stages=0))
"""Head and bases normalize by the batch. A deep backbone that does too would amplify rounding to percents."""


def join(rank: int, port: int) -> None:
    """What torchrun tells each of two processes."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    torch.set_num_threads(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(images: Path, output: Path, options: TrainOptions, *, resume: bool = False, spoilt: bool = False) -> None:
    torch.manual_seed(0)
    model = BlendMask(SHALLOW)
    source = CocoImages.open(images, images / "annotations.json", SHALLOW, options.augmentation)
    if spoilt:
        nn.init.constant_(model.top_layer.bias, torch.nan)
    train(model, AugmentedStream([source], options.augmented_images, options.seed), output, options, resume=resume)


def run_one_of_two(rank: int, port: int, images: Path, output: Path, options: TrainOptions) -> None:
    join(rank, port)
    run(images, output, options)
    distributed.destroy_process_group()


def resume_one_of_two(rank: int, port: int, images: Path, output: Path, options: TrainOptions) -> None:
    join(rank, port)
    run(images, output, options, resume=True)
    distributed.destroy_process_group()


def spoil_one_of_two(rank: int, port: int, images: Path, output: Path) -> None:
    """Only the second process's network holds a value that is not a number; both must stop."""
    join(rank, port)
    try:
        run(images, output / "run", TWO, spoilt=rank == 1)
    except DivergedError as error:
        (output / f"{rank}.txt").write_text(str(error))
    distributed.destroy_process_group()


def exchange(rank: int, port: int, folder: Path) -> None:
    """Exchange numbers, gradients and statistics, and write down the result."""
    join(rank, port)
    distributed.init_process_group("gloo")
    result: dict[str, Tensor] = {"mean": mean_over_processes(torch.tensor([1.0 + rank, 10.0 * rank]))}
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    parameters[0].grad = torch.full((2,), 2.0 + rank)
    if rank == 0:
        parameters[1].grad = torch.full((3,), 4.0)
    average_gradients(parameters)
    result |= {"first": parameters[0].grad, "second": parameters[1].grad}
    norm = batch_norm()
    model = nn.Sequential(norm)
    with synchronized(model):
        assert type(norm) is SyncNorm
        x = inputs()[2 * rank : 2 * rank + 2].requires_grad_()
        y = model(x)
        (y * weights()[2 * rank : 2 * rank + 2]).sum().backward()
    assert type(norm) is nn.BatchNorm2d
    result |= {"y": y.detach(), "x": x.grad, "running_mean": norm.running_mean, "running_var": norm.running_var}
    torch.save(result, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def batch_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    return norm


def inputs() -> Tensor:
    return torch.randn((4, 3, 5, 5), generator=torch.Generator().manual_seed(1)) * 3 + 1


def weights() -> Tensor:
    return torch.randn((4, 3, 5, 5), generator=torch.Generator().manual_seed(2))


def state(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path / "model.safetensors").model.state_dict()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, some_images())
    return folder


@pytest.mark.slow
class TestTwoProcesses:
    def test_their_gradients_are_those_of_one_with_twice_the_batch(self, images, tmp_path):
        """After one step of SGD the weights have moved along the gradient."""
        run(images, tmp_path / "one", ONE)
        multiprocessing.spawn(run_one_of_two, (free_port(), images, tmp_path / "two", TWO), nprocs=2)
        torch.manual_seed(0)
        before, one, two = BlendMask(SHALLOW).state_dict(), state(tmp_path / "one"), state(tmp_path / "two")
        for key in (key for key, value in one.items() if value.is_floating_point()):
            moved = (one[key] - before[key]).norm()
            assert (two[key] - one[key]).norm() <= 1e-3 * moved + 1e-7, key
        logs = [np.loadtxt(tmp_path / name / "log.csv", delimiter=",", skiprows=1) for name in ("one", "two")]
        np.testing.assert_allclose(logs[1][2:], logs[0][2:], rtol=1e-4)

    def test_they_go_on_where_they_stopped(self, images, tmp_path):
        whole = replace(TWO, iterations=4, save_every=2)
        multiprocessing.spawn(run_one_of_two, (free_port(), images, tmp_path / "whole", whole), nprocs=2)
        multiprocessing.spawn(run_one_of_two, (free_port(), images, tmp_path / "parts", whole), nprocs=2)
        (tmp_path / "parts/model.safetensors").unlink()
        multiprocessing.spawn(resume_one_of_two, (free_port(), images, tmp_path / "parts", whole), nprocs=2)
        assert all(torch.equal(a, b) for a, b in zip(state(tmp_path / "whole").values(),
                                                    state(tmp_path / "parts").values(), strict=True))  # fmt: skip

    def test_a_loss_that_is_no_number_in_one_stops_both(self, images, tmp_path):
        multiprocessing.spawn(spoil_one_of_two, (free_port(), images, tmp_path), nprocs=2)
        for rank in (0, 1):
            assert "nan at iteration 0" in (tmp_path / f"{rank}.txt").read_text()

    def test_they_exchange_means(self, tmp_path):
        multiprocessing.spawn(exchange, (free_port(), tmp_path), nprocs=2)
        result = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
        for part in result:
            assert part["mean"].tolist() == [1.5, 5.0]
            assert part["first"].tolist() == [2.5, 2.5]
            assert part["second"].tolist() == [2.0, 2.0, 2.0]
        norm, x = batch_norm(), inputs().requires_grad_()
        y = norm(x)
        (y * weights()).sum().backward()
        close = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(torch.cat([part["y"] for part in result]), y.detach(), **close)
        torch.testing.assert_close(torch.cat([part["x"] for part in result]), x.grad, **close)
        for part in result:
            torch.testing.assert_close(part["running_mean"], norm.running_mean, **close)
            torch.testing.assert_close(part["running_var"], norm.running_var, **close)


class TestOneProcess:
    def test_it_is_its_own_mean(self):
        value = torch.tensor([3.0, 4.0])
        assert mean_over_processes(value) is value

    def test_gradients_and_normalizations_are_left_alone(self):
        parameter = nn.Parameter(torch.zeros(2))
        average_gradients([parameter])
        assert parameter.grad is None
        model = nn.Sequential(nn.BatchNorm2d(3))
        with synchronized(model):
            assert type(model[0]) is nn.BatchNorm2d

    def test_a_named_precision_is_taken(self):
        assert resolve_precision(replace(ONE, precision="16-mixed")) == "16-mixed"

    @pytest.mark.parametrize("able, expected", [
        ({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed"), ({"avx2": True}, "32-true"),
        ({}, "32-true"),
    ])  # fmt: skip
    def test_mixed_precision_is_for_processors_that_are_quick_in_it(self, monkeypatch, able, expected):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
        assert resolve_precision(replace(ONE, precision="auto")) == expected
