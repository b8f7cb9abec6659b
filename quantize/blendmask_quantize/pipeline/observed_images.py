"""Observation of calibration images on any executor: histograms add up exactly in any order."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from blendmask_calibration.histogram import Histogram
from blendmask_edge.execution.shards import do_work
from blendmask_edge.execution.work import Executor, Opener, Process, described
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.patterns import Pattern
from blendmask_quantize.pipeline.observation import as_arrays, observation_of
from blendmask_quantize.quantization.inputs import NetworkInputs
from blendmask_quantize.quantization.ptq import observe, rounded_tensors
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.validation.channel_order import detection_scores

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Network:
    """The network that runs on each image, in this process.

    Attributes:
        model: gives the normalization.
        traced: the float network, from `trace_network`.
        graph: counts the instances.
        threads: threads of each worker; None leaves them to torch.
    """

    model: BlendMask
    traced: fx.GraphModule
    graph: DeployableGraph
    threads: int | None = None

    @cached_property
    def rounded(self) -> frozenset[str]:
        """Names of the tensors that are observed."""
        return rounded_tensors(self.traced)

    @contextmanager
    def __call__(self) -> Iterator[Process]:
        """Give a function from images to their observation."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield self._observe
        finally:
            torch.set_num_threads(before)

    def _observe(self, images: Images) -> bytes:
        counts: list[int] = []

        def on_image(predictions: Predictions) -> None:
            counts.append(len(detection_scores(self.graph, predictions)))

        histograms = observe(self.traced, NetworkInputs(self.model, images), on_image, self.rounded)
        stream = io.BytesIO()
        np.savez(stream, **as_arrays(histograms, counts))  # type: ignore[arg-type]
        return stream.getvalue()


@dataclass(frozen=True)
class SentNetwork:
    """The network in the form that is sent to workers: a traced network loses names on its way.

    Attributes:
        model: the network.
        ignored: layers that stay float.
        size: height and width of the input.
        bounds: of the selection.
        threads: threads of each worker; None leaves them to torch.
    """

    model: BlendMask
    ignored: tuple[Pattern, ...]
    size: tuple[int, int]
    bounds: Bounds
    threads: int | None = None

    def build(self) -> Network:
        """The network as a `Job` has it."""
        traced = trace_network(self.model, self.ignored)
        graph = DeployableGraph(self.model, traced, self.size, self.bounds).eval()
        return Network(self.model, traced, graph, self.threads)

    @contextmanager
    def __call__(self) -> Iterator[Process]:
        """Give a function from images to their observation."""
        with self.build()() as process:
            yield process


@dataclass(frozen=True)
class ObservationWork:
    """Observation of images.

    Attributes:
        network: what is run on them.
        images: uint8 (1, H, W, 3) RGB each.
    """

    network: Network | SentNetwork
    images: Images

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def identity(self) -> str:
        """Nothing is kept between runs here: `StageResults` does so."""
        return "calibration"

    @property
    def opener(self) -> Opener:
        """The network."""
        return self.network

    @property
    def needs(self) -> tuple[str, ...]:
        """Files that workers must see: none."""
        return ()

    def payload(self, items: range) -> Images:
        """Some of the images."""
        return [self.images[item] for item in items]

    def describe(self, items: range) -> str:
        """Some of the images by number."""
        return described("calibration image", items)


def observe_images(
    network: Network | SentNetwork, images: Images, executor: Executor, on_image: Callable[[], None]
) -> tuple[dict[str, Histogram], list[int]]:
    """Histograms of the tensors, and the number of instances that the float network detects in each image.

    Args:
        network: what is run on the images.
        images: uint8 (1, H, W, 3) RGB each.
        executor: where it is run.
        on_image: called for each image.

    Raises:
        CalibrationError: a tensor has values that are not finite (an error of `blendmask_calibration`).
        WorkerError: as the executor.
    """
    histograms: dict[str, Histogram] = {}
    counts: list[int] = []
    with do_work(ObservationWork(network, images), executor, on_image) as results:
        for part in results():
            with np.load(io.BytesIO(part), allow_pickle=False) as arrays:
                observed, counted = observation_of(arrays)
            counts += counted
            for name, histogram in observed.items():
                histograms[name] = histograms.get(name, Histogram.empty()) + histogram
    return histograms, counts
