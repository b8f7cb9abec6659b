"""The report of a device as a page, and as the lines under its target."""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, Sequence

from blendmask_edge.report.page import Block, Figure, Page, Section, Table
from blendmask_edge.verification.report import ABSENT, FAILED, LEFT, PASSED, SKIPPED, DeviceReport, Row, SignedReport
from blendmask_edge.verification.routes import AGREEMENT, BUILD, LAYERS, MEASURE, SOAK

_COLUMNS = (
    ("mask AP", MEASURE, "mask_ap", "{:.4f}"),
    ("p50 ms", MEASURE, "latency_p50_ms", "{:.2f}"),
    ("p90 ms", MEASURE, "latency_p90_ms", "{:.2f}"),
    ("p99 ms", MEASURE, "latency_p99_ms", "{:.2f}"),
    ("network p50 ms", MEASURE, "network_p50_ms", "{:.2f}"),
    ("differ from CPU", AGREEMENT, "changed_share", "{:.2%}"),
    ("AP less CPU", AGREEMENT, "mask_ap_difference", "{:+.4f}"),
    ("soak p99 ms", SOAK, "p99_ms", "{:.2f}"),
    ("soak drift", SOAK, "drift", "{:+.1%}"),
)
_DEVICE = (
    ("GPU clock MHz", "gpu_clock_mhz_median", "{:.0f}"),
    ("memory clock MHz", "memory_clock_mhz_median", "{:.0f}"),
    ("hottest GPU °C", "gpu_temperature_c_max", "{:.0f}"),
    ("power W", "power_w_median", "{:.1f}"),
    ("CPU clock MHz", "cpu_clock_mhz_median", "{:.0f}"),
    ("hottest zone °C", "hottest_zone_c_max", "{:.0f}"),
)
_PROTOCOL = (
    "Milliseconds from the image in memory to its masks. Detections and masks are compared with those of the same "
    "graph on the CPU."
)
_LAYERS = ("layers", "reformats", "convolutions_int8", "convolutions_not_int8", "convolutions_unnamed")


def report_page(report: DeviceReport, signed_by: str) -> Page:
    """Return the page of a report."""
    measured = _measured(report)
    subject = f"{report.subject.model}, {report.subject.bundle} ({report.subject.sha256[:12]})"
    lines = [
        f"{subject}, {report.images} images of {report.data}, {report.created}.",
        f"Signed by {signed_by}." if signed_by else "Not signed.",
        _PROTOCOL,
    ]
    figures = [
        Figure(str(len(report.of(status))), status, bad=status in (FAILED, LEFT))
        for status in (PASSED, LEFT, FAILED, SKIPPED, ABSENT)
        if report.of(status)
    ]
    sections = [
        Section("Device", [Table((), list(_facts(report)), numbers=False)]),
        Section("Routes", [_table(report, measured)] if measured else ["Nothing was measured."]),
        Section("Device during the soak", _device_table(report, measured)),
        Section("Engines", _engine_tables(report)),
        Section("Notes", list(_notes(report))),
        Section("Not passed", [_rest_table(report)]),
    ]
    title = f"{report.title}: {report.subject.model}"
    return Page(title, lines, figures, [section for section in sections if any(section.blocks)])


def measured_lines(signed: SignedReport) -> List[str]:
    """Return one line a route of what was measured, for the table of devices."""
    report = signed.report
    device = report.gpu.name if report.gpu is not None else report.machine.cpu
    by = f"signed by {signed.signed_by}" if signed.signed_by else "not signed"
    lines = [f"Measured on {device}, {report.created[:10]}, {report.subject.bundle}, {by}:"]
    for route in _measured(report):
        cells = _cells(report, route)
        texts = [
            f"{cells[name]} {name}" for name in ("mask AP", "p50 ms", "p99 ms", "differ from CPU") if name in cells
        ]
        if _is_disturbed(report, route):
            texts.append("disturbed by other work")
        lines.append(f"  {route}: {', '.join(texts)}")
    return lines


