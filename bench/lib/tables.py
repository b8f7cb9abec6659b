"""Render the rows of each study as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.lib.columns import MET, head
from bench.lib.gate_tables import gate_accuracy_table, gate_table, scaling_table
from bench.lib.peer_tables import paper_table, peers_settings_table, peers_summary_table, peers_table
from bench.lib.robot.tables import outside_table, robot_faults_table, robot_table
from bench.lib.shrink_tables import shrink_choices_table, shrink_table

Rows = Mapping[str, Mapping[str, Any]]


def first_light_table(rows: Rows) -> str:
    """Accuracy and latency of the shipped model, float against INT8."""
    lines = head("graph", "mask AP, unseen instances", "mask AP, seen instances", "latency p50", "speedup")
    for name in ("float", "int8"):
        val, seen = rows[f"{name}/val"], rows[f"{name}/val_seen"]
        accuracy = f"{100 * val['mask_ap']:.1f} | {100 * seen['mask_ap']:.1f}"
        lines.append(f"| {name} | {accuracy} | {val['latency_p50_ms']:.0f} ms | {val['speedup_vs_float']:.2f} x |")
    return "\n".join(lines)


def accuracy_table(rows: Rows) -> str:
    """Share of the float graph's mask AP that each INT8 graph keeps, and agreement with it on photographs."""
    lines = head(
        "graph, instances",
        "mask AP, float",
        "mask AP",
        "retention, 95 % interval",
        "worst class",
        "worst size",
        "target",
    )
    for name in (name for name, row in rows.items() if "retention" in row):
        row, (graph, _, split) = rows[name], name.rpartition("/")
        before, after = 100 * rows[f"float/{split}"]["mask_ap"], 100 * row["mask_ap"]
        share, low, high = (100 * row[metric] for metric in ("retention", "retention_low", "retention_high"))
        worst = " | ".join(f"{100 * row[f'retention_{kind}_worst']:.1f} %" for kind in ("class", "size"))
        shown = f"{before:.1f} | {after:.1f} | {share:.1f} % ({low:.1f} to {high:.1f}) | {worst} | {MET[row['passed']]}"
        lines.append(f"| {graph}, {_SPLITS[split]} | {shown} |")
    photographs = [(name.removesuffix("/photographs"), row) for name, row in rows.items() if "target_mask_ap50" in row]
    return "\n".join(lines + [line for graph, row in photographs for line in ("", _photographs_line(graph, row))])


def _photographs_line(graph: str, row: Mapping[str, Any]) -> str:
    ap, low, high = (100 * row[metric] for metric in ("mask_ap50", "mask_ap50_low", "mask_ap50_high"))
    against = (
        f"`{graph}` on {row['images']} photographs, compared with {row['instances']} detections of the float graph"
    )
    return f"{against}: mask AP50 {ap:.1f} ({low:.1f} to {high:.1f}), {MET[row['passed']]}."


_SPLITS = {"val": "unseen", "val_seen": "seen"}


def training_table(rows: Rows) -> str:
    """Box and mask AP of the shipped checkpoint, by size and class."""
    columns = [
        (f"{task} AP, {split}", task, rows[f"shipped/{split}"])
        for split in ("val", "val_seen")
        for task in ("mask", "box")
    ]
    suffixes = [key.removeprefix("mask_ap") for key in columns[0][2] if key.startswith("mask_ap")]
    lines = head("instances", *(title for title, _, _ in columns))
    for suffix in suffixes:
        label = {"": "all, 50:95", "50": "all, IoU 0.5", "75": "all, IoU 0.75"}.get(suffix, suffix.lstrip("_/"))
        lines.append(
            f"| {label} | " + " | ".join(f"{100 * row[f'{t}_ap{suffix}']:.1f}" for _, t, row in columns) + " |"
        )
    return "\n".join(lines + _cost(columns[0][2]))


def _cost(row: Mapping[str, Any]) -> list[str]:
    """Sentence on the cost of the network, from the metrics that the study has."""
    if "macs" not in row:
        return []
    said = f"{row['macs'] / 1e9:.2f} GMAC per image, {row['parameters'] / 1e6:.2f} million parameters"
    if "training_hours" in row:
        said += f"; trained for {row['iterations']} steps on {row['training_augmented_images']} augmented images "
        said += f"from {row['training_images']} images, {row['training_hours']:.1f} hours"
    return ["", f"{said}."]


