"""Compare two bundles on images, or two sets of predictions: from the arguments to the result."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from blendmask_edge.arguments.values import check_number
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.comparison.detections import PredictedImage, Predictions, detections_of, short_names
from blendmask_edge.comparison.graphs import NamedGraph, named_graph, require_path
from blendmask_edge.comparison.prediction_file import read_predictions
from blendmask_edge.comparison.result import SCORE_SLACK, Comparison, compare_predictions
from blendmask_edge.errors import ConfigError
from blendmask_edge.evaluation.annotations import image_ids, read_coco
from blendmask_edge.imaging import read_image
from blendmask_edge.imaging.folder import images_in
from blendmask_edge.predictor import MaskPredictor
from blendmask_edge.runtimes.registry import AUTO

if TYPE_CHECKING:
    from pycocotools.coco import COCO

    from blendmask_edge.storage.atomic import PathLike

    Track = Callable[[Sequence[str]], Iterable[str]]
    Options = Tuple[str, Optional[int], float]

MASK_IOU = 0.9
SCORE_OF_FILES = 0.5


def compare(
    before: PathLike,
    after: PathLike,
    images: Optional[PathLike] = None,
    annotations: Optional[PathLike] = None,
    score_threshold: Optional[float] = None,
    mask_iou: float = MASK_IOU,
    runtime: str = AUTO,
    threads: Optional[int] = None,
    track: Optional[Track] = None,
) -> Comparison:
    """Compare the detections of two bundles, or of two runs, image by image.

    Instances are paired by class and box (IoU 0.5 or more). An instance without a partner appeared or vanished; a pair
    whose masks overlap less than `mask_iou` changed its mask.

    Args:
        before, after: each a bundle, a graph of a bundle ("model.bmz:float"), a folder of `blendmask predict`, its
            `instances.json`, or a JSON list of COCO results.
        images: folder of images; required if a bundle is compared.
        annotations: COCO instances JSON; limits the comparison to its images and names those of COCO results.
        score_threshold: instances count from this score, 0 to 1; the partner of one may score 0.1 less. None takes the
            bundle's display threshold, or 0.5 if there is no bundle.
        mask_iou: least IoU of two masks that count as the same, 0 to 1.
        runtime, threads: for bundles, as `MaskPredictor` takes them.
        track: iterates over the names of the images of a bundle, and may show progress.

    Returns:
        A `Comparison`; `changed_share` is the number to gate on.

    Raises:
        ConfigError: an argument is out of range, or `images` is missing.
        AnnotationError: predictions or annotations are invalid, or the two sides have different images.
        ImageError: an image cannot be read.
        BlendMaskError: as `MaskPredictor`.

    Example:
        >>> from blendmask_edge import compare
        >>> result = compare("model.bmz", "new.bmz", images="images")
        >>> result.instances, result.changed_share
        (3, 0.0)
    """
    for name, path in (("images", images), ("annotations", annotations)):
        if path is not None:
            require_path(name, path)
    check_number("mask_iou", mask_iou, 0, 1)
    if score_threshold is not None:
        check_number("score_threshold", score_threshold, 0, 1)
    graphs = [named_graph(source) for source in (before, after)]
    coco = None if annotations is None else read_coco(annotations)
    threshold = _threshold(graphs) if score_threshold is None else float(score_threshold)
    sides = [
        read_predictions(source, images, coco) if graph is None else None
        for source, graph in zip((before, after), graphs)
    ]
    if any(graph is not None for graph in graphs):
        files = _image_files(images, coco)
        options = (runtime, threads, max(0.0, threshold - SCORE_SLACK))
        predicted = _predict_each([graph for graph in graphs if graph is not None], files, options, track)
        sides = [next(predicted) if side is None else side for side in sides]
    first, second = (side for side in sides if side is not None)
    return compare_predictions(first, second, threshold, mask_iou)


def _threshold(graphs: Sequence[Optional[NamedGraph]]) -> float:
    """Return the display threshold of the first bundle, or that of files."""
    bundle = next((graph.bundle for graph in graphs if graph is not None), None)
    return SCORE_OF_FILES if bundle is None else Bundle.open(bundle).manifest.display_threshold


def _image_files(images: Optional[PathLike], coco: Optional[COCO]) -> Dict[str, Path]:
    """Return the images to predict by name: the annotated ones, or all in the folder."""
    if images is None:
        raise ConfigError("A bundle is compared on images. Give a folder of them: --images DIR.")
    if coco is None:
        return {path.name: path for path in images_in(Path(images))}
    names = [coco.imgs[image_id]["file_name"] for image_id in image_ids(coco, images)]
    return {short: Path(images) / name for short, name in zip(short_names(names), names)}


def _predict_each(
    graphs: Sequence[NamedGraph], files: Dict[str, Path], options: Options, track: Optional[Track]
) -> Iterator[Predictions]:
    """Yield the predictions of each graph; all are opened, by one runtime, before the first image is predicted."""
    runtime, threads, score_threshold = options
    opened: List[MaskPredictor] = []
    with ExitStack() as stack:
        for graph in graphs:
            predictor = MaskPredictor(graph.bundle, runtime, threads, score_threshold, graph.variant)
            opened.append(stack.enter_context(predictor))
            if runtime == AUTO:
                predictor.warm_up(image=read_image(next(iter(files.values()))))
                runtime = predictor.runtime
        for graph, predictor in zip(graphs, opened):
            twice = sum(other.bundle.name == graph.bundle.name for other in graphs) > 1
            name = str(graph.bundle) if twice and len({other.bundle for other in graphs}) > 1 else graph.bundle.name
            source = f"{name} ({predictor.variant}, {predictor.runtime})"
            yield Predictions(source, _predict(predictor, files, track or iter))


def _predict(predictor: MaskPredictor, files: Dict[str, Path], track: Track) -> Dict[str, PredictedImage]:
    predicted = {}
    for name in track(list(files)):
        instances = predictor(read_image(files[name]))
        predicted[name] = PredictedImage(instances.image_size, detections_of(instances), files[name])
    return predicted
