"""Mask AP of each graph of the shrink study, and of each way to choose channels; detections are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.progress import stage
from bench.lib.scenes import SPLITS, split_images
from bench.lib.spread import Spread
from bench.shrink.experiments import EXPERIMENTS, FLOAT, Experiment
from bench.shrink.making import TRAIN, Workshop
from blendmask_edge import Bundle, MaskPredictor
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.bootstrap import RESAMPLES, draw_images
from blendmask_edge.evaluation.predictions import Predictor, Results, predict_annotated
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize import load_checkpoint
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.model.predictor import TorchPredictor

Row = dict[str, Any]


@dataclass(frozen=True)
class Accuracy:
    """How accuracy is measured.

    Attributes:
        workshop: gives bundles and checkpoints.
        limit: only the first images of each split; None takes all.
        threads: of ONNX Runtime.
        resamples: of the bootstrap.
    """

    workshop: Workshop
    limit: int | None
    threads: int
    resamples: int = RESAMPLES

    def rows(self, experiment: Experiment) -> Iterator[Row]:
        """A row for each graph and split, with what the float graph of the whole network keeps compared."""
        facts = self.workshop.facts(experiment)
        for name, variant in experiment.graphs.items():
            for split in SPLITS:
                spread = self._spread(experiment, variant, split)
                columns = spread.columns if name == FLOAT else spread.columns | spread.retention(self._base(split))
                yield {"name": f"{name}/{split}", **columns, **facts[name]}

    def choice_row(self, name: str) -> Row:
        """The row of a way to choose channels, on held-out training images."""
        checkpoint = load_checkpoint(self.workshop.choice(name))
        images = AnnotatedImages.open(self.workshop.data / TRAIN, self.workshop.parts["held-out"])
        results = self._kept(
            f"choice-{name}", f"choice {name}", images, lambda: TorchPredictor(checkpoint.model, checkpoint.labels)
        )
        columns = Spread.of(images, results, self._draws(images)).columns
        return {"name": f"choice/{name}", **columns, "images": len(images.ids), "macs": count_macs(checkpoint.model)}

    def _base(self, split: str) -> Spread:
        return self._spread(EXPERIMENTS[0], FLOAT, split)

    def _spread(self, experiment: Experiment, variant: str, split: str) -> Spread:
        bundle = self.workshop.bundle(experiment)
        graph = Bundle.open(bundle).manifest.graphs[variant].sha256[:12]
        images = split_images(self.workshop.data, split, self.limit)
        title = f"{experiment.name}/{variant}/{split}"

        def opened() -> Predictor:
            return MaskPredictor(bundle, "onnxruntime", self.threads, score_threshold=0, variant=variant)

        results = self._kept(f"{title.replace('/', '-')}-{graph}", title, images, opened)
        return Spread.of(images, results, self._draws(images))

    def _kept(self, key: str, title: str, images: AnnotatedImages, opened: Callable[[], Predictor]) -> Results:
        """COCO results of a predictor, from the folder if they are there."""
        path: Path = self.workshop.folder / "results" / f"{key}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            results = predict_annotated(opened(), images, stage(title, len(images.ids)))
            write_bytes(path, json.dumps(results).encode())
        return list(json.loads(path.read_bytes()))

    def _draws(self, images: AnnotatedImages) -> NDArray[np.int64]:
        return draw_images(len(images.ids), self.resamples)
