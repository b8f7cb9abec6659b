"""Options of the commands that train, each under the name of its argument."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

_Number = TypeVar("_Number", int, float)

RunFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the run; created if missing.", show_default=False)
]
Config = Annotated[
    str | None,
    typer.Option(help="Name of a configuration, or AdelaiDet YAML file. Default: that of --weights, else LITE0_RT."),
]
StudentConfig = Annotated[
    str, typer.Option(help="Configuration of the student: a name, or AdelaiDet YAML file.", show_default=False)
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Checkpoint to start from; it may have other classes. Default: ImageNet backbone."),
]
Teacher = Annotated[Path | None, typer.Option(help="Checkpoint of a teacher with the same classes, for distillation.")]
Iterations = Annotated[int, typer.Option(help="Training steps.", min=1)]
Batch = Annotated[int, typer.Option(help="Augmented images per step and device.", min=1)]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate.", min=0)]
BackboneRate = Annotated[float, typer.Option(help="Learning rate of the backbone, relative to --learning-rate.", min=0)]
WeightDecay = Annotated[float, typer.Option(help="Weight decay; not applied to normalization layers.", min=0)]
FrozenStages = Annotated[
    int | None,
    typer.Option(help="Number of frozen backbone stages, from the stem. Default: the configuration's.", min=0),
]
FrozenNorms = Annotated[bool, typer.Option("--frozen-norms", help="Freeze the backbone's normalization layers.")]
Crop = Annotated[str, typer.Option(help="Height x width of an augmented image, multiples of 32.")]
Scale = Annotated[str, typer.Option(help="Range of the random scale; 1 is the test size.")]
Paste = Annotated[float, typer.Option(help="Copy-paste: share of images that get instances of another image, 0 to 1.")]
Dice = Annotated[float, typer.Option(help="Weight of a Dice loss of the masks; 0 disables it.", min=0)]
RepeatThreshold = Annotated[
    float, typer.Option(help="Repeat-factor sampling: share of images below which a class is repeated.")
]
ClassWeight = Annotated[
    list[str] | None, typer.Option(help="CLASS=FACTOR: sample a class more often; can be repeated.")
]
KeepEmpty = Annotated[bool, typer.Option("--keep-empty", help="Keep images without annotations as negatives.")]
Optimizer = Annotated[str, typer.Option(help="adamw or sgd.")]
Schedule = Annotated[str, typer.Option(help="cosine, or steps: divide the rate by ten at 78 and 93 % of the run.")]
Warmup = Annotated[
    int | None,
    typer.Option(help="Steps of linear warm-up. Default: a tenth of the run, at most 200.", min=0),
]
Clip = Annotated[float, typer.Option(help="Largest gradient norm; 0 disables clipping.", min=0)]
Ema = Annotated[
    float | None,
    typer.Option(help="Decay of the averaged weights; 0 disables averaging. Default: 0.998, less in short runs."),
]
Precision = Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")]
Devices = Annotated[int, typer.Option(help="Devices per node, one process each.", min=1)]
Nodes = Annotated[int, typer.Option(help="Number of nodes.", min=1)]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write the losses for TensorBoard too.")]
SaveEvery = Annotated[int, typer.Option(help="Steps between saved states.", min=1)]
Workers = Annotated[int, typer.Option(help="Processes that load and augment images.", min=0)]
Seed = Annotated[int, typer.Option(help="Seed of augmentation, initial weights and sampling.", min=0)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in this folder.")]


def parse_pair(text: str, separator: str, number: type[_Number]) -> tuple[_Number, _Number]:
    """Parse two numbers."""
    try:
        first, second = (number(part) for part in text.lower().split(separator))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give two numbers, e.g. 3{separator}4") from error
    return first, second


def parse_size(text: str) -> tuple[int, int]:
    """Parse height and width, e.g. 320x416."""
    return parse_pair(text, "x", int)


def parse_range(text: str) -> tuple[float, float]:
    """Parse the least and the largest value, e.g. 0.75,1.5."""
    return parse_pair(text, ",", float)