def hostile_table(rows: Rows) -> str:
    """Memory and time for each hostile file, and its memory before limits were introduced."""
    lines = head("file", "bytes", "peak memory", "before", "CPU time", "result")
    for name, row in rows.items():
        if name.endswith("/benign"):
            continue
        before = f"{row['before_peak_bytes'] / 1e9:.1f} GB" if "before_peak_bytes" in row else ""
        answer = "refused" if row["refused"] else "accepted"
        cells = [f"{row['file_bytes']:,}", _shown_bytes(row["peak_bytes"]), before, _shown_seconds(row["cpu_seconds"])]
        lines.append(f"| {name.replace('/', ': ', 1)} | " + " | ".join([*cells, answer]) + " |")
    return "\n".join(lines)


_HAPPENED = {"refused": "one error", "right": "correct result", "missed": "cache miss", "killed": "killed"}


def faults_table(rows: Rows) -> str:
    """Consequence of each injected fault."""
    lines = head("fault", "places", "consequence", "file afterwards", "partial files", "remaining temporary files")
    for name, row in rows.items():
        happened = ", ".join(f"{row[metric]} {text}" for metric, text in _HAPPENED.items() if row[metric])
        after = f"{row['older']} older, {row['new']} new" if row["older"] + row["new"] else "unchanged"
        lines.append(f"| {name} | {row['faults']} | {happened} | {after} | {row['partial']} | {row['left']} |")
    return "\n".join(lines)


def fuzz_table(rows: Rows) -> str:
    """Fuzzed inputs of each reader."""
    lines = head("reader", "executions", "crashes")
    lines += [f"| {name} | {row['executions']:,} | {row['crashes']} |" for name, row in rows.items()]
    return "\n".join([*lines, f"| all | {sum(row['executions'] for row in rows.values()):,} | |"])


def _shown_bytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def _shown_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.01 else "under 0.01 s"


def ablations_table(rows: Rows) -> str:
    """Accuracy and time of each variant of the network."""
    lines = head("variant", "mask AP, unseen / seen instances", "box AP", "latency p50")
    for name in [row.removesuffix("/val") for row in rows if row.endswith("/val")]:
        seen = [rows[f"{name}/{split}"] for split in ("val", "val_seen")]
        aps = [" / ".join(f"{100 * row[f'{task}_ap']:.1f}" for row in seen) for task in ("mask", "box")]
        lines.append(f"| {name} | {aps[0]} | {aps[1]} | {seen[0]['latency_p50_ms']:.0f} ms |")
    return "\n".join(lines)


def learning_curve_table(rows: Rows) -> str:
    """Accuracy of a training run at several steps."""
    metrics = ("mask_ap", "box_ap", "mask_ap_small", "mask_ap_medium", "mask_ap_large")
    lines = head("steps", "mask AP", "box AP", "mask AP, small", "medium", "large")
    for row in rows.values():
        lines.append(f"| {row['iterations']} | " + " | ".join(f"{100 * row[name]:.1f}" for name in metrics) + " |")
    return "\n".join(lines)


def _both_splits(rows: Rows, graph: str, digits: int = 1) -> str:
    return " / ".join(f"{100 * rows[f'{graph}/{split}']['mask_ap']:.{digits}f}" for split in ("val", "val_seen"))


_SPEED: tuple[tuple[str, float, str, bool], ...] = (
    ("speedup_vs_float", 1, "{:.2f} x", True), ("outside_share", 100, "{:.1f} %", False),
    ("after_share", 100, "{:.1f} %", False), ("gemm_ratio", 1, "{:.2f} x", False),
)  # fmt: skip
"""Metric, factor, format, and whether its target is a minimum (else a maximum)."""

_STAGES = {
    "input": "network input", "bottom_up": "backbone", "fpn": "pyramid", "basis": "bases", "head": "head, attention",
    "cand": "candidates", "nms": "NMS", "det": "detections, masks", "final": "result in the image",
    "training/pos": "training: positives", "training/losses": "training: losses",
    "training/gradients": "training: gradient norms",
}  # fmt: skip


def parity_table(rows: Rows) -> str:
    """Largest error of each stage over its tolerance, worst case, in both precisions."""
    reached: dict[str, dict[str, list[float]]] = {}
    for name, row in rows.items():
        stage, _, precision = name.partition("/")[2].rpartition("/")
        share = row.get("error_over_allowed", float("inf"))
        reached.setdefault(stage, {}).setdefault(precision, []).append(share)
    lines = head("stage", "cases", "float32, reached / allowed", "float64")
    for stage, title in _STAGES.items():
        single, double = reached[stage]["float32"], reached[stage]["float64"]
        lines.append(f"| {title} | {len(single)} | {max(single):.2f} | {max(double):.2f} |")
    return "\n".join(lines)


