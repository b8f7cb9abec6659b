"""Mask AP of each graph on the same images, with paired intervals; detections are kept, so that a run can go on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.progress import stage
from bench.lib.scenes import split_images
from bench.lib.sessions import EXACT, RUNTIMES, RunGraph, open_default, open_graph
from bench.lib.spread import Spread
from bench.peers.graphs import FLOAT, Graphs
from bench.peers.predictor import graph_predictor
from blendmask_edge.bundle.tensors import OUTPUT_NAMES
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.bootstrap import RESAMPLES, draw_images
from blendmask_edge.evaluation.predictions import Results, predict_annotated
from blendmask_edge.storage.atomic import write_bytes

Row = dict[str, Any]
_METRIC = "mask_ap"


@dataclass(frozen=True)
class Accuracy:
    """How accuracy is measured.

    Attributes:
        graphs: whose accuracy.
        data: folder of homescenes.
        images: the first ones of a split.
        threads: of the runtimes.
        resamples, seed: of the bootstrap.
    """

    graphs: Graphs
    data: Path
    images: int
    threads: int
    resamples: int = RESAMPLES
    seed: int = 0

    def rows(self, names: list[str], split: str, kernels: tuple[str, ...] = (EXACT, *RUNTIMES)) -> Iterator[Row]:
        """A row of each graph on a split: AP with exact arithmetic, and that of this processor's kernels beside it.

        A graph that cannot be made or run has a row with `error`.
        """
        images = split_images(self.data, split, self.images, self.graphs.form.labels)
        draws = draw_images(len(images.ids), self.resamples, self.seed)
        base = Spread.of(images, self._results(FLOAT, EXACT, split, images), draws)
        for name in names:
            yield self._row(name, split, images, kernels, draws, base)

    def _row(
        self, name: str, split: str, images: AnnotatedImages, kernels: tuple[str, ...], draws: NDArray[np.int64],
        base: Spread,
    ) -> Row:  # fmt: skip
        row: Row = {"name": f"{name}/{split}", "images": len(images.ids)}
        try:
            reached = Spread.of(images, self._results(name, EXACT, split, images), draws)
        except Exception as error:  # whatever a tool or a runtime says is the result
            return row | {"error": one_line(error)}
        row |= reached.mask_ap | ({} if name == FLOAT else reached.retention(base))
        for kernel in kernels:
            if kernel != EXACT:
                row |= self._on_kernels(name, kernel, split, images)
        return row | {"resamples": self.resamples, "seed": self.seed}

    def _on_kernels(self, name: str, kernel: str, split: str, images: AnnotatedImages) -> Row:
        """AP of the processor's own kernels in one runtime, or why there is none."""
        try:
            results = self._results(name, kernel, split, images)
        except Exception as error:  # as above
            return {f"error_{kernel}": one_line(error)}
        return {f"{_METRIC}_{kernel}": round(score(images.coco, results, images.ids)[_METRIC], 4)}

    def _results(self, name: str, kernel: str, split: str, images: AnnotatedImages) -> Results:
        """COCO results, from the folder if they are there."""
        path = self.graphs.folder / "results" / f"{name}-{kernel}-{split}-{len(images.ids)}.json"
        if not path.is_file():
            run = self._open(kernel, self.graphs.read(name))
            predict = graph_predictor(run, self.graphs.form)
            step = stage(f"{name}, {kernel}, {split}", len(images.ids))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, json.dumps(predict_annotated(predict, images, step)).encode())
        return list(json.loads(path.read_text(encoding="utf-8")))

    def _open(self, kernel: str, graph: bytes) -> RunGraph:
        """A graph in exact arithmetic, or in a runtime as it is by default, whose kernels may saturate."""
        if kernel == EXACT:
            return open_graph(EXACT, graph, self.threads)
        session, names = open_default(kernel, graph, self.threads), list(OUTPUT_NAMES)
        return lambda given: dict(zip(names, session.run(names, given), strict=True))


def one_line(error: Exception) -> str:
    """The first line of an error, without folders of this machine."""
    text = re.sub(r"(?:/[\w.+-]+)+/", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:200]
