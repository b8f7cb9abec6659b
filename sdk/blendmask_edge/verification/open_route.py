"""Open a route: a `MaskPredictor`, or what stands beside it for eager PyTorch."""

from __future__ import annotations

import importlib
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Iterator, Union

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.errors import RuntimeUnavailableError
from blendmask_edge.labels import Labels
from blendmask_edge.prediction.graph_predictor import GraphPredictor
from blendmask_edge.predictor import MaskPredictor
from blendmask_edge.verification.routes import TORCH

if TYPE_CHECKING:
    from blendmask_edge.verification.job import Job
    from blendmask_edge.verification.routes import Route

# The workstation's package, which the SDK knows by name only.
_EAGER = "blendmask_quantize.export.torch_tensorrt.eager"


@contextmanager
def open_route(job: Job, route: Route) -> Iterator[Union[MaskPredictor, GraphPredictor]]:
    """Open a route, which returns every instance that the graph outputs, for the time of a context.

    Raises:
        BlendMaskError: as `MaskPredictor`.
    """
    if route.runtime != TORCH:
        with MaskPredictor(job.bundle, route.runtime, job.threads, 0.0, route.variant) as predictor:
            yield predictor
        return
    bundle = Bundle.open(job.bundle)
    labels = Labels(bundle.manifest.classes, bundle.manifest.category_ids)
    with closing(_eager().load(bundle.graph(route.variant), "cuda")) as session:
        yield GraphPredictor(session.run, bundle.manifest.input, labels)


def _eager() -> Any:
    try:
        return importlib.import_module(_EAGER)
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"Eager PyTorch needs torch and the package of the workstation: {error}. Type: pip install "
            '"blendmask-edge[quantize]" from its folder or wheel.'
        ) from error
