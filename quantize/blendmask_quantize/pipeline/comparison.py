"""From a quantized network to graphs that are compared with float."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blendmask_calibration.checks.findings import Finding
from blendmask_edge.bundle.manifest import Recipe as RecipeEntry
from blendmask_quantize.export.bundle import Description, make_manifest
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import Parity, check_parity
from blendmask_quantize.export.sparsity import check_sparsity
from blendmask_quantize.pipeline.calibration_set import CalibrationReport
from blendmask_quantize.pipeline.candidate import CPU, FLOAT, TENSORRT, Account, Candidate, Trained
from blendmask_quantize.pipeline.options import CANDIDATES_MOST
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.quantization.inputs import NetworkInputs
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.quantized_layers import count_sparse
from blendmask_quantize.validation.clipping import clipped_shares, most_clipped
from blendmask_quantize.validation.fidelity import Fidelity
from blendmask_quantize.validation.fidelity_limits import check_fidelity
from blendmask_quantize.validation.measure import compare_variants


def compared(quantized: Quantized) -> Candidate:
    """Export every variant, see that it computes what its network does, and compare INT8 with float.

    Raises:
        ParityError: a graph disagrees with its network.
        OutputError: the folder of temporary files has no room.
    """
    exported = _export(quantized)
    fidelity = _compare(quantized, exported)
    account = replace(exported.account, fidelity=fidelity, calibration=_report(quantized, exported, fidelity))
    return replace(exported, account=account)


def _export(quantized: Quantized) -> Candidate:
    """The graphs, each compared with its network on the image with most instances, from the image on."""
    job = quantized.job
    networks = {FLOAT: job.network} | {variant: quantized.calibrated.render(variant) for variant in VARIANTS}
    on_step = job.progress("exporting", len(networks) + job.options.keep_float)
    program = b""
    graphs: dict[str, bytes] = {}
    parities: dict[str, Parity] = {}
    for variant, network in networks.items():
        graph = job.graph(network, live_rows=variant in (FLOAT, CPU))
        exported = export_onnx(graph)
        parities[variant] = check_parity(job.checkpoint.model, graph, exported, quantized.fullest)
        graphs[variant] = exported.SerializeToString()
        if variant == TENSORRT and job.device is not None:
            program = job.device.export(graph)
        on_step()
    static = b""
    if job.options.keep_float:
        graph = job.graph(job.network)
        exported = export_onnx(graph)
        parities[FLOAT] = check_parity(job.checkpoint.model, graph, exported, quantized.fullest)
        static = exported.SerializeToString()
        on_step()
    training = {name: Trained(str(report), report.record()) for name, report in quantized.training.items()}
    account = Account(parities, {}, quantized.images.report, quantized.refined, training)
    sparsity = check_sparsity(
        {variant: graphs[variant] for variant in VARIANTS}, count_sparse(quantized.calibrated.traced, CPU)
    )
    return Candidate(graphs, static, make_manifest(_describe(quantized, sparsity), graphs), account, program)


def _describe(quantized: Quantized, sparsity: dict[str, Any]) -> Description:
    job = quantized.job
    options = quantized.recipe_options() | ({"sparsity": sparsity} if sparsity else {})
    recipe = RecipeEntry(name=job.recipe.name, version=job.recipe.version, options=options)
    return Description(
        job.checkpoint, job.size, job.bounds, recipe, quantized.images.record, quantized.calibrated.ranges,
        job.options.license,
    )  # fmt: skip


def _compare(quantized: Quantized, exported: Candidate) -> dict[str, Fidelity]:
    """Distance of each quantized graph from the float one, on images that gave no ranges."""
    images = quantized.images.compared
    on_frame = quantized.job.progress("comparing with float", (1 + len(VARIANTS)) * len(images))
    with exported.scratch_bundle() as path:
        return compare_variants(path, FLOAT, VARIANTS, [image[0] for image in images], on_frame)


def _report(quantized: Quantized, exported: Candidate, fidelity: dict[str, Fidelity]) -> CalibrationReport:
    """The report with the tensors that are clipped most, and findings of the comparison, which are not checked yet."""
    inputs = NetworkInputs(quantized.job.checkpoint.model, quantized.images.compared)
    clipped = most_clipped(quantized.calibrated, clipped_shares(quantized.calibrated, inputs))
    report = quantized.images.report
    left_out = _check_candidates(exported.account.parities[FLOAT], quantized.job.bounds.candidates)
    findings = (*report.warnings, *check_fidelity(fidelity), *left_out)
    return CalibrationReport(replace(report.record, clipped=clipped), findings)


def _check_candidates(parity: Parity, compared: int) -> list[Finding]:
    """Warn if the graphs lack instances of the calibration image with most of them, since they compare fewer pairs."""
    if not parity.left_out:
        return []
    enough = min(CANDIDATES_MOST, -(-parity.candidates // 256) * 256)
    advice = f"--candidates {enough} takes more" if compared < enough else "More cannot be compared"
    message = (
        f"One calibration image has {parity.candidates} pairs of location and class above the score threshold, and the "
        f"graphs compare the best {compared}. Instances of low scores that are left out: {parity.left_out}. {advice}."
    )
    return [Finding("warn", "candidates", message, parity.left_out, 0, None)]
