"""Options of `blendmask prune`, each under the name of its argument."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="P.safetensors", help="Checkpoint to write.", show_default=False)
]
Macs = Annotated[float | None, typer.Option(help="Share of the multiply-accumulates to keep, 0 to 1. Default: 0.7.")]
Parameters = Annotated[float | None, typer.Option(help="Share of the parameters to keep, instead.")]
Latency = Annotated[float | None, typer.Option(help="Share of the INT8 graph's time on this machine to keep, instead.")]
Runtime = Annotated[
    str | None, typer.Option(help="--latency: runtime to time, onnxruntime or openvino. Default: onnxruntime.")
]
Importance = Annotated[str, typer.Option(help="How channels are chosen: taylor, magnitude or bn_scale.")]
Multiple = Annotated[
    int | None,
    typer.Option(help="Channels come in multiples of this. Default: 8; for --latency, the fastest here.", min=1),
]
Protect = Annotated[
    list[str] | None,
    typer.Option(metavar="LAYER", help="Layer that is not pruned: name, glob, or re:PATTERN; can be repeated."),
]
Depth = Annotated[
    float, typer.Option(help="Drop residual blocks while the loss rises by this share at most, e.g. 0.02.", min=0)
]
Rounds = Annotated[int, typer.Option(help="Rounds of pruning, each with its share of the fine-tuning steps.", min=1)]
Distill = Annotated[bool, typer.Option("--distill", help="Fine-tune with the network before pruning as teacher, too.")]
Sparsity = Annotated[
    str | None, typer.Option(help="2:4 sets two of each four weights to zero, for GPUs from Ampere on.")
]
Iterations = Annotated[int, typer.Option(help="Fine-tuning steps; 0 skips fine-tuning.", min=0)]
Batch = Annotated[int, typer.Option(help="Augmented images per step.", min=1)]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate.", min=0)]
Precision = Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")]
Workers = Annotated[int, typer.Option(help="Processes that load and augment images.", min=0)]
Seed = Annotated[int, typer.Option(help="Seed of augmentation and sampling.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run with this output.")]
