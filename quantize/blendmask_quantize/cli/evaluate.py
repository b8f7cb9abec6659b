"""`blendmask evaluate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from blendmask_edge import require_signature as required
from blendmask_edge.cli.arguments import SignatureOption
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
    processes: Annotated[int, typer.Option(help="Processes on this machine.", min=1, max=256)] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster to use instead: HOST:PORT, auto or local.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of each process. Default: its share of the cores.", min=1, max=256)
    ] = None,
    shards: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep finished results; the same command continues from them."),
    ] = None,
    require_signature: SignatureOption = None,
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
    if model.suffix != ".bmz" and require_signature:
        raise typer.BadParameter("--require-signature applies to bundles only; checkpoints are not signed")
    measured = [0]
    with tables.progress() as progress, required(require_signature) if require_signature else nullcontext():

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
            processes=processes,
            ray=ray,
            threads=threads,
            shards=shards,
        )
    tables.show_metrics(str(model), metrics, measured[0], as_json=as_json)
