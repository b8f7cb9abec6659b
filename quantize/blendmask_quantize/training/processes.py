"""Several processes or nodes that train one network together, by Lightning Fabric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, distributed, nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.training.options import TrainOptions


class _AveragedStrategy(DDPStrategy):
    """Processes as Fabric starts and finds them; the loop averages the gradients itself.

    The wrapper of `DistributedDataParallel` sees the forward pass only, but the top layer is evaluated in the losses,
    and in a process whose images show no instance not at all.
    """

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        return module


def open_fabric(options: TrainOptions) -> Fabric:
    """Start and connect the processes for the options' devices, nodes and precision.

    Under `torchrun` or a cluster manager that Fabric knows, the processes are those; else it starts the command again
    for the other devices of this node.

    Raises:
        ConfigError: the devices cannot be used, or other processes were started than the options say.
    """
    several = options.devices * options.nodes > 1
    try:
        fabric = Fabric(
            accelerator="auto", devices=options.devices, num_nodes=options.nodes, precision=resolve_precision(options),  # type: ignore[arg-type]
            strategy=_AveragedStrategy() if several else "auto",
        )  # fmt: skip
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{options.devices} devices on {options.nodes} nodes in precision {options.precision} cannot be used "
            f"({str(error).splitlines()[0][:200]}): give fewer --devices, or another --precision"
        ) from error
    fabric.launch()
    if fabric.world_size != options.processes:
        raise ConfigError(
            f"{fabric.world_size} processes were started for {options.devices} devices on {options.nodes} nodes: start "
            f"as many on each node as --devices says, on as many nodes as --nodes says"
        )
    return fabric


def resolve_precision(options: TrainOptions) -> str:
    """Return Fabric's name of the precision: "auto" is mixed where the device is quick in it, else float32."""
    if options.precision != "auto":
        return options.precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


def world_size() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def first_process() -> bool:
    """Tell whether this process writes what all of them have in common."""
    return world_size() == 1 or distributed.get_rank() == 0


def mean_over_processes(value: Tensor) -> Tensor:
    """Average a tensor over the processes that train together; one process gets the value itself."""
    if world_size() == 1:
        return value
    mean = value.detach().clone()
    distributed.all_reduce(mean)
    return mean / world_size()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one exchange; one that is missing counts as zero.

    Where all of them miss one it stays zero, not None.
    """
    if world_size() == 1:
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    mean = mean_over_processes(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view(parameter.shape).to(parameter.dtype)


class SyncNorm(nn.BatchNorm2d):
    """Batch normalization with the statistics of all processes' images, on any device; each process counts the same.

    As detectron2 `layers/batch_norm.py` (`NaiveSyncBatchNorm`).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x` (N, C, H, W); in evaluation mode by the stored statistics."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        moments = torch.stack([values.mean(dim=(0, 2, 3)), values.square().mean(dim=(0, 2, 3))])
        mean, square = _SharedMean.apply(moments)
        variance = square - mean * mean
        with torch.no_grad():
            count = x.numel() // x.shape[1] * world_size()
            share = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean.to(self.running_mean), share)  # type: ignore[union-attr]
            unbiased = variance * (count / max(count - 1, 1))
            self.running_var.lerp_(unbiased.to(self.running_var), share)  # type: ignore[union-attr]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (values * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(x.dtype)


class _SharedMean(torch.autograd.Function):
    """The mean over the processes; so is its gradient."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        return mean_over_processes(value)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return mean_over_processes(gradients[0])


@contextmanager
def synchronized(model: nn.Module) -> Iterator[None]:
    """Make every `nn.BatchNorm2d` of the model a `SyncNorm` within the block, if there are several processes."""
    norms = [m for m in model.modules() if type(m) is nn.BatchNorm2d] if world_size() > 1 else []
    for norm in norms:
        norm.__class__ = SyncNorm
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
