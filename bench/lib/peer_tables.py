"""Render the comparison with peers, and the claims of the paper, as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
Rows = Mapping[str, Row]
_NONE = "-"
_SPLITS = ("val", "val_seen")
_WITH_KERNELS = ("onnxruntime", "openvino")


def peers_table(rows: Rows) -> str:
    """Mask AP of each quantized graph; latency of everything that was timed, where it was."""
    titles = ["network and quantizer", "mask AP, unseen", "mask AP, seen", "integer kernels, unseen"]
    titles += ["runtime, precision", "p50 / p90 / p99"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    timed = _timed(rows)
    graphs = [name.removesuffix("/val") for name in rows if name.endswith("/val")]
    for graph in graphs:
        accuracy = [_accuracy(rows.get(f"{graph}/{split}", {})) for split in _SPLITS]
        cells = [_shown(graph), *accuracy, _on_kernels(rows[f"{graph}/val"])]
        own = "blendmask" if graph == "float" else graph
        for runtime, latency in timed.pop(own, [(_NONE, _NONE)]):
            lines.append(f"| {' | '.join([*cells, runtime, latency])} |")
            cells = [""] * len(cells)
    for name, entries in timed.items():
        for runtime, latency in entries:
            lines.append(f"| {_shown(name)} | {' | '.join([_NONE] * 3)} | {runtime} | {latency} |")
    return "\n".join([*lines, *_remarks(rows)])


def peers_summary_table(rows: Rows) -> str:
    """Mask AP of each quantized graph, with its median and 99th percentile in each runtime; networks beside them."""
    titles = ["network and quantizer", "mask AP, unseen", "mask AP, seen"]
    titles += [f"{title}, p50 / p99" for title in _RUNTIMES.values()]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for graph in (name.removesuffix("/val") for name in rows if name.endswith("/val")):
        own, precision = ("blendmask", "float") if graph == "float" else (graph, "int8")
        cells = [_shown(graph), *(_accuracy(rows.get(f"{graph}/{split}", {})) for split in _SPLITS)]
        cells += [_latency(rows.get(f"{own}/{runtime}/{precision}", {})) for runtime in _RUNTIMES]
        lines.append(f"| {' | '.join(cells)} |")
    for name, runtime in _BESIDE.items():
        if name in rows:
            cells = [_shown(name.partition("/")[0]) + f", {name.rpartition('/')[2]}", _NONE, _NONE]
            cells += [_latency(rows[name]) if each == runtime else _NONE for each in _RUNTIMES]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_remarks(rows)[:2]])


def peers_settings_table(rows: Rows) -> str:
    """Mask AP of each setting of each tool on training images, by which the compared one is chosen."""
    measured = {name: row for name, row in rows.items() if name.endswith("/train")}
    images = max((row["images"] for row in measured.values() if "images" in row), default=0)
    lines = [f"| quantizer and setting | mask AP on {images} training images |", "|---|---|"]
    for name, row in measured.items():
        lines.append(f"| {_shown(name.removesuffix('/train'))} | {_accuracy(row)} |")
    return "\n".join(lines)


def _latency(row: Row) -> str:
    if "error" in row:
        return "failed"
    shown = [f"{row[f'latency_p{share}_ms']:.0f}" for share in (50, 99) if f"latency_p{share}_ms" in row]
    return f"{' / '.join(shown)} ms" if shown else _NONE


def _timed(rows: Rows) -> dict[str, list[tuple[str, str]]]:
    """Runtime with precision, and latency or the reason for there being none, by network."""
    timed: dict[str, list[tuple[str, str]]] = {}
    for name, row in rows.items():
        parts = name.split("/")
        if len(parts) == 3 and parts[0] != "gemm":
            percentiles = [row.get(f"latency_p{share}_ms") for share in (50, 90, 99)]
            shown = " / ".join(f"{each:.1f}" for each in percentiles if each is not None)
            latency = f"failed: {_short(row['error'])}" if "error" in row else f"{shown} ms"
            timed.setdefault(parts[0], []).append((f"{parts[1]}, {parts[2]}", latency))
    return timed


def _accuracy(row: Row) -> str:
    if "error" in row:
        return f"failed: {_short(row['error'])}"
    if "mask_ap" not in row:
        return _NONE
    shown = f"{100 * row['mask_ap']:.1f}"
    if "retention" not in row:
        return f"{shown} ({100 * row['mask_ap_low']:.1f} to {100 * row['mask_ap_high']:.1f})"
    share, low, high = (100 * row[name] for name in ("retention", "retention_low", "retention_high"))
    return f"{shown}; {share:.1f} % of float ({low:.1f} to {high:.1f})"


def _on_kernels(row: Row) -> str:
    """AP of the processor's own kernels in both runtimes."""
    if not any(f"{kind}_{runtime}" in row for kind in ("mask_ap", "error") for runtime in _WITH_KERNELS):
        return _NONE
    shown = (
        f"{100 * row[f'mask_ap_{runtime}']:.1f}" if f"mask_ap_{runtime}" in row else "failed"
        for runtime in _WITH_KERNELS
    )  # fmt: skip
    return " / ".join(shown)