_WAYS = (
    ("parser/{}", "ONNX parser", "build"),
    ("half/{}/sm8.6", "ONNX parser, FP16 around what is quantized", "half"),
    ("straight/{}", "Torch-TensorRT converters, straight from the network", "none"),
    ("converters/{}", "Torch-TensorRT converters, from the graph", "none"),
)
"""Row of a graph, title, and what the rows of builds for other GPUs begin with."""


def targets_table(rows: Rows) -> str:
    """Layers of the parsed graphs, and results of the check."""
    lines = head("graph", "accepted by", "layers", "QUANTIZE", "DEQUANTIZE", "convolutions", "built for SM")
    for way, title, built in _WAYS:
        for graph in ("shipped", "rt_r_50", "dla_34"):
            row = rows.get(way.format(graph))
            if row is None:
                continue
            counts = [row[f"{kind}layers"] for kind in ("", "quantize_", "dequantize_", "convolution_")]
            builds = [name for name in rows if name.startswith(f"{built}/{graph}/") and rows[name]["passed"]]
            sms = ", ".join(sorted((name.partition("/sm")[2] for name in builds), key=float)) or "8.6"
            lines.append(f"| {graph} | {title} | {' | '.join(map(str, counts))} | {sms} |")
    answers = {name.split("/")[0]: row["passed"] for name, row in rows.items() if name.endswith("/check")}
    refused = ", ".join(f"`{target}`" for target, passed in answers.items() if not passed)
    yes = f"`blendmask check` accepts the shipped bundle in INT8 for {sum(answers.values())} of {len(answers)} targets"
    return "\n".join([*lines, "", f"{yes}, not for {refused}." if refused else f"{yes}."])


def arithmetic_table(rows: Rows) -> str:
    """Accuracy of the `tensorrt` graph in each arithmetic, and its instances against those of the reference."""
    lines = head("arithmetic", "mask AP", "box AP", "mask IoU to the reference", "missed", "spurious")
    for name, row in rows.items():
        aps = f"{100 * row['mask_ap']:.2f} | {100 * row['box_ap']:.2f}"
        lines.append(f"| `{name}` | {aps} | {row['mask_iou']:.3f} | {row['missed']} | {row['spurious']} |")
    first = next(iter(rows.values()))
    accuracies = [100 * row["mask_ap"] for row in rows.values()]
    most, spread = max(abs(each - accuracies[0]) for each in accuracies), max(accuracies) - min(accuracies)
    told = f"Mask AP differs from the reference by {most:.2f} at most, and between any two rows by {spread:.2f}"
    on = f"on {first['images']} images of unseen objects with {first['instances']} instances in the reference"
    return "\n".join([*lines, "", f"{told}, {on}."])


def estimate_table(rows: Rows) -> str:
    """How far estimated times of layers, and of published networks, are off."""
    known = {name.partition("/")[2]: row for name, row in rows.items() if name.startswith("published/")}
    layers = {name: row for name, row in rows.items() if not name.startswith("published/")}
    lines = []
    if not layers:
        lines += ["Times of layers on a CPU: not measured yet.", ""]
    else:
        heads = ("runtime on this CPU, INT8 convolutions", "layers", "median factor", "90 %", "rank correlation")
        lines += [*head(*heads), *(_factors_line(name, row) for name, row in layers.items()), ""]
    if any(row.get("without_vnni") for row in layers.values()):
        kernels = "ONNX Runtime ran exact, slower INT8 kernels and OpenVINO float32 arithmetic"
        lines += [f"*This CPU has no VNNI: {kernels}.*", ""]
    if any(row.get("other_work") for row in layers.values()):
        lines += ["*The machine did other work meanwhile; each time is the least of many frames.*", ""]
    if known:
        lines += head("network on an Orin Nano Super", "published", "estimated", "range")
    for name, row in known.items():
        span = f"{row['estimated_best_ms']:.1f} to {row['estimated_worst_ms']:.1f} ms"
        lines.append(f"| {name} | {row['published_ms']:.1f} ms | {row['estimated_ms']:.1f} ms | {span} |")
    return "\n".join(lines).rstrip()


def _factors_line(name: str, row: Mapping[str, Any]) -> str:
    runtime, _, part = name.partition("/")
    factors = f"{row['layers']} | {row['factor_p50']:.2f} | {row['factor_p90']:.2f} | {row['rank_correlation']:.2f}"
    return f"| {runtime}, {part.replace('_', ' ')} | {factors} |"


