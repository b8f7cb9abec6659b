"""Tables of the study `robot`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.lib.columns import MET, head

Row = Mapping[str, Any]
Rows = Mapping[str, Row]


def robot_table(rows: Rows) -> str:
    """Streams, large images, identities, start and install."""
    lines = head("measured", "result")
    for name, row in rows.items():
        part = name.partition("/")[0]
        if part in _ROBOT:
            lines.append("| {} | {} |".format(*_ROBOT[part](name, row)))
    return "\n".join(lines)


def _stream_cells(name: str, row: Row) -> tuple[str, str]:
    if name == "stream":
        share = f"{row['stream_rate']:.1f} FPS, {100 * row['stream_share']:.0f} % of what the slowest stage allows"
        return f"video of 640 x 480 as a stream, {row['threads']} thread for the network{_busy(row)}", share
    shown = f"latency {row['latency_p50_ms']:.0f} ms, {100 * row['dropped_share']:.0f} % of the frames dropped"
    return f'camera of twice that rate, `drop="oldest"`{_busy(row)}', shown


def _large_image_cells(name: str, row: Row) -> tuple[str, str]:
    what = "a single call" if name == "4k/single" else "tiles"
    shown = f"mask AP {100 * row['mask_ap']:.1f}, AP50 {100 * row['mask_ap50']:.1f}"
    return f"{row['images']} images of 3840 x 2160 with small instances, {what}", shown


def _identity_cells(name: str, row: Row) -> tuple[str, str]:
    what = "rendered masks" if name.endswith("rendered") else "instances of the shipped model"
    shown = (
        f"{row['identity_switches']} identity switches in {row['object_frames']} object-frames, "
        f"{100 * row['matched_share']:.1f} % of them detected, {100 * row['main_identity_share']:.1f} % of those with "
        "an identity have the object's main one"
    )
    return f"{row['clips']} rendered clips of {row['frames'] // row['clips']} frames, moving camera, {what}", shown


def _install_cells(name: str, row: Row) -> tuple[str, str]:
    what = name.split("/")[1] + (", without unused packages" if name.endswith("/needed") else "")
    largest = [f"{key.partition('/')[2]} {value}" for key, value in row.items() if key.startswith("megabytes/")]
    shown = f"{row['megabytes']} MB in {row['packages']} packages: {', '.join(largest)}, others"
    return f"install of `[cpu]` on Python {what}", shown


def _start_cells(name: str, row: Row) -> tuple[str, str]:
    shown = (
        f"import {_judged(row, 'import_s', '{:.2f} s')}, start of Python to the first mask "
        f"{_judged(row, 'first_mask_s', '{:.2f} s')}, peak memory {row['peak_megabytes']:.0f} MB"
    )
    return f"start on Python {name.partition('/')[2]}{_busy(row)}", shown


def _decode_cells(name: str, row: Row) -> tuple[str, str]:
    shown = f"{row['simplejpeg_ratio']:.1f} x with simplejpeg, {row['pillow_ratio']:.1f} x by Pillow alone"
    return f"time to decode a JPEG over that of OpenCV, {name.partition('/')[2]}", shown


def _judged(row: Row, metric: str, form: str) -> str:
    target = row[f"target_{metric}"]
    return f"{form.format(row[metric])} (at most {form.format(target)}: {MET[row[metric] <= target]})"


def _busy(row: Row) -> str:
    return ", on a busy machine" if row.get("busy") else ""


_ROBOT: dict[str, Callable[[str, Row], tuple[str, str]]] = {
    "stream": _stream_cells,
    "4k": _large_image_cells,
    "identities": _identity_cells,
    "start": _start_cells,
    "install": _install_cells,
    "decode": _decode_cells,
}


def outside_table(rows: Rows) -> str:
    """Time of a frame outside of the network."""
    lines = head("model, image, instances", "preprocess", "instances", "crops", "RLE", "share of an INT8 frame")
    for name, row in rows.items():
        if name.startswith("outside/"):
            times = " | ".join(f"{row[f'{part}_ms']:.1f} ms" for part in ("preprocess", "postprocess", "crops", "rles"))
            share = f"{100 * row['outside_share']:.0f} %"
            if "target_outside_share" in row:
                share += f" (at most {100 * row['target_outside_share']:.0f} %)"
            lines.append(f"| {', '.join(name.split('/')[1:])}{_busy(row)} | {times} | {share} |")
    return _table(lines)


def robot_faults_table(rows: Rows) -> str:
    """Faults injected into a running stream: how often, and the result."""
    lines = head("tried", "how often", "what happened")
    if "soak/frames" in rows:
        row = rows["soak/frames"]
        left = f"{row['threads']} threads and {row['descriptors']} descriptors left"
        shown = f"memory {row['megabytes_per_hour']:+.2f} MB per hour, {row['megabytes_grown']:+.1f} MB in all; {left}"
        lines.append(f"| frames of one stream | {row['frames']:,} in {row['minutes']:.0f} minutes | {shown} |")
    if "soak/cycles" in rows:
        row = rows["soak/cycles"]
        shown = f"{row['threads']} threads, {row['descriptors']} descriptors, {row['megabytes_grown']:+.2f} MB left"
        lines.append(f"| open, predict, leave a stream early, close | {row['cycles']:,} | {shown} |")
    if "soak/day" in rows:
        row = rows["soak/day"]
        shown = (
            f"{row['results']:,} results, {row['wrong']} wrong; {row['failed']} frames gave an error; {row['threads']} "
            f"threads, {row['descriptors']} descriptors, {row['megabytes_grown']:+.1f} MB left"
        )
        lines.append(f"| {row['hours']:g} hours in simulated time, faults below | {row['frames']:,} frames | {shown} |")
    for name, row in rows.items():
        if name.startswith("soak/day/"):
            fault = name.split("/", 2)[2]
            lines.append(f"| {fault} | {row['times']} | {_HAPPENED[fault]} |")
    return _table(lines)


def _table(lines: Sequence[str]) -> str:
    return "\n".join(lines) if len(lines) > len(head()) else "Not measured yet."


_HAPPENED = {
    "damaged JPEG": "an error for each such frame, the stream went on",
    "runtime exception": "an error for each such frame, the stream went on",
    "lost for seconds": "a camera was opened again; JPEG frames were waited for; the stream went on",
    "lost for a minute": "of a camera, `SourceError` after ten seconds; JPEG frames were waited for",
    "size changes": "results in the new size, the stream went on",
    "stream ended by a lost camera, opened again by the application": "frames came again when the camera did",
}
