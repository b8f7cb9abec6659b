"""`blendmask evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_quantize.cli.arguments import AnnotationsOption, ClassesOption, ConfigOption, ImagesOption, JsonOption
from blendmask_quantize.runs.progress import OnStep


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="CKPT|M.bmz", help="Checkpoint or bundle.", show_default=False)],
    images: ImagesOption,
    annotations: AnnotationsOption,
    config: ConfigOption = None,
    classes: ClassesOption = None,
    variant: Annotated[str | None, typer.Option(help="Graph of a bundle: cpu, tensorrt or float.")] = None,
    runtime: Annotated[str, typer.Option(help="Runtime for a bundle.")] = "onnxruntime",
    limit: Annotated[int | None, typer.Option(help="Evaluate only the first N images.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure COCO box and mask AP of a checkpoint or a bundle."""
    from blendmask_quantize.api.evaluate import evaluate as run
    from blendmask_quantize.cli import tables

    if model.suffix == ".bmz" and config is not None:
        raise typer.BadParameter("--config applies to checkpoints only; a bundle contains its configuration")
    if model.suffix == ".bmz" and classes is not None:
        raise typer.BadParameter("--classes applies to checkpoints only; a bundle contains its class names")
    if model.suffix != ".bmz" and variant is not None:
        raise typer.BadParameter("--variant applies to bundles only; a checkpoint has one network")
    measured = [0]
    with tables.progress() as progress:

        def counted(name: str, total: int) -> OnStep:
            measured[0] = total
            return progress(name, total)

        metrics = run(
            model,
            images,
            annotations,
            config=config,
            classes=classes,
            variant=variant,
            runtime=runtime,
            limit=limit,
            progress=counted,
        )
    tables.show_metrics(str(model), metrics, measured[0], as_json=as_json)
