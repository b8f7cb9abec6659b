"""The sections of a report on graphs and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from blendmask_edge.benchmark.gate import WITHIN
from blendmask_edge.hardware.energy import BOARD_ENERGY, CPU_ENERGY, GPU_ENERGY
from blendmask_edge.report import charts
from blendmask_edge.report.numbers import ABSENT, change_of, in_words, megabytes, percent, plain
from blendmask_edge.report.page import Block, Chart, Charts, Figure, Section, Table

if TYPE_CHECKING:
    from blendmask_edge.benchmark.machine import Machine
    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.report.entry import Entry

Cell = Callable[["Entry"], str]
_ENERGY = {CPU_ENERGY: "processor", GPU_ENERGY: "GPU", BOARD_ENERGY: "board"}


def headline(entries: Sequence[Entry]) -> List[Figure]:
    """Return the numbers of the last entry, against the first if there are two."""
    last, first = entries[-1], entries[0]
    figures = []
    if "mask_ap" in last.metrics:
        figures.append(Figure(percent(last.metrics["mask_ap"]), f"mask AP{_moved(first, last)}"))
    if "latency_p50_ms" in last.metrics:
        figures.append(_latency(first, last))
    if "latency_p99_ms" in last.metrics:
        figures.append(Figure(f"{last.metrics['latency_p99_ms']:.1f} ms", "latency p99"))
    if last.graph_bytes:
        figures.append(Figure(f"{megabytes(last.graph_bytes)} MB", f"graph {last.variant}"))
    if last.changes:
        left = sum(change.result != WITHIN for change in last.changes)
        figures.append(Figure(f"{left} of {len(last.changes)}", "metrics outside their limits", left > 0))
    return figures


def _latency(first: Entry, last: Entry) -> Figure:
    """Return the median of the last entry, and whether other work disturbed it or what it is compared with."""
    speedup = _speedup(first, last)
    disturbed = last.disturbed or bool(speedup and first.disturbed)
    note = "; disturbed by other work" if disturbed else ""
    return Figure(f"{last.metrics['latency_p50_ms']:.1f} ms", f"latency p50{speedup}{note}", disturbed)


def _moved(first: Entry, last: Entry) -> str:
    if first is last or "mask_ap" not in first.metrics:
        return ""
    return f", {change_of(last.metrics['mask_ap'], first.metrics['mask_ap'])} against {first.label}"


def _speedup(first: Entry, last: Entry) -> str:
    """Say how much faster the last entry is; nothing where the machines differ."""
    if first is last or "latency_p50_ms" not in first.metrics or first.machine != last.machine:
        return ""
    ratio = first.metrics["latency_p50_ms"] / last.metrics["latency_p50_ms"]
    return f", {ratio:.2f} x as fast as {first.label}"


def overview(entries: Sequence[Entry], html: bool) -> List[Section]:
    """Return the charts and the table of all that was measured."""
    measured = [entry for entry in entries if entry.metrics]
    if not measured:
        return []
    candidates: List[Optional[Chart]] = []
    if html:
        candidates = [
            draw(entries) for draw in (charts.accuracy_against_latency, charts.latency_distribution, charts.stages)
        ]
    shown = [chart for chart in candidates if chart is not None]
    blocks: List[Block] = [Charts(shown)] if shown else []
    blocks.append(_measured_table(measured))
    blocks += _remarks(measured)
    if len({str(entry.machine) for entry in measured}) > 1:
        blocks.append("The entries were measured on different machines: compare their accuracy, not their times.")
    return [Section("Accuracy and speed", blocks)]


def limits(entries: Sequence[Entry]) -> List[Section]:
    """Return how each entry stands to its baseline."""
    sections = []
    for entry in entries:
        rows = [
            [
                change.metric,
                f"{change.before:.4g}",
                ABSENT if change.now is None else f"{change.now:.4g}",
                f"{change.low:.4g} to {change.high:.4g}",
                change.result,
            ]
            for change in entry.changes
        ]
        if rows:
            table = Table(["metric", "baseline", "now", "allowed", "result"], rows)
            sections.append(Section(f"Limits of the baseline: {entry.label}", [table]))
    return sections


def classes(entries: Sequence[Entry], html: bool) -> List[Section]:
    """Return mask AP by class and its change from the first entry to the last; what fell most comes first."""
    shown = [entry for entry in entries if entry.class_ap]
    if not shown:
        return []
    first, last = shown[0].class_ap, shown[-1].class_ap
    names = sorted(last, key=lambda name: last[name] - first.get(name, 0.0)) if len(shown) > 1 else sorted(last)
    changed = ["change"] if len(shown) > 1 else []
    rows = [
        [
            name,
            *(percent(entry.class_ap.get(name)) for entry in shown),
            *([change_of(last[name], first.get(name))] if changed else []),
        ]
        for name in names
    ]
    chart = charts.classes(entries, names) if html else None
    blocks: List[Block] = [Charts([chart])] if chart is not None else []
    return [Section("Classes", [*blocks, Table(["mask AP", *(entry.label for entry in shown), *changed], rows)])]


def layers(entries: Sequence[Entry], sensitivity: Mapping[str, float], html: bool) -> List[Section]:
    """Return the slowest layers, with what quantizing each costs where that is known."""
    shown = [entry for entry in entries if entry.layers]
    totals: Dict[str, float] = {}
    for entry in shown:
        for layer in entry.layers:
            totals[layer.name] = max(totals.get(layer.name, 0.0), layer.milliseconds)
    names = sorted(totals, key=lambda name: -totals[name])[: charts.MOST_LAYERS]
    names += [name for name in sorted(sensitivity, key=lambda layer: -sensitivity[layer])[:5] if name not in names]
    if not names:
        return []
    times = [{layer.name: layer.milliseconds for layer in entry.layers} for entry in shown]
    alone = ["1 - mask IoU if it alone is quantized"] if sensitivity else []
    rows = [
        [
            name,
            *(plain(layer.get(name), 2) for layer in times),
            *([plain(sensitivity.get(name), 3)] if alone else []),
        ]
        for name in names
    ]
    chart = charts.layers(entries, [name for name in names if name in totals]) if html else None
    blocks: List[Block] = [Charts([chart])] if chart is not None else []
    blocks.append(Table(["layer", *(f"{entry.label}, ms" for entry in shown), *alone], rows))
    blocks.append(
        "Times are from ONNX Runtime's profile, which adds some of its own. Names in brackets are operators other than "
        "convolutions, all of a kind together."
    )
    return [Section("Layers", blocks)]


def bundles(entries: Sequence[Entry]) -> List[Section]:
    """Return size and origin of each bundle, and what was measured when it was made."""
    by_source = {entry.source: entry for entry in entries if entry.manifest is not None}
    sections = []
    for entry in by_source.values():
        if entry.manifest is not None:
            sections.append(Section(f"Bundle: {_name(entry.source)}", list(_bundle_blocks(entry, entry.manifest))))
    return sections


def measured_on(entries: Sequence[Entry]) -> List[Section]:
    """Return how and on what each entry was measured."""
    settings = [[entry.label, entry.setting] for entry in entries if entry.setting]
    machines: Dict[str, Tuple[List[str], Machine]] = {}
    for entry in entries:
        if entry.machine is not None:
            machines.setdefault(str(entry.machine), ([], entry.machine))[0].append(entry.label)
    if not settings:
        return []
    blocks: List[Block] = [Table([], settings)]
    for labels, machine in machines.values():
        blocks.append(Table([], _machine_rows(labels, machine)))
    return [Section("Measurement and machine", blocks)]


def _measured_table(entries: Sequence[Entry]) -> Table:
    def share(name: str) -> Cell:
        return lambda entry: percent(entry.metrics.get(name))

    def number(name: str, digits: int = 1) -> Cell:
        return lambda entry: plain(entry.metrics.get(name), digits)

    rows: List[Tuple[str, Cell]] = [
        ("mask AP", share("mask_ap")),
        ("95 % interval", _interval),
        *((f"mask AP{name}", share(f"mask_ap{name}")) for name in ("50", "75")),
        *((f"mask AP, {name}", share(f"mask_ap_{name}")) for name in ("small", "medium", "large")),
        ("box AP", share("box_ap")),
        *((f"latency {name}, ms", number(f"latency_{name}_ms")) for name in ("p50", "p90", "p99")),
        *((f"{name} p50, ms", number(f"{name}_p50_ms", 2)) for name in ("preprocess", "network", "postprocess")),
        ("frames per second", number("fps")),
        ("memory, MB", number("memory_mb", 0)),
        *((f"energy of a frame, {label}, mJ", number(metric, 0)) for metric, label in _ENERGY.items()),
        ("latency over reference workload", number("latency_ratio", 3)),
        ("outside the network, %", share("outside_share")),
        ("graph, MB", lambda entry: megabytes(entry.graph_bytes)),
    ]
    told = [[label, *(text(entry) for entry in entries)] for label, text in rows]
    return Table(
        ["", *(entry.label for entry in entries)], [row for row in told if any(cell != ABSENT for cell in row[1:])]
    )


def _remarks(entries: Sequence[Entry]) -> List[str]:
    """Return each remark once, with what it is about."""
    about: Dict[str, List[str]] = {}
    for entry in entries:
        for remark in entry.remarks:
            about.setdefault(remark, []).append(entry.label)
    return [f"{', '.join(labels)}: {remark}" for remark, labels in about.items()]


def _interval(entry: Entry) -> str:
    low, high = (entry.metrics.get(f"mask_ap_{end}") for end in ("low", "high"))
    return ABSENT if low is None or high is None else f"{percent(low)} to {percent(high)}"


def _bundle_blocks(entry: Entry, manifest: Manifest) -> List[Block]:
    facts = [
        ["model", manifest.model],
        ["input", f"{manifest.input.height} x {manifest.input.width} (height x width)"],
        [
            "classes",
            f"{len(manifest.classes)}: {', '.join(manifest.classes[:12])}{', ...' * (len(manifest.classes) > 12)}",
        ],
        ["bundle", f"{megabytes(entry.bundle_bytes)} MB"],
        ["recipe", f"{manifest.recipe.name} {manifest.recipe.version}"],
        *(["option", text] for name, value in manifest.recipe.options.items() for text in _option(name, value)),
        ["calibration", manifest.calibration.summary() if manifest.calibration else "none"],
        ["display threshold", f"{manifest.display_threshold:.2g}"],
        ["license", manifest.license],
        ["made", f"{manifest.created} by {manifest.generator}"],
        ["versions", ", ".join(f"{name} {version}" for name, version in manifest.versions.items()) or "not recorded"],
    ]
    graphs = [
        [name, graph.precision, megabytes(graph.size), _fidelity(manifest, name)]
        for name, graph in manifest.graphs.items()
    ]
    blocks: List[Block] = [Table([], facts)]
    blocks.append(Table(["graph", "precision", "MB", "matched with float, mask IoU"], graphs))
    measured = [
        [variant, f"{one.images} images of {one.data}", *(percent(one.metrics.get(m)) for m in ("mask_ap", "box_ap"))]
        for variant, measurements in manifest.metrics.items()
        for one in measurements
    ]
    if measured:
        blocks.append(Table(["measured when it was made", "data", "mask AP", "box AP"], measured))
    return blocks


def _option(name: str, value: Any) -> List[str]:
    """Return an option in words, a line for each part where it is made of parts."""
    if isinstance(value, Mapping) and value and all(isinstance(part, Mapping) for part in value.values()):
        return [f"{name}: {part}: {in_words(told)}" for part, told in value.items()]
    return [f"{name}: {in_words(value)}"]


def _fidelity(manifest: Manifest, variant: str) -> str:
    fidelity = manifest.fidelity.get(variant)
    if fidelity is None:
        return ABSENT
    overlap = "" if fidelity.mask_iou is None else f", {fidelity.mask_iou:.3f}"
    return f"{fidelity.matched} of {fidelity.matched + fidelity.missed}{overlap}"


def _machine_rows(labels: Sequence[str], machine: Machine) -> List[List[str]]:
    memory = "" if machine.memory_gb is None else f", {machine.memory_gb} GB"
    return [
        ["measured on it", ", ".join(labels)],
        ["processor", f"{machine.cpu}, {machine.architecture}, {machine.cores} cores{memory}"],
        ["INT8 features", ", ".join(machine.flags) or "none known"],
        ["system", f"{machine.system}, Python {machine.python}"],
        ["packages", ", ".join(f"{name} {version}" for name, version in machine.packages.items())],
    ]


def _name(source: str) -> str:
    return source.replace("\\", "/").rpartition("/")[2]
