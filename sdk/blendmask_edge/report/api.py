"""Write a report: from the names of files to the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence, Union

from blendmask_edge.arguments.prediction import check_threshold
from blendmask_edge.arguments.values import check_count
from blendmask_edge.benchmark.measure import MOST_FRAMES, Track
from blendmask_edge.comparison.graphs import require_path
from blendmask_edge.comparison.result import Comparison
from blendmask_edge.errors import ConfigError
from blendmask_edge.report import sections
from blendmask_edge.report.changes import change_sections, comparison_page
from blendmask_edge.report.entry import Entry, distinct
from blendmask_edge.report.measured import Plan, measure_graphs, unmeasured
from blendmask_edge.report.page import Page, Section
from blendmask_edge.report.sources import Sources, entry_of_run, read_sources
from blendmask_edge.report.trend import trend_sections
from blendmask_edge.report.write import check_output, is_html, write_page
from blendmask_edge.runtimes.registry import AUTO

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

MOST_OVERLAYS = 12


def write_report(
    sources: Union[PathLike, Comparison, Sequence[PathLike]],
    output: PathLike,
    images: Optional[PathLike] = None,
    annotations: Optional[PathLike] = None,
    runtime: str = AUTO,
    threads: Optional[int] = None,
    frames: int = 200,
    track: Track = iter,
    score_threshold: Optional[float] = None,
) -> Path:
    """Write a report as one self-contained HTML or Markdown file.

    Args:
        sources: a `Comparison`, or one or several of: a bundle or a graph of one ("model.bmz:float"), a baseline, a
            record or the JSON output of `blendmask bench`, a folder of records, the JSON output of `blendmask
            sensitivity`. A bundle with a float graph is compared with it. Of several, the first is the reference, and
            earlier measurements come before bundles.
        output: file to write; ends in .html or .md.
        images: folder of images, on which bundles are measured; without, what the bundle itself tells is shown.
        annotations: COCO instances JSON of the images, for average precision.
        runtime, threads: for bundles, as `MaskPredictor` takes them.
        frames: least number of timed frames.
        track: iterates over the frames and may show progress.
        score_threshold: changed instances of bundles count from this score, 0 to 1. None takes the display threshold of
            the first bundle.

    Returns:
        The path of the file.

    Raises:
        ConfigError: an argument is out of range, or there is no source.
        DependencyError: HTML needs a package that is not installed; Markdown needs none.
        BaselineError: a file is not a measurement, or is damaged.
        OutputError: the file cannot be written.
        BlendMaskError: as `MaskPredictor` and the reading of images and annotations.

    Example:
        >>> from blendmask_edge import write_report
        >>> write_report("model.bmz", "report.md", images="images", runtime="onnxruntime", frames=1).name
        'report.md'
    """
    for name, path in (("output", output), ("images", images), ("annotations", annotations)):
        if path is not None or name == "output":
            require_path(name, path)
    check_output(output)
    if isinstance(sources, Comparison):
        write_page(comparison_page(sources, overlays=is_html(Path(output))), output)
        return Path(output)
    paths = list(sources) if isinstance(sources, (list, tuple)) else [require_path("a source", sources)]
    check_count("frames", frames, MOST_FRAMES)
    if annotations is not None and images is None:
        raise ConfigError("Annotations belong to images. Give their folder too: --images DIR.")
    threshold = None if score_threshold is None else check_threshold(score_threshold)
    plan = None if images is None else Plan(images, annotations, runtime, threads, int(frames), threshold)
    write_page(_page(read_sources(paths), plan, is_html(Path(output)), track), output)
    return Path(output)


def _page(sources: Sources, plan: Optional[Plan], html: bool, track: Track) -> Page:
    entries: List[Entry] = list(sources.entries)
    comparison = None
    if sources.graphs and plan is not None:
        measured, comparison = measure_graphs(sources.graphs, plan, track)
        entries += measured
    else:
        entries += unmeasured(sources.graphs)
    trends = [section for folder, runs in sources.histories.items() for section in trend_sections(folder, runs, html)]
    latest = [entry_of_run(runs[-1], folder, f"latest: {runs[-1].name}") for folder, runs in sources.histories.items()]
    entries = distinct([*entries, *latest])
    return Page(
        _title(sources, entries),
        _lines(sources, plan),
        sections.headline(entries) if entries else [],
        [*trends, *_entry_sections(entries, sources, html, comparison)],
    )


def _entry_sections(
    entries: Sequence[Entry], sources: Sources, html: bool, comparison: Optional[Comparison]
) -> List[Section]:
    changes = [] if comparison is None else change_sections(comparison, MOST_OVERLAYS, html, vanished_first=True)
    return [
        *sections.overview(entries, html),
        *sections.limits(entries),
        *sections.classes(entries, html),
        *changes,
        *sections.layers(entries, sources.sensitivity, html),
        *sections.bundles(entries),
        *sections.measured_on(entries),
    ]


def _title(sources: Sources, entries: Sequence[Entry]) -> str:
    names = list(dict.fromkeys(graph.bundle.name for graph in sources.graphs))
    names += [Path(folder).resolve().name for folder in sources.histories]
    names += [entry.label for entry in sources.entries]
    return " and ".join(names) or ", ".join(entry.label for entry in entries) or "Sensitivity of layers"


def _lines(sources: Sources, plan: Optional[Plan]) -> List[str]:
    lines = []
    if sources.graphs and plan is None:
        lines.append("Nothing was measured: give --images for time, and --annotations for accuracy.")
    elif plan is not None and sources.graphs and plan.annotations is None:
        lines.append("Without annotations there is no average precision: give --annotations.")
    elif plan is not None and not sources.graphs:
        lines.append("No bundle is among the sources: --images has no effect.")
    return lines