def _remarks(rows: Rows) -> list[str]:
    """Images, processors and limits, below the table."""
    remarks = []
    images = sorted({row["images"] for name, row in rows.items() if name.endswith("/val") and "images" in row})
    if images:
        remarks.append(f"Mask AP on the first {' or '.join(map(str, images))} images of each split.")
    processors = sorted({row["processor"] for name, row in rows.items() if len(name.split("/")) == 3})
    without = [name for name in processors if "vnni" not in name]
    if processors:
        remarks.append(f"Times: {'; '.join(processors)}{_WITHOUT_VNNI if without else ''}.")
    else:
        remarks.append("Times: not measured yet.")
    limits = [
        f"{row['gemm_gmacs_per_second']:.0f} in {_RUNTIMES.get(name.split('/')[1], name.split('/')[1])}"
        for name, row in rows.items()
        if name.startswith("gemm/")
    ]
    if limits:
        remarks.append(f"INT8 matrix products, in billions of multiply-accumulates a second: {', '.join(limits)}.")
    failures = [
        f"`{name.rpartition('/')[0]}` in {runtime}: {row[f'error_{runtime}']}"
        for name, row in rows.items()
        for runtime in _WITH_KERNELS
        if name.endswith("/val") and f"error_{runtime}" in row
    ]
    return ["", " ".join(remarks), *(line for failure in failures for line in ("", f"Failed: {failure}"))]


def paper_table(rows: Rows) -> str:
    """The measurements of each claim of the paper, and the result."""
    lines = ["| compared | measured | result |", "|---|---|---|"]
    for name, row in rows.items():
        kind, _, what = name.partition("/")
        if kind == "blendmask":
            lines.append(_against_mask_rcnn(row, rows[f"mask-rcnn/{what}"]))
        elif kind in _MERGES:
            lines.append(_merging(kind, what, row, rows.get(f"weighted-sum/{what}", {})))
        elif kind in _SUPPRESSIONS:
            lines.append(_suppressing(kind, what, row, rows.get(f"batched-nms/{what}", {})))
    busy = "" if not any(row.get("other_work") for row in rows.values()) else " Other processes ran at the same time."
    images = sorted({row["images"] for row in rows.values() if "images" in row})
    return "\n".join([*lines, "", f"AP on {' or '.join(map(str, images))} images of each split.{busy}"])


def _against_mask_rcnn(row: Row, other: Row) -> str:
    holds = "holds" if row["speedup"] >= _CLAIMED_SPEEDUP else "does not hold"
    return (
        f"| BlendMask R_50_3x and Mask R-CNN R50-FPN, {row['width']}x{row['height']}, {row['instances']} and "
        f"{other['instances']} instances | {row['latency_p50_ms']:.0f} and {other['latency_p50_ms']:.0f} ms: "
        f"BlendMask takes {100 / row['speedup']:.0f} % of the time | 20 % faster: {holds} |"
    )


def _merging(kind: str, what: str, row: Row, least: Row) -> str:
    """A way to merge bases, against the weighted sum."""
    result = f"{row['merge_ms'] / least['merge_ms']:.2f} x the weighted sum" if least and kind in _COSTLIER else _NONE
    measured = f"{row['merge_ms']:.1f} ms, top layer over all levels {row['top_layer_ms']:.1f} ms"
    return f"| {_MERGES[kind]}, {what} instances | {measured} | {result} |"


def _suppressing(kind: str, what: str, row: Row, batched: Row) -> str:
    """A way to suppress, Fast NMS against batched NMS; a gain of AP counts where it leaves the interval."""
    result = _NONE
    if batched and kind == "fast-nms":
        points = 100 * (row["mask_ap"] - batched["mask_ap"])
        times = row["suppression_ms"] / batched["suppression_ms"]
        is_no_better = times >= 1 and row["mask_ap"] <= batched["mask_ap_high"]
        holds = "holds" if is_no_better else "does not hold"
        result = f"{points:+.2f} points and {times:.2f} x the time of batched NMS, which is the better choice: {holds}"
    return (
        f"| {_SUPPRESSIONS[kind]}, {_INSTANCES[what]} | mask AP {100 * row['mask_ap']:.2f} "
        f"({100 * row['mask_ap_low']:.1f} to {100 * row['mask_ap_high']:.1f}), {row['suppression_ms']:.2f} ms "
        f"for {row['candidates']} candidates | {result} |"
    )


_CLAIMED_SPEEDUP = 1.2
"""Time of Mask R-CNN over that of BlendMask."""
_COSTLIER = ("blender", "assembler")
_MERGES = {
    "blender": "blender (K = 4, M = 14)",
    "weighted-sum": "weighted sum (K = 4)",
    "assembler": "assembler (3 x 3)",
}
_SUPPRESSIONS = {"batched-nms": "batched NMS", "fast-nms": "Fast NMS"}
_INSTANCES = {"val": "unseen instances", "val_seen": "seen instances"}
_WITHOUT_VNNI = (
    ", without VNNI: there INT8 graphs run in exact kernels (ONNX Runtime) or in float arithmetic (OpenVINO), which is "
    "slower than INT8 on a processor with VNNI"
)
_RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "pytorch": "PyTorch"}
_BESIDE = {
    "yolo26n-seg/openvino/f32": "openvino",
    "yolo26n-seg/openvino/int8": "openvino",
    "mask-rcnn/pytorch/float": "pytorch",
}
"""Networks of other methods that the summary shows, with the runtime of each."""
_NAMES = {"float": "BlendMask, float", "blendmask-edge": "BlendMask, blendmask-edge", "mask-rcnn": "Mask R-CNN R50-FPN"}
_TOOLS = {"onnxruntime": "ONNX Runtime", "nncf": "NNCF", "modelopt": "ModelOpt"}


def _shown(name: str) -> str:
    tool, _, setting = name.partition("-")
    if tool in _TOOLS:
        return f"BlendMask, {_TOOLS[tool]}, {'by default' if setting == 'default' else f'setting `{setting}`'}"
    return _NAMES.get(name, name)


def _short(error: str) -> str:
    return error[:120].replace("|", "/")
