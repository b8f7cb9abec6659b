"""Options that the commands which train share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

_Number = TypeVar("_Number", int, float)

RunFolderOption = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the run; made if missing.", show_default=False)
]
IterationsOption = Annotated[int, typer.Option(help="Optimizer steps.", min=1)]
BatchOption = Annotated[int, typer.Option(help="Augmented images a step and device.", min=1)]
LearningRateOption = Annotated[float, typer.Option(help="Peak learning rate.", min=0)]
WeightDecayOption = Annotated[float, typer.Option(help="Of weights; normalizations are not decayed.", min=0)]
FrozenStagesOption = Annotated[
    int | None, typer.Option(help="Backbone stages that stay as they are; the configuration's if left out.", min=0)
]
CropOption = Annotated[str, typer.Option(help="Height x width of an augmented image, multiples of 32.")]
ScaleOption = Annotated[str, typer.Option(help="Range of the scale; 1 is the size at test time.")]
WarmupOption = Annotated[
    int | None,
    typer.Option(help="Steps in which the rate rises; a tenth of the run if left out, 200 at most.", min=0),
]
ClipOption = Annotated[float, typer.Option(help="Largest norm of the gradient; 0 does not clip.", min=0)]
EmaOption = Annotated[
    float | None,
    typer.Option(help="Decay of the averaged weights; 0 saves the last ones. 0.998 if left out, less in short runs."),
]
PrecisionOption = Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")]
DevicesOption = Annotated[int, typer.Option(help="Processes on each node, one a device.", min=1)]
NodesOption = Annotated[int, typer.Option(help="Machines.", min=1)]
TensorBoardOption = Annotated[bool, typer.Option("--tensorboard", help="Write for TensorBoard as well.")]
SaveEveryOption = Annotated[int, typer.Option(help="Steps between states to resume from.", min=1)]
WorkersOption = Annotated[int, typer.Option(help="Processes that load and augment images.", min=0)]
SeedOption = Annotated[int, typer.Option(help="Fixes augmentation, initial weights and sampling.", min=0)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on where the run in the folder was stopped.")]


def parse_pair(text: str, separator: str, number: type[_Number]) -> tuple[_Number, _Number]:
    """Two numbers of an option's text."""
    try:
        first, second = (number(part) for part in text.lower().split(separator))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give two numbers, as in 3{separator}4") from error
    return first, second


def parse_size(text: str) -> tuple[int, int]:
    """Height and width, e.g. 320x416."""
    return parse_pair(text, "x", int)


def parse_range(text: str) -> tuple[float, float]:
    """Least and largest value, e.g. 0.75,1.5."""
    return parse_pair(text, ",", float)
