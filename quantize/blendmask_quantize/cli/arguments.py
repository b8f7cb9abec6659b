"""Arguments that several commands have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blendmask_edge.errors import ConfigError

if TYPE_CHECKING:
    from blendmask_quantize.model.patterns import Pattern

_DIGITS = re.compile("[0-9]{1,9}")

CheckpointArgument = Annotated[
    Path, typer.Argument(metavar="CKPT", help="Checkpoint: .safetensors, .pth or .pkl.", show_default=False)
]
ConfigOption = Annotated[
    str | None,
    typer.Option(help="Name of a configuration, or AdelaiDet YAML file. Default: the checkpoint's, else recognized."),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Class names: COCO JSON, or a text file with one per line. Default: the checkpoint's."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SizeOption = Annotated[
    str | None, typer.Option(metavar="HxW", help="Network input. Default: the configuration's test size.")
]
ImagesOption = Annotated[Path, typer.Option(help="Folder of images.", show_default=False)]
ImageFoldersOption = Annotated[list[Path], typer.Option(help="Folder of images; can be repeated.", show_default=False)]
AnnotationFilesOption = Annotated[
    list[Path], typer.Option(help="COCO instances JSON, one per folder.", show_default=False)
]
AnnotationsOption = Annotated[Path, typer.Option(help="COCO instances JSON of the images.", show_default=False)]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse height and width, e.g. 384x512."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(_DIGITS.fullmatch(part) for part in parts):
        raise typer.BadParameter(f"{text!r:.80} is not a size: give height x width, e.g. 384x512")
    return int(parts[0]), int(parts[1])


def parse_patterns(texts: list[str] | None) -> tuple[Pattern, ...]:
    """Parse names and patterns of layers."""
    from blendmask_quantize.model.patterns import parse_pattern

    try:
        return tuple(map(parse_pattern, texts or ()))
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def parse_share(text: str | None) -> float | None:
    """Parse a share, e.g. 1% or 0.01."""
    if text is None:
        return None
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r:.80} is not a share: give percent or a number, e.g. 1% or 0.01") from error