def summary_line(report: DeviceReport) -> str:
    """Return how many rows have which status."""
    counts = [f"{len(report.of(status))} {status}" for status in (PASSED, LEFT, FAILED, SKIPPED, ABSENT)]
    return ", ".join(text for text in counts if not text.startswith("0 "))


def describe_row(row: Row) -> str:
    """Return a row on one line."""
    numbers = {**{name: (key, form) for name, part, key, form in _COLUMNS if part == row.part}}
    texts = [f"{form.format(row.metrics[key])} {name}" for name, (key, form) in numbers.items() if key in row.metrics]
    if row.part == BUILD and "build_seconds" in row.metrics:
        texts.append(f"{row.metrics['build_seconds']:.1f} s")
    if row.part == LAYERS and row.metrics:
        texts.append(", ".join(f"{name} {row.metrics.get(name, 0):.0f}" for name in _LAYERS))
    told = [f"{row.route} {row.part}: {row.status}", *texts]
    why = f"; {row.reason}." if row.reason else ""
    return ", ".join(told) + why + (f" Next: {row.next}" if row.next else "")


def _measured(report: DeviceReport) -> List[str]:
    """Return the names of the routes that were timed, in order."""
    return [row.route for row in report.rows if row.part == MEASURE and row.status == PASSED]


def _is_disturbed(report: DeviceReport, route: str) -> bool:
    row = report.row(route, MEASURE)
    return row is not None and row.metrics.get("disturbances", 0) > 0


def _cells(report: DeviceReport, route: str) -> Dict[str, str]:
    cells = {}
    for name, part, key, form in _COLUMNS:
        row = report.row(route, part)
        if row is not None and key in row.metrics:
            cells[name] = form.format(row.metrics[key])
    return cells


def _table(report: DeviceReport, routes: Sequence[str]) -> Table:
    headings = [name for name, *_ in _COLUMNS]
    rows = [[route, *(_cells(report, route).get(name, "-") for name in headings)] for route in routes]
    return Table(["route", *headings], rows)


def _device_table(report: DeviceReport, routes: Sequence[str]) -> List[Block]:
    metrics: Mapping[str, Mapping[str, float]] = {
        route: row.metrics for route in routes for row in [report.row(route, SOAK)] if row is not None
    }
    shown = [column for column in _DEVICE if any(column[1] in values for values in metrics.values())]
    rows = [
        [route, *(form.format(values[key]) if key in values else "-" for _, key, form in shown)]
        for route, values in metrics.items()
    ]
    return [Table(["route", *(name for name, *_ in shown)], rows)] if shown else []


def _engine_tables(report: DeviceReport) -> List[Block]:
    tables: List[Block] = []
    built = [row for row in report.rows if row.part == BUILD and row.metrics]
    if built:
        rows = [
            [row.route, f"{row.metrics['build_seconds']:.1f}", f"{row.metrics.get('engine_bytes', 0) / 1e6:.1f}"]
            for row in built
        ]
        tables.append(Table(["route", "build s", "engine MB"], rows))
    for row in report.rows:
        if row.part == LAYERS and row.metrics:
            tables.append(Table(["layers of " + row.route, "count"], [[k, f"{v:.0f}"] for k, v in row.metrics.items()]))
    return tables


def _notes(report: DeviceReport) -> Iterator[str]:
    for row in report.rows:
        for note in row.notes:
            yield f"{row.route} {row.part}: {note}"


def _rest_table(report: DeviceReport) -> Table:
    rows = [[row.route, row.part, row.status, row.reason, row.next] for row in report.rows if row.status != PASSED]
    return Table(["route", "part", "status", "reason", "next step"], rows, numbers=False)


def _facts(report: DeviceReport) -> Iterator[Sequence[str]]:
    machine = report.machine
    if report.gpu is not None:
        yield "GPU", f"{report.gpu.name}, SM {report.gpu.sm}, driver {report.gpu.driver}"
    yield "processor", f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.flags) or 'no INT8 features'}"
    yield "system", f"{machine.system} {machine.architecture}, Python {machine.python}"
    yield from report.power.items()
    yield "toolchains", ", ".join(f"{name} {version}" for name, version in report.toolchains.items())
