"""Quantize, prune, train and evaluate BlendMask checkpoints.

    from blendmask_quantize import quantize

    report = quantize("checkpoint.safetensors", "images", "model.bmz")
    for name, variant in report.variants.items():
        print(f"{name}: {variant.size_bytes / 1e6:.1f} MB")
    print(f"{report.bundle}: INT8 is {report.speedup:.2f} x as fast as float")

The public API consists of the names in `__all__` with their documented arguments and attributes; all other modules are
internal. Names are loaded on first use, and functions check their arguments before they load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blendmask_calibration.dataset import CalibrationDataset
    from blendmask_quantize.api.distill import distill
    from blendmask_quantize.api.evaluate import evaluate
    from blendmask_quantize.api.export_onnx import export_onnx
    from blendmask_quantize.api.prune import prune
    from blendmask_quantize.api.quantize import explain, quantize
    from blendmask_quantize.api.recipes import load_recipe
    from blendmask_quantize.api.registry import list_configs, register_backbone, register_config
    from blendmask_quantize.api.sensitivity import sensitivity
    from blendmask_quantize.api.train import train
    from blendmask_quantize.api.visualize import visualize
    from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint
    from blendmask_quantize.model.config import BackboneConfig, ModelConfig, get_config
    from blendmask_quantize.pipeline.options import QuantizeOptions
    from blendmask_quantize.pipeline.plan import Plan
    from blendmask_quantize.pipeline.recipe import Recipe
    from blendmask_quantize.pipeline.report import Report
    from blendmask_quantize.pruning.options import PruneOptions
    from blendmask_quantize.training.augment import Augmentation
    from blendmask_quantize.training.loss_options import LossOptions
    from blendmask_quantize.training.options import TrainOptions
    from blendmask_quantize.training.sampling import SamplingOptions

_LAZY = {
    "Augmentation": "blendmask_quantize.training.augment",
    "BackboneConfig": "blendmask_quantize.model.config",
    "CalibrationDataset": "blendmask_calibration.dataset",
    "Checkpoint": "blendmask_quantize.checkpoints.checkpoint",
    "LossOptions": "blendmask_quantize.training.loss_options",
    "ModelConfig": "blendmask_quantize.model.config",
    "Plan": "blendmask_quantize.pipeline.plan",
    "PruneOptions": "blendmask_quantize.pruning.options",
    "QuantizeOptions": "blendmask_quantize.pipeline.options",
    "Recipe": "blendmask_quantize.pipeline.recipe",
    "Report": "blendmask_quantize.pipeline.report",
    "SamplingOptions": "blendmask_quantize.training.sampling",
    "TrainOptions": "blendmask_quantize.training.options",
    "distill": "blendmask_quantize.api.distill",
    "evaluate": "blendmask_quantize.api.evaluate",
    "explain": "blendmask_quantize.api.quantize",
    "export_onnx": "blendmask_quantize.api.export_onnx",
    "get_config": "blendmask_quantize.model.config",
    "list_configs": "blendmask_quantize.api.registry",
    "load_checkpoint": "blendmask_quantize.checkpoints.checkpoint",
    "load_recipe": "blendmask_quantize.api.recipes",
    "prune": "blendmask_quantize.api.prune",
    "quantize": "blendmask_quantize.api.quantize",
    "register_backbone": "blendmask_quantize.api.registry",
    "register_config": "blendmask_quantize.api.registry",
    "sensitivity": "blendmask_quantize.api.sensitivity",
    "train": "blendmask_quantize.api.train",
    "visualize": "blendmask_quantize.api.visualize",
}

__all__ = [
    "Augmentation",
    "BackboneConfig",
    "CalibrationDataset",
    "Checkpoint",
    "LossOptions",
    "ModelConfig",
    "Plan",
    "PruneOptions",
    "QuantizeOptions",
    "Recipe",
    "Report",
    "SamplingOptions",
    "TrainOptions",
    "distill",
    "evaluate",
    "explain",
    "export_onnx",
    "get_config",
    "list_configs",
    "load_checkpoint",
    "load_recipe",
    "prune",
    "quantize",
    "register_backbone",
    "register_config",
    "sensitivity",
    "train",
    "visualize",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    import importlib

    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
