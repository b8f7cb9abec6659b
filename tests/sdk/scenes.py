"""Drawn scenes with their annotations, a predictor that knows the answers, and a clock that is set by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List

import cv2
import numpy as np
import pytest

from blendmask_edge.instances import Instances
from blendmask_edge.labels import Labels
from blendmask_edge.prediction.image_pipeline import Timings

HEIGHT, WIDTH, CELLS = 96, 128, 56
IMAGES, INSTANCES = 12, 4
TYPICAL = Timings(preprocess=0.002, inference=0.030, postprocess=0.003)
LABELS = Labels(("red", "green", "blue"), (10, 20, 35))


@dataclass(frozen=True)
class Scenes:
    """Images whose first pixel is their id, their annotations, and the instances that those state."""

    folder: Path
    annotations: Path
    instances: Dict[int, Instances]

    def document(self) -> Dict[str, Any]:
        """Return the annotations to spoil."""
        return dict(json.loads(self.annotations.read_text()))

    def rewritten(self, document: Any) -> Path:
        """Write other annotations beside the sound ones."""
        path = self.annotations.with_name("changed.json")
        path.write_text(json.dumps(document))
        return path


@dataclass
class HandClock:
    """Seconds that go on by themselves only by `tick`, at each look."""

    now: float = 0.0
    tick: float = 0.001

    def __call__(self) -> float:
        """Return the time."""
        self.now += self.tick
        return self.now


@dataclass
class FakePredictor:
    """Answers from the scenes, changed by `change`, in times that are stated and jitter by one per cent.

    Every tenth call takes `hiccup` seconds longer.
    """

    scenes: Scenes
    clock: HandClock
    change: Callable[[Instances], Instances] = lambda instances: instances
    seconds: Timings = TYPICAL
    seed: int = 0
    hiccup: float = 0.0
    timings: Timings = TYPICAL
    calls: List[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Seed the jitter."""
        self.rng = np.random.default_rng(self.seed)

    def __call__(self, image: np.ndarray) -> Instances:
        """Answer, and let the stated time go by."""
        image_id = int(image[0, 0, 0])
        self.calls.append(image_id)
        jitter = 1 + 0.01 * self.rng.standard_normal(3)
        preprocess, network, postprocess = (float(part * share) for part, share in zip(self.seconds, jitter))
        self.timings = Timings(preprocess, network + (self.hiccup if len(self.calls) % 10 == 0 else 0), postprocess)
        self.clock.now += sum(self.timings)
        return self.change(self.scenes.instances[image_id])


def draw_instances(rng: np.random.Generator) -> Instances:
    """Return ellipses of every class, by descending score."""
    corner = rng.uniform([0, 0], [WIDTH - 60, HEIGHT - 60], (INSTANCES, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(24, 56, (INSTANCES, 2))], axis=1).astype(np.float32)
    along = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    ellipse = (1 - along[:, None] ** 2 - along[None, :] ** 2).astype(np.float32)
    scores = np.sort(rng.uniform(0.5, 1, INSTANCES).astype(np.float32))[::-1]
    class_ids = rng.integers(0, 3, INSTANCES)
    return Instances(boxes, scores, class_ids, (HEIGHT, WIDTH), LABELS, 8 * np.repeat(ellipse[None], INSTANCES, 0))


def annotate(instances: Dict[int, Instances]) -> Dict[str, Any]:
    """Return COCO annotations that the instances fit exactly."""
    annotations: List[Dict[str, Any]] = []
    for image_id, detected in instances.items():
        for result in detected.to_coco(image_id):
            area = int(result["bbox"][2] * result["bbox"][3])
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, "area": area, **result})
    entries = [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in instances]
    categories = [{"id": number, "name": name} for number, name in zip(LABELS.category_ids, LABELS.names)]
    return {"images": entries, "annotations": annotations, "categories": categories}


@pytest.fixture
def scenes(tmp_path: Path) -> Scenes:
    """Return a dozen drawn scenes."""
    rng = np.random.default_rng(0)
    instances = {image_id: draw_instances(rng) for image_id in range(1, IMAGES + 1)}
    folder = tmp_path / "images"
    folder.mkdir()
    for image_id in instances:
        cv2.imwrite(str(folder / f"{image_id}.png"), np.full((HEIGHT, WIDTH, 3), image_id, np.uint8))
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(annotate(instances)))
    return Scenes(folder, path, instances)


@pytest.fixture
def clock() -> HandClock:
    """Return a clock at zero."""
    return HandClock()
