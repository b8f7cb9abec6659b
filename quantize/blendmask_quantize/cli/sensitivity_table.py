"""The printed report of `sensitivity`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blendmask_edge.cli.columns import align
from blendmask_edge.cli.output import print_lines, say

if TYPE_CHECKING:
    from blendmask_quantize.pipeline.sensitivity import LayerSensitivity, SensitivityReport
    from blendmask_quantize.validation.sensitivity import Change

_COLUMNS = ("MACs", "1 - mask IoU", "score", "missed", "spurious")


def show_sensitivity(
    report: SensitivityReport, checkpoint: Path, calibration: Path, chart: Path | None, *, as_json: bool
) -> None:
    """Print blocks and layers, most sensitive first, as text or JSON."""
    if as_json:
        say(json.dumps({"checkpoint": str(checkpoint), **report.record()}))
        return
    for warning in report.warnings:
        say(f"warning: {warning}")
    say(
        f"{checkpoint.name}: {len(report.layers)} layers quantized one at a time, compared with float on "
        f"{report.images} held-out images, mean over {' and '.join(report.variants)}"
    )
    with_ap = report.together.mask_ap is not None
    for heading, entries in (("block", report.blocks), ("layer", report.layers)):
        print_lines(align(_rows(heading, entries, with_ap=with_ap)))
    whole = _row("all together", 1 - report.float_macs_share, report.together, with_ap=with_ap)
    print_lines(align([_head("", with_ap=with_ap), whole]))
    if chart is not None:
        say(f"Saved the chart to {chart}")
    say(f"Next: blendmask quantize {checkpoint} --calibration {calibration} -o model.bmz --max-drop 1%")


def _rows(heading: str, entries: Sequence[LayerSensitivity], *, with_ap: bool) -> list[list[str]]:
    rows = (_row(entry.name, entry.macs_share, entry.change, with_ap=with_ap) for entry in entries)
    return [_head(heading, with_ap=with_ap), *rows]


def _head(heading: str, *, with_ap: bool) -> list[str]:
    return [heading, *_COLUMNS, *(["mask AP"] if with_ap else [])]


def _row(name: str, macs_share: float, change: Change, *, with_ap: bool) -> list[str]:
    numbers = [f"{value:.4f}" for value in (change.masks, change.scores, change.missed, change.spurious)]
    ap = [f"{100 * change.mask_ap:+.2f}"] if with_ap and change.mask_ap is not None else []
    return [name, f"{macs_share:.1%}", *numbers, *ap]
