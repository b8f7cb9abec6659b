"""The workstation's commands: train, evaluate, quantize. Each is a call into a library function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blendmask_quantize.cli.teach import teach
from blendmask_quantize.cli.train import train
from blendmask_quantize.cli.visualize import visualize

if TYPE_CHECKING:
    from blendmask_edge.instances import Labels
    from blendmask_quantize.pruning.job import PruneOptions
    from blendmask_quantize.validation.evaluate import Predictor

CheckpointArgument = Annotated[Path, typer.Argument(metavar="CKPT", help=".safetensors or .pth", show_default=False)]
ConfigOption = Annotated[str | None, typer.Option(help="Configuration, or AdelaiDet YAML; ours name their own.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
ImagesOption = Annotated[Path, typer.Option(help="Folder of the images.", show_default=False)]
AnnotationsOption = Annotated[Path, typer.Option(help="COCO instances JSON.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to the `blendmask` application."""
    for command in (quantize, evaluate, train, teach, prune, visualize):
        app.command()(command)


def quantize(
    checkpoint: CheckpointArgument,
    calibration: Annotated[Path, typer.Option(help="Folder of calibration images.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="M.bmz", help="The bundle.", show_default=False)],
    config: ConfigOption = None,
    recipe: Annotated[str, typer.Option(help="How to shrink: ptq, qat, edge.")] = "ptq",
    annotations: Annotated[Path | None, typer.Option(help="COCO JSON of the images, to train on.")] = None,
    macs: Annotated[float | None, typer.Option(help="Edge: share of the work to keep; 0.7 if left out.")] = None,
    prune_iterations: Annotated[
        int | None, typer.Option(help="Edge: fine-tuning steps after pruning; 1000 if left out.", min=0)
    ] = None,
    iterations: Annotated[int, typer.Option(help="Qat, edge: training steps with quantizers.", min=1)] = 400,
    learning_rate: Annotated[float, typer.Option(help="Qat, edge: of those steps.", min=0)] = 5e-6,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where training was cut off.")] = False,
    estimator: Annotated[str, typer.Option(help="Ranges by: max, percentile, entropy, mse, auto.")] = "mse",
    steps: Annotated[str | None, typer.Option(metavar="A,B", help="Refinement steps, or none.")] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Network input; the test size if left out.")] = None,
    detections: Annotated[int, typer.Option(help="Most instances in a image.", min=1, max=100)] = 100,
    count: Annotated[int, typer.Option(help="Most calibration images.", min=1)] = 128,
    seed: Annotated[int, typer.Option(help="Of the calibration sample.", min=0, max=2**63 - 1)] = 0,
    allow: Annotated[list[str] | None, typer.Option(metavar="CODE", help="Override a refusal of the guard.")] = None,
    eval_images: Annotated[Path | None, typer.Option(help="Images to measure accuracy on.")] = None,
    eval_annotations: Annotated[Path | None, typer.Option(help="Their COCO instances JSON.")] = None,
    keep_float: Annotated[bool, typer.Option("--keep-float", help="Leave the float graph in the bundle.")] = False,
    license: Annotated[str, typer.Option(help="SPDX name of the model's license.")] = "unspecified",
    as_json: JsonOption = False,
) -> None:
    """Turn a checkpoint and calibration images into an INT8 bundle with its measured accuracy."""
    from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
    from blendmask_quantize.export.deployable import Bounds
    from blendmask_quantize.pipeline import report as tables
    from blendmask_quantize.pipeline import run as pipeline
    from blendmask_quantize.pipeline.calibration_set import CalibrationOptions
    from blendmask_quantize.pipeline.job import QuantizeOptions
    from blendmask_quantize.quantization.qat.options import schedule

    options = QuantizeOptions(
        calibration=CalibrationOptions(calibration, count, seed, estimator, tuple(allow or ())),
        recipe=recipe,
        size=_parse_size(size),
        bounds=Bounds(detections=detections),
        evaluation=_evaluation(eval_images, eval_annotations),
        keep_float=keep_float,
        license=license,
        annotations=annotations,
        pruning=_pruning(macs, prune_iterations),
        qat_options=schedule(iterations, learning_rate),
        resume=resume,
        steps=_parse_steps(steps),
    )
    with tables.progress() as stage:
        report = pipeline.quantize(load_checkpoint(checkpoint, config), output, options, stage)
    tables.show_report(report, as_json=as_json)


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="CKPT|M.bmz", help="Checkpoint or bundle.", show_default=False)],
    images: ImagesOption,
    annotations: AnnotationsOption,
    config: ConfigOption = None,
    variant: Annotated[str | None, typer.Option(help="Graph of a bundle: cpu, tensorrt, float.")] = None,
    runtime: Annotated[str, typer.Option(help="Runtime of a bundle.")] = "onnxruntime",
    limit: Annotated[int | None, typer.Option(help="Only the first images.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure COCO box and mask AP of a checkpoint or a bundle."""
    from blendmask_edge.evaluation.annotations import check_match, image_ids, read_coco
    from blendmask_quantize.pipeline import report as tables
    from blendmask_quantize.validation.evaluate import collect_results, score

    coco = read_coco(annotations)
    ids = image_ids(coco, images, limit)
    predict, labels = _predictor(model, config, variant, runtime)
    check_match(coco, images, ids, labels)
    with tables.progress() as stage:
        results = collect_results(predict, images, coco, ids, stage("evaluating", len(ids)))
    tables.show_metrics(str(model), score(coco, results, ids), len(ids), as_json=as_json)


def prune(
    checkpoint: CheckpointArgument,
    images: Annotated[list[Path], typer.Option(help="Folder of the images; repeat for more.", show_default=False)],
    annotations: Annotated[list[Path], typer.Option(help="COCO instances JSON, one a folder.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="P.safetensors", show_default=False)],
    macs: Annotated[float, typer.Option(help="Share of the multiply-accumulates to keep.")] = 0.7,
    config: ConfigOption = None,
    iterations: Annotated[int, typer.Option(help="Of fine-tuning; 0 leaves it out.", min=0)] = 1000,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    learning_rate: Annotated[float, typer.Option(min=0)] = 5e-4,
    precision: Annotated[str, typer.Option(help="bf16-mixed or 32-true.")] = "bf16-mixed",
    workers: Annotated[int, typer.Option(help="Processes that prepare views.", min=0)] = 2,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run with this output stopped.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Thin a checkpoint to a share of its work, and fine-tune it on COCO instances."""
    from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
    from blendmask_quantize.pipeline import report as tables
    from blendmask_quantize.pruning import job as pruning
    from blendmask_quantize.training.data import CocoImages
    from blendmask_quantize.training.options import TrainOptions

    if len(images) != len(annotations):
        raise typer.BadParameter(f"{len(images)} folders and {len(annotations)} annotation files: give one each")
    training = TrainOptions(
        iterations=iterations, batch=batch, learning_rate=learning_rate, precision=precision, workers=workers, seed=seed
    )
    options = pruning.PruneOptions(macs, pruning.fine_tuning(training))
    loaded = load_checkpoint(checkpoint, config)
    sources = [
        CocoImages(folder, file, loaded.config, training.augmentation)
        for folder, file in zip(images, annotations, strict=True)
    ]
    with tables.progress() as stage:
        report = pruning.prune(loaded, sources, output, options, stage, resume=resume)
    tables.show_pruning(report, as_json=as_json)


def _pruning(macs: float | None, iterations: int | None) -> PruneOptions | None:
    """How to prune, where an option says anything of it."""
    from dataclasses import replace

    from blendmask_quantize.pruning.job import PruneOptions, fine_tuning

    if macs is None and iterations is None:
        return None
    options = PruneOptions() if macs is None else PruneOptions(macs)
    if iterations is None:
        return options
    return replace(options, training=fine_tuning(replace(options.training, iterations=iterations)))


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise typer.BadParameter(f"{text!r} is no size: give height x width, e.g. 384x512")
    return int(parts[0]), int(parts[1])


def _parse_steps(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(name.strip() for name in text.split(","))


def _evaluation(images: Path | None, annotations: Path | None) -> Any:
    from blendmask_quantize.validation.measure import EvaluationData

    if images is None and annotations is None:
        return None
    if images is None or annotations is None:
        raise typer.BadParameter("--eval-images and --eval-annotations go together: give both")
    return EvaluationData(images, annotations)


def _predictor(path: Path, config: str | None, variant: str | None, runtime: str) -> tuple[Predictor, Labels]:
    if path.suffix == ".bmz":
        from blendmask_edge import MaskPredictor
        from blendmask_edge.instances import Labels

        if config is not None:
            raise typer.BadParameter("--config is for checkpoints: a bundle carries its own")
        bundle = MaskPredictor(path, runtime, variant=variant)
        return bundle, Labels(bundle.manifest.classes, bundle.manifest.category_ids)
    from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
    from blendmask_quantize.model.predictor import TorchPredictor

    if variant is not None:
        raise typer.BadParameter("--variant is for bundles: a checkpoint has one network")
    checkpoint = load_checkpoint(path, config)
    return TorchPredictor(checkpoint), checkpoint.labels
