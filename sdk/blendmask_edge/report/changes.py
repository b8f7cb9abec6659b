"""The part of a page that shows what changed between two sets of predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

from blendmask_edge.comparison.overlays import draw_changes
from blendmask_edge.comparison.result import APPEARED, KINDS, MASK, Change, Comparison
from blendmask_edge.imaging import encode_jpeg, read_image
from blendmask_edge.report.page import Block, Figure, Overlay, Overlays, Page, Section, Table

if TYPE_CHECKING:
    from pathlib import Path

MOST_OVERLAYS = 24
_CHANGES_OF_AN_IMAGE = 12


def comparison_page(comparison: Comparison, max_changed: Optional[float] = None, overlays: bool = True) -> Page:
    """Return the page of a comparison.

    Args:
        comparison: from `compare`.
        max_changed: share that may change, 0 to 1; None if there is no limit.
        overlays: whether the page can show images.
    """
    bad = max_changed is not None and comparison.changed_share > max_changed
    allowed = "" if max_changed is None else f", at most {max_changed:.2%} allowed"
    figures = [
        Figure(f"{comparison.changed_share:.2%}", f"of the instances changed{allowed}", bad),
        *(Figure(str(comparison.count(kind)), kind) for kind in KINDS),
        Figure(str(comparison.unchanged), "unchanged"),
    ]
    images = "1 image" if comparison.images == 1 else f"{comparison.images} images"
    counted = f"instances with a score of {comparison.score_threshold:.2g} or more"
    lines = [
        f"{comparison.before} against {comparison.after}",
        f"{images}, {counted}; a mask changed if its IoU is below {comparison.mask_iou:.2g}",
    ]
    return Page("Changed detections", lines, figures, change_sections(comparison, MOST_OVERLAYS, overlays))


def change_sections(
    comparison: Comparison, most_overlays: int, overlays: bool = True, vanished_first: bool = False
) -> List[Section]:
    """Return the changes by class and by image, with overlays of the worst.

    Args:
        comparison: from `compare`.
        most_overlays: show no more images than this.
        overlays: whether the page can show images.
        vanished_first: put images in which something only appeared after all others.
    """
    if not comparison.instances:
        return [Section("Changed detections", [_nothing(comparison.score_threshold)])]
    summary = f"{comparison.before} against {comparison.after}: {comparison.summary()}."
    if not comparison.changes:
        return [Section("Changed detections", [summary])]
    images = list(comparison.by_image().items())
    if vanished_first:
        images.sort(key=lambda item: all(change.kind == APPEARED for change in item[1]))
    parts = [Section("Changed detections", [summary, _class_table(comparison.changes)])]
    if overlays:
        parts.append(Section("Changed images, the worst first", _overlay_blocks(comparison, images, most_overlays)))
    parts.append(Section("Changes by image", [_image_table(images)]))
    return parts


def _nothing(score_threshold: float) -> str:
    if not score_threshold:
        return "Neither run has an instance."
    return f"Neither run has an instance with a score of {score_threshold:.2g} or more: try a lower --score."


def _overlay_blocks(comparison: Comparison, images: Sequence[Tuple[str, List[Change]]], most: int) -> List[Block]:
    shown = [(name, changes) for name, changes in images if name in comparison.files][:most]
    blocks: List[Block] = []
    if len(shown) < len(images):
        blocks.append(_left_out(len(shown), len(images), len(comparison.files)))
    overlays = [_overlay(name, changes, comparison.files[name]) for name, changes in shown]
    return [*blocks, Overlays(comparison.before, comparison.after, overlays)]


def _left_out(shown: int, changed: int, known: int) -> str:
    if not known:
        return "No overlays: the images are missing. Give their folder with --images."
    return f"The {shown} worst of {changed} changed images."


def _overlay(name: str, changes: Sequence[Change], file: Path) -> Overlay:
    before, after = (encode_jpeg(side) for side in draw_changes(read_image(file), changes))
    texts = [(change.kind, _text(change)) for change in changes[:_CHANGES_OF_AN_IMAGE]]
    more = len(changes) - len(texts)
    return Overlay(name, before, after, [*texts, *([("more", f"{more} more changes")] if more > 0 else [])])


def _text(change: Change) -> str:
    scores = " to ".join(f"{side.score:.2f}" for side in (change.before, change.after) if side is not None)
    overlap = f", mask IoU {change.mask_iou:.2f}" if change.kind == MASK else ""
    return f"{change.class_name} {change.kind}: score {scores}{overlap}"


def _class_table(changes: Sequence[Change]) -> Table:
    names = sorted({change.class_name for change in changes})
    rows = [
        [name, *(str(sum(c.class_name == name and c.kind == kind for c in changes)) for kind in KINDS)]
        for name in names
    ]
    return Table(["class", *KINDS], sorted(rows, key=lambda row: -sum(map(int, row[1:]))))


def _image_table(images: Sequence[Tuple[str, List[Change]]]) -> Table:
    rows = []
    for name, changes in images:
        overlaps = [change.mask_iou for change in changes if change.kind == MASK]
        counts = [str(sum(change.kind == kind for change in changes)) for kind in KINDS]
        rows.append([name, *counts, f"{min(overlaps):.2f}" if overlaps else "-"])
    return Table(["image", *KINDS, "lowest mask IoU"], rows)
