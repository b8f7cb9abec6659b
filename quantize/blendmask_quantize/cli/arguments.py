"""Arguments that several commands have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

_DIGITS = re.compile("[0-9]{1,9}")

CheckpointArgument = Annotated[Path, typer.Argument(metavar="CKPT", help=".safetensors or .pth", show_default=False)]
ConfigOption = Annotated[str | None, typer.Option(help="Configuration, or AdelaiDet YAML; ours name their own.")]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Class names: COCO JSON, or a text file with one per line. Default: the checkpoint's."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
SizeOption = Annotated[str | None, typer.Option(metavar="HxW", help="Network input; the test size if left out.")]
ImagesOption = Annotated[Path, typer.Option(help="Folder of the images.", show_default=False)]
AnnotationsOption = Annotated[Path, typer.Option(help="COCO instances JSON.", show_default=False)]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width of an option's text."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(_DIGITS.fullmatch(part) for part in parts):
        raise typer.BadParameter(f"{text!r:.80} is not a size: give height x width, e.g. 384x512")
    return int(parts[0]), int(parts[1])
