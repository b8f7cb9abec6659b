"""Options of `blendmask quantize`, each under the name of its argument."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Calibration = Annotated[Path, typer.Option(help="Folder of calibration images.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="M.bmz", help="Bundle to write.", show_default=False)]
Recipe = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE.yaml",
        help="ptq: calibrate. qat: train with fake quantizers. edge: prune, fine-tune, then qat. "
        "edge-sparse: the same with 2:4 sparse weights. Or a recipe file.",
    ),
]
Annotations = Annotated[
    Path | None, typer.Option(help="qat, edge, --max-drop: COCO instances JSON of the calibration images.")
]
Macs = Annotated[float | None, typer.Option(help="edge: share of the multiply-accumulates to keep. Default: 0.7.")]
Parameters = Annotated[float | None, typer.Option(help="edge: share of the parameters to keep, instead.")]
Latency = Annotated[
    float | None, typer.Option(help="edge: share of the INT8 graph's time on this machine to keep, instead.")
]
Runtime = Annotated[
    str | None, typer.Option(help="--latency: runtime to time, onnxruntime or openvino. Default: onnxruntime.")
]
Protect = Annotated[
    list[str] | None,
    typer.Option(metavar="LAYER", help="edge: layer that is not pruned: name, glob, or re:PATTERN; repeatable."),
]
PruneIterations = Annotated[
    int | None, typer.Option(help="edge: fine-tuning steps after pruning. Default: 1000.", min=0)
]
Iterations = Annotated[int | None, typer.Option(help="qat, edge: QAT steps. Default: 400.", min=1)]
LearningRate = Annotated[float | None, typer.Option(help="qat, edge: peak learning rate of QAT. Default: 5e-6.", min=0)]
Teacher = Annotated[
    Path | None, typer.Option(help="qat: checkpoint to learn from, such as that before pruning. Default: CKPT.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run with this output.")]
Estimator = Annotated[
    str | None,
    typer.Option(help="Range estimator: max, percentile, entropy, mse, or auto for the best per tensor. Default: mse."),
]
Steps = Annotated[
    str | None, typer.Option(metavar="A,B", help="Refinement steps, or none. Default: those of the recipe.")
]
Ignored = Annotated[
    list[str] | None,
    typer.Option(metavar="LAYER", help="Layer that stays float: name, glob, or re:PATTERN; can be repeated."),
]
MaxDrop = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="Largest drop of mask AP, e.g. 1% or 0.01: layers go back to float until it holds on held-out images.",
    ),
]
MaxFloatMacs = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Largest share of MACs in float for --max-drop. Default: 50%.")
]
Detections = Annotated[int, typer.Option(help="Largest number of instances per image.", min=1, max=100)]
Candidates = Annotated[
    int, typer.Option(help="Largest number of pairs of location and class before suppression.", min=1, max=3840)
]
Count = Annotated[int | None, typer.Option(help="Largest number of calibration images. Default: 128.", min=1)]
Seed = Annotated[int | None, typer.Option(help="Seed of the calibration sample. Default: 0.", min=0, max=2**63 - 1)]
Allow = Annotated[
    list[str] | None, typer.Option(metavar="CODE", help="Override the refusal with this code; can be repeated.")
]
EvalImages = Annotated[Path | None, typer.Option(help="Folder of images to measure accuracy on.")]
EvalAnnotations = Annotated[Path | None, typer.Option(help="COCO instances JSON of these images.")]
Arithmetic = Annotated[
    bool,
    typer.Option(
        "--arithmetic", help="Measure the tensorrt graph in each arithmetic that a GPU may use, on --eval-images."
    ),
]
KeepFloat = Annotated[bool, typer.Option("--keep-float", help="Include the float graph in the bundle.")]
TorchTensorRT = Annotated[
    str | None,
    typer.Option(
        metavar="TARGET",
        help="Also compile the network by Torch-TensorRT for the GPU here, straight from PyTorch: name of this device.",
    ),
]
License = Annotated[str, typer.Option(help="SPDX name of the model's license.")]
Processes = Annotated[int, typer.Option(help="Processes that observe the calibration images.", min=1, max=256)]
RayAddress = Annotated[
    str | None, typer.Option("--ray", metavar="ADDRESS", help="Ray cluster to use instead: HOST:PORT, auto or local.")
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Print the plan, expected work, time and layers left in float; do nothing."),
]