def agreement_table(rows: Rows) -> str:
    """Agreement of each runtime with the INT8 graph as written, and of the graph with itself."""
    lines = head("graph, runtime", "instances", "matched", "mask IoU", "box IoU", "score drift", "target")
    for name, row in rows.items():
        ious = f"{row['mask_iou']:.3f} | {row['box_iou']:.3f} | {row['score_drift']:.3f}"
        title, share = name.replace("/", ", "), f"{100 * row['matched_share']:.1f} %"
        lines.append(f"| {title} | {row['instances']} | {share} | {ious} | {MET[row['passed']]} |")
    return "\n".join(lines)


_ARITHMETIC = {
    "reference": "as written, in float32", "onnxruntime": "ONNX Runtime, by the SDK",
    "openvino": "OpenVINO, by the SDK", "onnxruntime-default": "ONNX Runtime, by default",
    "openvino-default": "OpenVINO, by default",
}  # fmt: skip


def saturation_table(rows: Rows) -> str:
    """Mask AP of the INT8 graphs in each arithmetic, beside the graph as written, and time beside the float graph."""
    lines = head("graph, arithmetic", "unseen", "change", "seen", "change", "float / latency")
    for name, row in rows.items():
        variant, arithmetic, split = name.split("/")
        if split != "val":
            continue
        cells = [
            f"{100 * rows[f'{variant}/{arithmetic}/{which}']['mask_ap']:.1f} | "
            f"{100 * rows[f'{variant}/{arithmetic}/{which}']['mask_ap_change']:+.1f}"
            for which in _SPLITS
        ]
        ratio = f"{row['speedup_vs_float']:.2f} x" if "speedup_vs_float" in row else "-"
        lines.append(f"| `{variant}`, {_ARITHMETIC[arithmetic]} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def sensitivity_table(rows: Rows) -> str:
    """Loss by planted outlier channels, gain by a bound on the drop, and the most sensitive layers."""
    lines = head("network, graph", "mask AP", "retention", "MACs in float", "reverted layers")
    for name in (name for name, row in rows.items() if "/layer/" not in name):
        row, (network, _, graph) = rows[name], name.rpartition("/")
        accuracy = f"{100 * row['mask_ap']:.1f} | {100 * row['retention']:.1f} %"
        bound = f"{100 * row['float_macs_share']:.1f} % | {len(row['reverted'])}" if "reverted" in row else "- | -"
        lines.append(f"| {network}, `{graph}` | {accuracy} | {bound} |")
    layers = [(name.rpartition("/")[2], row) for name, row in rows.items() if "/layer/" in name]
    if not layers:
        return "\n".join(lines)
    worst = ", ".join(f"`{name}` (mask IoU {row['mask_iou']:.2f})" for name, row in layers[:_WORST])
    return "\n".join([*lines, "", f"Most sensitive of {len(layers)} layers of the planted network: {worst}."])


_WORST = 5


def clipping_table(rows: Rows) -> str:
    """Mask AP with masks pooled from the whole box and from its visible part."""
    lines = head("masks pooled from", "mask AP, unseen / seen instances")
    names = {"whole": "the whole box, as the reference does", "visible": "its visible part"}
    return "\n".join(lines + [f"| {title} | {_both_splits(rows, name, digits=2)} |" for name, title in names.items()])


def refinements_table(rows: Rows) -> str:
    """Accuracy with each range estimator and refinement step, in both variants."""
    base = 100 * rows["float/val"]["mask_ap"]
    heads = ["ranges, steps", f"mask AP (float {base:.2f})", "mask AP, `tensorrt` graph", "mask IoU with float"]
    heads += ["step kept", "duration"]
    lines = head(*heads)
    for name in [row.removesuffix("/cpu/val") for row in rows if row.endswith("/cpu/val")]:
        both = [rows[f"{name}/{variant}/val"] for variant in ("cpu", "tensorrt")]
        steps = {row.rpartition("/")[2]: rows[row] for row in rows if row.startswith(f"{name}/step/")}
        kept = ", ".join(f"{step}: {'yes' if row['kept'] else 'no'}" for step, row in steps.items()) or "-"
        takes = f"{sum(row['seconds'] for row in steps.values()):.0f} s" if steps else "-"
        aps = " | ".join(f"{100 * row['mask_ap']:.2f}" for row in both)
        lines.append(f"| {name} | {aps} | {both[0]['mask_iou']:.3f} | {kept} | {takes} |")
    return "\n".join(lines)


_BACKBONES = {"R_50": "ResNet-50", "R_101_dcni": "ResNet-101, deformable", "R_101": "ResNet-101", "DLA_34": "DLA-34"}


def models_table(rows: Rows) -> str:
    """Registered configurations with their size, work and published accuracy."""
    heads = ["configuration", "backbone", "input", "parameters", "GMAC", "box AP, COCO", "mask AP, COCO"]
    lines = head(*heads)
    for name, row in rows.items():
        backbone = next((title for part, title in _BACKBONES.items() if part in name), "EfficientNet-Lite0")
        aps = [f"{100 * row[f'published_{task}_ap']:.1f}" if f"published_{task}_ap" in row else "-" for task in _TASKS]
        size = f"{row['height']} x {row['width']}"
        cells = [f"`{name}`", backbone, size, f"{row['parameters'] / 1e6:.1f} M", f"{row['macs'] / 1e9:.1f}", *aps]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_TASKS = ("box", "mask")


def speed_table(rows: Rows) -> str:
    """Latency of each graph compared with dense float, and the share outside the convolutions."""
    heads = [
        "network, runtime, graph",
        "latency p50",
        "speedup over dense float",
        "outside the graph",
        "after the network",
    ]
    heads += ["convolutions / limit"]
    lines = head(*heads)
    for name, row in rows.items():
        if "latency_p50_ms" in row:
            cells = [name.replace("/", ", "), f"{row['latency_p50_ms']:.0f} ms"]
            cells += [_against_target(row, *metric) for metric in _SPEED]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_FRAME = (
    ("INT8 convolutions", ("int8_convolutions",)), ("depthwise", ("depthwise",)),
    ("selection, NMS, coefficients", ("selection", "suppression", "coefficients")), ("masks", ("masks",)),
    ("layout, rest", ("float_convolutions", "layout", "other")),
    ("outside the graph", ("preprocess", "postprocess", "paste")),
)  # fmt: skip
"""Columns of the frame, and the parts that each sums up."""


def frame_table(rows: Rows) -> str:
    """Milliseconds of each part of a frame, beside the network of YOLO26n-seg."""
    lines = head("network, runtime, graph", "latency p50", *(title for title, _ in _FRAME), "latency / peer")
    for name, row in rows.items():
        if "latency_p50_ms" not in row:
            continue
        ours = "peer_ratio" in row
        parts = [f"{sum(row[f'{part}_ms'] for part in parts):.1f}" if ours else "-" for _, parts in _FRAME]
        cells = [name.replace("/", ", "), f"{row['latency_p50_ms']:.1f} ms", *parts]
        lines.append(f"| {' | '.join(cells)} | {row['peer_ratio']:.2f} x |" if ours else f"| {' | '.join(cells)} | - |")
    return "\n".join(lines)


def _against_target(row: Mapping[str, Any], metric: str, factor: float, form: str, least: bool) -> str:
    """Value, with its target and whether it is met if the row has one."""
    if metric not in row:
        return "-"
    shown, target = form.format(factor * row[metric]), row.get(f"target_{metric}")
    if target is None:
        return shown
    met = row[metric] >= target if least else row[metric] <= target
    return f"{shown} ({'at least' if least else 'at most'} {form.format(factor * target)}: {MET[met]})"


TABLES: dict[str, Callable[[Rows], str]] = {
    "ablations": ablations_table,
    "accuracy": accuracy_table,
    "agreement": agreement_table,
    "arithmetic": arithmetic_table,
    "clipping": clipping_table,
    "sensitivity": sensitivity_table,
    "estimate": estimate_table,
    "first_light": first_light_table,
    "frame": frame_table,
    "gate": gate_table,
    "gate_accuracy": gate_accuracy_table,
    "scaling": scaling_table,
    "faults": faults_table,
    "fuzz": fuzz_table,
    "hostile": hostile_table,
    "learning_curve": learning_curve_table,
    "models": models_table,
    "paper": paper_table,
    "parity": parity_table,
    "peers": peers_table,
    "peers_settings": peers_settings_table,
    "peers_summary": peers_summary_table,
    "refinements": refinements_table,
    "outside": outside_table,
    "robot": robot_table,
    "robot_faults": robot_faults_table,
    "saturation": saturation_table,
    "shrink": shrink_table,
    "shrink_choices": shrink_choices_table,
    "speed": speed_table,
    "targets": targets_table,
    "training": training_table,
}
