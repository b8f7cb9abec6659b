"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CheckpointArgument = Annotated[Path, typer.Argument(metavar="CKPT", help=".safetensors or .pth", show_default=False)]
ConfigOption = Annotated[str | None, typer.Option(help="Configuration, or AdelaiDet YAML; ours name their own.")]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Names of the classes: COCO JSON, or text, one a line; the checkpoint's if left out."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
ImagesOption = Annotated[Path, typer.Option(help="Folder of the images.", show_default=False)]
AnnotationsOption = Annotated[Path, typer.Option(help="COCO instances JSON.", show_default=False)]
