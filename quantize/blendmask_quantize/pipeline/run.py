"""The line from a job to a bundle with its measured accuracy."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from blendmask_edge.benchmark.side_by_side import speedup
from blendmask_edge.bundle.manifest import Recipe as RecipeEntry
from blendmask_edge.bundle.writer import write_bundle
from blendmask_quantize.export.bundle import Description, Measured, make_manifest
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import Parity, check_parity
from blendmask_quantize.pipeline.calibration_set import checked
from blendmask_quantize.pipeline.job import Job
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.pipeline.report import Report, VariantReport
from blendmask_quantize.quantization.inputs import NetworkInputs
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.validation.clipping import clipped_shares, most_clipped
from blendmask_quantize.validation.fidelity import Fidelity
from blendmask_quantize.validation.fidelity_limits import check_fidelity
from blendmask_quantize.validation.measure import Accuracy, compare_variants, measure_accuracy, measure_latency

FLOAT, CPU = "float", "cpu"


@dataclass(frozen=True)
class _Exported:
    """The graphs of all variants in ONNX, and how each compares with its torch graph."""

    graphs: Mapping[str, bytes]
    parities: Mapping[str, Parity]


def run(job: Job) -> Report:
    """Quantize by the job's recipe and write the bundle.

    Raises:
        CalibrationError: the guard refuses the images, or the quantized network.
        AnnotationError: the evaluation data are trained on, or the labels to train on do not fit.
        CheckpointError: an unfinished run lies beside the output, or one of other options is to be resumed.
        DivergedError: a loss of training is not finite.
        ParityError: an exported graph disagrees with the network.
        OutputError: the bundle cannot be written.
    """
    with job.resources:
        quantized = job.recipe.run(job)
        exported = _export(quantized)
        with _scratch_bundle(quantized, exported) as path:
            quantized, fidelity = _compare(quantized, path)
            latency = measure_latency(path, (FLOAT, CPU), quantized.images.frames)
            accuracy = _measure(job, path, list(exported.graphs))
        _write(quantized, exported, accuracy, fidelity)
    return _report(quantized, exported, accuracy, latency, fidelity)


def _export(quantized: Quantized) -> _Exported:
    """ONNX of each network, compared on the image with most instances, from the image on."""
    job = quantized.job
    networks = {FLOAT: job.network} | {variant: quantized.calibrated.render(variant) for variant in VARIANTS}
    graphs, parities = {}, {}
    on_step = job.progress("exporting", len(networks))
    for variant, network in networks.items():
        graph = job.graph(network, live_rows=variant == CPU)
        exported = export_onnx(graph)
        parities[variant] = check_parity(job.checkpoint.model, graph, exported, quantized.fullest)
        graphs[variant] = exported.SerializeToString()
        on_step()
    return _Exported(graphs, parities)


def _describe(quantized: Quantized) -> Description:
    job = quantized.job
    recipe = RecipeEntry(name=job.recipe.name, version=job.recipe.version, options=quantized.recipe_options())
    return Description(
        job.checkpoint, job.size, job.bounds, recipe, quantized.images.record, quantized.calibrated.ranges,
        job.options.license,
    )  # fmt: skip


@contextmanager
def _scratch_bundle(quantized: Quantized, exported: _Exported) -> Iterator[Path]:
    """A bundle of all graphs, so that they are measured as the SDK runs them; removed afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        manifest = make_manifest(_describe(quantized), exported.graphs)
        yield write_bundle(Path(scratch) / "all.bmz", manifest, exported.graphs)


def _compare(quantized: Quantized, path: Path) -> tuple[Quantized, dict[str, Fidelity]]:
    """Distance of each quantized graph from the float one, checked by the guard."""
    job, images = quantized.job, quantized.images.compared
    on_frame = job.progress("comparing with float", (1 + len(VARIANTS)) * len(images))
    fidelity = compare_variants(path, FLOAT, VARIANTS, [image[0] for image in images], on_frame)
    shares = clipped_shares(quantized.calibrated, NetworkInputs(job.checkpoint.model, images))
    record = replace(quantized.images.record, clipped=most_clipped(quantized.calibrated, shares))
    found = checked(replace(quantized.images, record=record), check_fidelity(fidelity), job.options.allow)
    return replace(quantized, images=found), fidelity


def _measure(job: Job, path: Path, variants: list[str]) -> Accuracy:
    """Accuracy of every graph. Whatever goes wrong here must not cost the finished bundle."""
    try:
        if not job.evaluation:
            return Accuracy()
        return measure_accuracy(path, variants, CPU, job.evaluation[0], job.progress)
    except Exception as error:
        return Accuracy(failure=str(error) or type(error).__name__)


def _write(quantized: Quantized, exported: _Exported, accuracy: Accuracy, fidelity: Mapping[str, Fidelity]) -> None:
    job = quantized.job
    graphs = {name: data for name, data in exported.graphs.items() if name != FLOAT or job.options.keep_float}
    measured = Measured(accuracy.measurements, {name: found.record() for name, found in fidelity.items()})
    if accuracy.display is not None:
        measured = replace(
            measured, display_threshold=accuracy.display.score, display_measurement=accuracy.display_measurement
        )
    write_bundle(job.output, make_manifest(_describe(quantized), graphs, measured), graphs)


def _report(
    quantized: Quantized, exported: _Exported, accuracy: Accuracy, latency: Mapping[str, list[float]],
    fidelity: Mapping[str, Fidelity],
) -> Report:  # fmt: skip
    variants = {
        name: VariantReport(
            len(data),
            exported.parities[name],
            accuracy.metrics(name),
            statistics.median(latency[name]) if name in latency else None,
            fidelity.get(name),
        )
        for name, data in exported.graphs.items()
    }
    return Report(
        quantized.job.output, variants, speedup(latency, FLOAT, CPU), quantized.images, quantized.refined,
        quantized.training, accuracy.display, accuracy.failure,
    )  # fmt: skip
