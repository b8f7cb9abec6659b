"""Options of the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

_Number = TypeVar("_Number", int, float)

RunFolderOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the run; created if missing.", show_default=False)
]
IterationsOption = Annotated[int, typer.Option(help="Training steps.", min=1)]
BatchOption = Annotated[int, typer.Option(help="Augmented images per step and device.", min=1)]
LearningRateOption = Annotated[float, typer.Option(help="Peak learning rate.", min=0)]
WeightDecayOption = Annotated[float, typer.Option(help="Weight decay; not applied to normalization layers.", min=0)]
FrozenStagesOption = Annotated[
    int | None,
    typer.Option(help="Number of frozen backbone stages, from the stem. Default: the configuration's.", min=0),
]
CropOption = Annotated[str, typer.Option(help="Height x width of an augmented image, multiples of 32.")]
ScaleOption = Annotated[str, typer.Option(help="Range of the random scale; 1 is the test size.")]
WarmupOption = Annotated[
    int | None,
    typer.Option(help="Steps of linear warm-up. Default: a tenth of the run, at most 200.", min=0),
]
ClipOption = Annotated[float, typer.Option(help="Largest gradient norm; 0 disables clipping.", min=0)]
EmaOption = Annotated[
    float | None,
    typer.Option(help="Decay of the averaged weights; 0 disables averaging. Default: 0.998, less in short runs."),
]
PrecisionOption = Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")]
DevicesOption = Annotated[int, typer.Option(help="Devices per node, one process each.", min=1)]
NodesOption = Annotated[int, typer.Option(help="Number of nodes.", min=1)]
TensorBoardOption = Annotated[bool, typer.Option("--tensorboard", help="Write the losses for TensorBoard too.")]
SaveEveryOption = Annotated[int, typer.Option(help="Steps between saved states.", min=1)]
WorkersOption = Annotated[int, typer.Option(help="Processes that load and augment images.", min=0)]
SeedOption = Annotated[int, typer.Option(help="Seed of augmentation, initial weights and sampling.", min=0)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in this folder.")]


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
