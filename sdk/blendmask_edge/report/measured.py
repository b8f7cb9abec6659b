"""Measure the graphs of a report side by side: time, accuracy, layers, and what they predict."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from blendmask_edge.benchmark.layers import LayerTime, time_layers
from blendmask_edge.benchmark.machine import this_machine, usable_cores
from blendmask_edge.benchmark.measure import Measured, Track, measure_in_turn
from blendmask_edge.benchmark.reference import Reference
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.bundle.tensors import constant_inputs
from blendmask_edge.comparison.compare import MASK_IOU
from blendmask_edge.comparison.detections import Detection, PredictedImage, Predictions, short_names
from blendmask_edge.comparison.graphs import NamedGraph
from blendmask_edge.comparison.result import SCORE_SLACK, Comparison, compare_predictions
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.imaging import image_size, preprocess, read_image
from blendmask_edge.imaging.folder import images_in
from blendmask_edge.labels import Labels
from blendmask_edge.predictor import MaskPredictor
from blendmask_edge.report.entry import Entry, distinct
from blendmask_edge.runtimes.registry import AUTO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.storage.atomic import PathLike

FLOAT = "float"
_PROFILED_IMAGES = 8


@dataclass(frozen=True)
class Plan:
    """How to measure: arguments of `MaskPredictor`, the least number of timed frames, and what counts as changed.

    `score_threshold` is the score from which changed instances count; None takes that of the bundle.
    """

    images: PathLike
    annotations: Optional[PathLike] = None
    runtime: str = AUTO
    threads: Optional[int] = None
    frames: int = 200
    score_threshold: Optional[float] = None


@dataclass(frozen=True)
class FolderImages:
    """The images of a folder, without annotations; ids are their places by name."""

    paths: Sequence[Path]

    @property
    def ids(self) -> Sequence[int]:
        """Ids of the images."""
        return range(len(self.paths))

    def read(self, image_id: int) -> NDArray[np.uint8]:
        """Return an image, (H, W, 3) uint8 RGB."""
        return read_image(self.paths[image_id])


Opened = Tuple[NamedGraph, MaskPredictor]
Images = Union[AnnotatedImages, FolderImages]


def measure_graphs(
    graphs: Sequence[NamedGraph], plan: Plan, track: Track = iter
) -> Tuple[List[Entry], Optional[Comparison]]:
    """Measure graphs in turn, and compare what the first and the last one predict.

    Args:
        graphs: of bundles; a single bundle stands for its float graph, if it has one, and its preferred one.
        plan: on what and how.
        track: goes through the frames.

    Returns:
        The entries, and the comparison if there are two graphs or more.

    Raises:
        AnnotationError, ImageError: images and annotations do not fit each other or the bundle.
        BlendMaskError: as `MaskPredictor`.
    """
    with ExitStack() as stack:
        images = _images(plan)
        predictors = _open(stack, graphs, plan, images)
        with Reference(plan.threads or usable_cores()) as reference:
            measured = measure_in_turn(
                [predictor for _, predictor in predictors],
                images,
                reference,
                plan.frames,
                track=track,
                threads=plan.threads,
            )
        entries = distinct([_entry(*pair, plan, images) for pair in zip(predictors, measured)])
        comparison = None
        if len(predictors) > 1:
            threshold = predictors[0][1].manifest.display_threshold
            if plan.score_threshold is not None:
                threshold = plan.score_threshold
            sides = [
                _predictions(entry.label, predictor, result, images, threshold)
                for entry, (_, predictor), result in zip(entries, predictors, measured)
            ]
            comparison = compare_predictions(sides[0], sides[-1], threshold, MASK_IOU)
    return entries, comparison


def unmeasured(graphs: Sequence[NamedGraph]) -> List[Entry]:
    """Return what bundles tell of their graphs without a measurement."""
    entries = []
    for graph in graphs:
        bundle = Bundle.open(graph.bundle)
        variants = list(bundle.manifest.graphs) if graph.variant is None else [graph.variant]
        for variant in variants:
            bundle.entry(variant)
            entries.append(_of_bundle(bundle.path, bundle.manifest, variant, f"{graph.bundle.name}:{variant}"))
    return entries


def _images(plan: Plan) -> Images:
    if plan.annotations is not None:
        return AnnotatedImages.open(plan.images, plan.annotations)
    paths = images_in(Path(plan.images))
    for path in paths:
        image_size(path)  # a file that is not an image is told before the long part
    return FolderImages(paths)


def _open(stack: ExitStack, graphs: Sequence[NamedGraph], plan: Plan, images: Images) -> List[Opened]:
    """Open each graph by one runtime, with all that it returns, as average precision needs it."""
    runtime = plan.runtime
    opened: List[Opened] = []
    for graph in _with_float(graphs):
        predictor = MaskPredictor(graph.bundle, runtime, plan.threads, 0.0, graph.variant)
        opened.append((graph, stack.enter_context(predictor)))
        if isinstance(images, AnnotatedImages):
            images.check_labels(Labels(predictor.manifest.classes, predictor.manifest.category_ids))
        predictor.warm_up(image=images.read(images.ids[0]))
        runtime = predictor.runtime if runtime == AUTO else runtime
    return opened


def _with_float(graphs: Sequence[NamedGraph]) -> List[NamedGraph]:
    """Return the graphs, before a single bundle its float graph if it has one."""
    if len(graphs) == 1 and graphs[0].variant is None:
        bundle = graphs[0].bundle
        if FLOAT in Bundle.open(bundle).manifest.graphs:
            return [NamedGraph(bundle, FLOAT), *graphs]
    return list(graphs)


def _entry(opened: Opened, measured: Measured, plan: Plan, images: Images) -> Entry:
    graph, predictor = opened
    threads = "threads by its own choice" if plan.threads is None else f"threads {plan.threads}"
    data = "without annotations" if plan.annotations is None else f"of {Path(plan.annotations).name}"
    told = _of_bundle(graph.bundle, predictor.manifest, predictor.variant, f"{graph.bundle.stem}:{predictor.variant}")
    return Entry(
        label=told.label,
        source=told.source,
        setting=f"{predictor.runtime}, {threads}; {len(images.ids)} images {data}, {measured.frames} frames",
        metrics=measured.metrics,
        latency_quantiles_ms=measured.latency_quantiles_ms,
        machine=this_machine(),
        manifest=told.manifest,
        variant=told.variant,
        bundle_bytes=told.bundle_bytes,
        layers=_layers(graph.bundle, predictor, plan, images),
        remarks=tuple(measured.remarks),
        disturbed=bool(measured.disturbances),
    )


def _of_bundle(path: Path, manifest: Manifest, variant: str, label: str) -> Entry:
    return Entry(label=label, source=str(path), manifest=manifest, variant=variant, bundle_bytes=path.stat().st_size)


def _layers(path: Path, predictor: MaskPredictor, plan: Plan, images: Images) -> List[LayerTime]:
    """Profile a graph that ONNX Runtime runs; other runtimes have no profile here."""
    if predictor.runtime != "onnxruntime":
        return []
    spec = predictor.manifest.input
    chosen = [images.read(image_id) for image_id in list(images.ids)[:_PROFILED_IMAGES]]
    inputs = [preprocess(image, (spec.height, spec.width), spec.pad_value).image for image in chosen * 2]
    constants = constant_inputs(predictor.manifest.display_threshold)
    graph = Bundle.open(path).graph(predictor.variant)
    return time_layers(graph, inputs[: _PROFILED_IMAGES + 1], constants, plan.threads)


def _predictions(
    label: str, predictor: MaskPredictor, measured: Measured, images: Images, threshold: float
) -> Predictions:
    """Return what was predicted while it was measured, down to where the like of an instance may score."""
    manifest = predictor.manifest
    names = dict(zip(manifest.category_ids, manifest.classes))
    detections: Dict[int, List[Detection]] = {image_id: [] for image_id in images.ids}
    for result in measured.results:
        if result["score"] >= threshold - SCORE_SLACK:
            detections[result["image_id"]].append(_detection(result, names))
    keys = short_names([str(path) for path in images.paths])
    return Predictions(
        label,
        {
            key: PredictedImage(image_size(path), detections[image_id], path)
            for key, path, image_id in zip(keys, images.paths, images.ids)
        },
    )


def _detection(result: Dict[str, Any], names: Mapping[int, str]) -> Detection:
    return Detection(names[result["category_id"]], result["score"], tuple(result["bbox"]), result["segmentation"])
