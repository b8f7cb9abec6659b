"""Identity switches of the tracker on rendered clips with a moving camera."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.robot.moving_camera import ClipFrame, render_clip
from bench.lib.robot.rows import rounded
from blendmask_edge import Instances, Labels, MaskPredictor, Tracker

CLIP_FRAMES, RATE, SIZE = 75, 30.0, (384, 512)
_LEAST_IOU = 0.5
_LEAST_PIXELS = 60
_LOW_SCORE = 0.1


@dataclass
class IdentityCount:
    """Identities of rendered objects over one clip, as CLEAR MOT counts them.

    objects: that a clip shows with at least 60 pixels.
    shown, matched, identified: object-frames; those with an instance whose mask has an IoU of at least 0.5; those whose
        instance has an identity.
    switches: identities that differ from the one that the object had last.
    ids: identities of each object, and how often.
    """

    shown: int = 0
    matched: int = 0
    identified: int = 0
    switches: int = 0
    ids: dict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _last: dict[int, int] = field(default_factory=dict)

    def count(self, bodies: NDArray[np.int64], instances: Instances) -> None:
        """Count a frame.

        Args:
            bodies: (H, W) number of the object at each pixel; -1 for none.
            instances: with track ids.
        """
        assert instances.track_ids is not None
        masks = instances.masks
        taken: set[int] = set()
        for body in np.unique(bodies[bodies >= 0]).tolist():
            shape = bodies == body
            if shape.sum() < _LEAST_PIXELS:
                continue
            self.shown += 1
            row = _best(masks, shape, taken)
            if row is None:
                continue
            taken.add(row)
            self.matched += 1
            self._identify(body, int(instances.track_ids[row]))

    def _identify(self, body: int, track_id: int) -> None:
        if track_id < 0:
            return
        self.identified += 1
        self.switches += self._last.get(body, track_id) != track_id
        self._last[body] = track_id
        self.ids[body][track_id] += 1

    @property
    def main(self) -> int:
        """Identified object-frames that have the object's most frequent identity."""
        return sum(max(ids.values()) for ids in self.ids.values())


def _best(masks: NDArray[np.bool_], shape: NDArray[np.bool_], taken: set[int]) -> int | None:
    """Row of the mask that fits best and is free, None for an IoU below 0.5."""
    ious = [
        0.0 if row in taken else float((mask & shape).sum() / max(1, (mask | shape).sum()))
        for row, mask in enumerate(masks)
    ]
    row = int(np.argmax(ious)) if ious else 0
    return row if ious and ious[row] >= _LEAST_IOU else None


def identity_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row of the tracker on the instances of the network, and one on the rendered masks."""
    predicted, rendered = [], []
    with MaskPredictor(options.bundle, "onnxruntime", 1, score_threshold=0) as predictor:
        start = max(_LOW_SCORE, predictor.manifest.display_threshold)
        for index in range(options.clips):
            clip = list(render_clip(options.data, index, CLIP_FRAMES, SIZE))
            instances = (predictor(frame.image, score_threshold=_LOW_SCORE) for frame in clip)
            predicted.append(track_clip(clip, instances, Tracker(start)))
            rendered.append(track_clip(clip, map(rendered_instances, clip), Tracker()))
            print(f"clip {index}: {predicted[-1].switches} and {rendered[-1].switches} switches", flush=True)
    yield _row("identities", predicted)
    yield _row("identities/rendered", rendered)


def track_clip(clip: Sequence[ClipFrame], instances: Iterable[Instances], tracker: Tracker) -> IdentityCount:
    """Track the instances of a clip, and compare their identities with the rendered ones."""
    counts = IdentityCount()
    for number, (frame, predicted) in enumerate(zip(clip, instances, strict=True)):
        counts.count(frame.bodies, tracker.update(predicted, number / RATE))
    return counts


def rendered_instances(frame: ClipFrame) -> Instances:
    """The rendered objects as instances of score 1."""
    names = sorted(set(frame.classes.values()))
    bodies = np.unique(frame.bodies[frame.bodies >= 0]).tolist()
    masks = np.array([frame.bodies == body for body in bodies], np.bool_).reshape(-1, *frame.bodies.shape)
    return Instances.from_masks(
        masks,
        np.ones(len(bodies), np.float32),
        np.array([names.index(frame.classes[body]) for body in bodies], np.int64),
        Labels(names, list(range(1, len(names) + 1))),
    )


def _row(name: str, clips: Sequence[IdentityCount]) -> dict[str, Any]:
    shown, matched, identified, switches = (
        sum(getattr(clip, field) for clip in clips) for field in ("shown", "matched", "identified", "switches")
    )
    return {
        "name": name,
        "clips": len(clips),
        "frames": CLIP_FRAMES * len(clips),
        "objects": sum(len(clip.ids) for clip in clips),
        "object_frames": shown,
        "matched_share": rounded(matched / max(1, shown)),
        "identified_share": rounded(identified / max(1, matched)),
        "identity_switches": switches,
        "main_identity_share": rounded(sum(clip.main for clip in clips) / max(1, identified)),
    }
