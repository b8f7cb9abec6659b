"""The parts of a verification: each does one thing on one route, and returns its row. A process runs one of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence

import msgspec
import numpy as np

from blendmask_edge.benchmark.latency import PERCENTILES
from blendmask_edge.benchmark.machine import usable_cores
from blendmask_edge.benchmark.measure import Measured, measure_in_turn
from blendmask_edge.benchmark.reference import Reference
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.comparison.compare import compare
from blendmask_edge.comparison.result import KINDS, SCORE_SLACK
from blendmask_edge.compilation.compiler import compile_bundle
from blendmask_edge.compilation.options import CompileOptions
from blendmask_edge.verification.images import image_entries, open_images
from blendmask_edge.verification.job import write_json
from blendmask_edge.verification.layers import quantized_convolutions, read_layers
from blendmask_edge.verification.open_route import open_route
from blendmask_edge.verification.report import LEFT, PASSED, Row
from blendmask_edge.verification.routes import AGREEMENT, BUILD, LAYERS, MEASURE, SOAK
from blendmask_edge.verification.state import StateRecorder

if TYPE_CHECKING:
    from blendmask_edge.bundle.manifest import Manifest, Measurement
    from blendmask_edge.verification.job import Job
    from blendmask_edge.verification.routes import Route

MOST_CHANGED = 0.10
"""Share of the instances that may differ from those of the same graph on the CPU."""
MOST_AP_LOST = 0.005
"""How far mask AP may fall below that of the same graph on the CPU."""
INSTANCES = "instances.json"
_AP = ("mask_ap", "mask_ap50", "mask_ap75", "box_ap")
_TIMES = ("latency", "preprocess", "network", "postprocess")
_SOAK_WARM_UP = 3
_MOST_DRIFT = 0.10


def build(job: Job, route: Route) -> Row:
    """Compile the graph, or let the runtime build it; the engine lies in the cache then."""
    start, bundle = time.perf_counter(), Bundle.open(job.bundle)
    if not route.compiles:
        with open_route(job, route):
            return _row(route, BUILD, {"build_seconds": time.perf_counter() - start})
    options = CompileOptions(route.precision, runtime=route.runtime)
    engine = compile_bundle(bundle, job.target, options=options)
    metrics = {"build_seconds": time.perf_counter() - start, "engine_bytes": float(engine.path.stat().st_size)}
    notes = ["The engine was in the cache; the time is that of finding it."] if engine.reused else []
    return _row(route, BUILD, metrics, notes=notes)


def layers(job: Job, route: Route) -> Row:
    """Read the precision of each layer from the engine; each quantized convolution must read INT8."""
    import tensorrt as trt

    from blendmask_edge.runtimes.tensorrt.inspector import layer_information
    from blendmask_edge.runtimes.tensorrt.session import engine_for

    graph = Bundle.open(job.bundle).graph(route.variant)
    described = read_layers(layer_information(trt, *engine_for(graph)), quantized_convolutions(graph))
    notes = [f"{len(described.unnamed)} quantized convolutions are named by no layer."] if described.unnamed else []
    advice = "Report it with this file; compare the time with that of tensorrt-fp16."
    return _row(route, LAYERS, described.metrics(), described.faults(), advice, notes)


def measure(job: Job, route: Route) -> Row:
    """Measure accuracy and latency on the same frames, and keep the instances for the comparison."""
    with open_route(job, route) as predictor, Reference(job.threads or usable_cores()) as reference:
        manifest = Bundle.open(job.bundle).manifest
        images = open_images(job, manifest)
        with StateRecorder() as state:
            (measured,) = measure_in_turn([predictor], images, reference, job.frames, threads=job.threads)
        write_json(
            job.part_file(route.name, MEASURE, INSTANCES),
            _coco(manifest, image_entries(images), measured.results),
        )
    metrics = {**_accuracy(measured.metrics), **_latency(measured), **state.summary()}
    metrics["disturbances"] = float(len(measured.disturbances))
    return _row(route, MEASURE, metrics, notes=measured.remarks)


def agreement(job: Job, route: Route) -> Row:
    """Compare detections, masks and accuracy with those of the same graph on the CPU."""
    reference = str(route.reference)
    before, after = (job.part_file(name, MEASURE, INSTANCES) for name in (reference, route.name))
    manifest = Bundle.open(job.bundle).manifest
    result = compare(before, after, score_threshold=manifest.display_threshold)
    metrics = {"instances": float(result.instances), "changed_share": result.changed_share}
    metrics.update({kind.replace(" ", "_"): float(result.count(kind)) for kind in KINDS})
    metrics.update(_accuracy_differences(job, route, manifest))
    faults = []
    if result.changed_share > MOST_CHANGED:
        faults.append(f"{result.summary()}; at most {MOST_CHANGED:.0%} may differ from {reference}")
    for name, of in (("mask_ap_difference", reference), ("mask_ap_difference_to_manifest", "the manifest")):
        if metrics.get(name, 0.0) < -MOST_AP_LOST:
            faults.append(f"mask AP is {-metrics[name]:.4f} below that of {of}; at most {MOST_AP_LOST} is allowed")
    return _row(route, AGREEMENT, metrics, faults, f"Look at the images: blendmask compare {before} {after}")


def soak(job: Job, route: Route) -> Row:
    """Predict without a pause, and see whether the time of a frame, the clocks or the temperature drift."""
    with open_route(job, route) as predictor:
        images = open_images(job, Bundle.open(job.bundle).manifest)
        frames = [images.read(image_id) for image_id in list(images.ids)[:_SOAK_WARM_UP]]
        for frame in frames:
            predictor(frame).crops()
        times: List[float] = []
        with StateRecorder() as state:
            end = time.perf_counter() + job.soak_seconds
            while time.perf_counter() < end or not times:
                start = time.perf_counter()
                predictor(frames[len(times) % len(frames)]).crops()
                times.append(time.perf_counter() - start)
    quarter = max(1, len(times) // 4)
    first, last = (1000 * float(np.median(part)) for part in (times[:quarter], times[-quarter:]))
    metrics = {"frames": float(len(times)), "seconds": sum(times), "first_quarter_p50_ms": first}
    metrics.update(last_quarter_p50_ms=last, drift=last / first - 1, p99_ms=1000 * float(np.percentile(times, 99)))
    steady = metrics["drift"] <= _MOST_DRIFT
    notes = [] if steady else [f"Frames became {metrics['drift']:.0%} slower: see the clocks."]
    return _row(route, SOAK, {**metrics, **state.summary()}, notes=notes)


PARTS: Mapping[str, Callable[[Job, Route], Row]] = {
    BUILD: build,
    LAYERS: layers,
    MEASURE: measure,
    AGREEMENT: agreement,
    SOAK: soak,
}


def _row(
    route: Route,
    part: str,
    metrics: Mapping[str, float],
    faults: Sequence[str] = (),
    advice: str = "",
    notes: Sequence[str] = (),
) -> Row:
    """Return the row of a part that was done; a fault means that a limit was left."""
    return Row(
        route=route.name,
        part=part,
        status=LEFT if faults else PASSED,
        reason="; ".join(faults),
        next=advice if faults else "",
        metrics={name: round(float(value), 5) for name, value in metrics.items()},
        notes=list(notes),
    )


def _accuracy(metrics: Mapping[str, float]) -> Dict[str, float]:
    return {name: metrics[name] for name in metrics if "_ap" in name}


def _latency(measured: Measured) -> Dict[str, float]:
    names = [f"{stage}_p{percent}_ms" for stage in _TIMES for percent in PERCENTILES]
    return {**{name: measured.metrics[name] for name in names}, "frames": float(measured.frames)}


def _coco(manifest: Manifest, entries: List[Dict[str, Any]], results: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return predictions as `blendmask predict` writes them, without instances that no comparison looks at."""
    least = manifest.display_threshold - SCORE_SLACK
    categories = [{"id": number, "name": name} for number, name in zip(manifest.category_ids, manifest.classes)]
    annotations = [result for result in results if result["score"] >= least]
    return {"images": entries, "annotations": annotations, "categories": categories}


def _metrics_of(job: Job, route: str) -> Dict[str, float]:
    return msgspec.json.decode(job.part_file(route, MEASURE).read_bytes(), type=Row).metrics


def _accuracy_differences(job: Job, route: Route, manifest: Manifest) -> Dict[str, float]:
    """Return AP less that of the reference, and less that of the manifest if it was measured on the same data."""
    here, reference = _metrics_of(job, route.name), _metrics_of(job, str(route.reference))
    differences = {f"{name}_difference": here[name] - reference[name] for name in _AP if name in here}
    stated = _stated(job, manifest.metrics.get(route.variant, []))
    if "mask_ap" in here and stated is not None:
        differences["mask_ap_difference_to_manifest"] = here["mask_ap"] - stated
    return differences


def _stated(job: Job, measurements: Sequence[Measurement]) -> Optional[float]:
    if job.annotations is None:
        return None
    data = f"{Path(job.images).absolute().name} ({Path(job.annotations).name})"
    return next((entry.metrics.get("mask_ap") for entry in measurements if entry.data == data), None)
