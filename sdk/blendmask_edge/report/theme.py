"""Draw with Matplotlib in colors that the page decides on, so that one drawing is right in light and in dark."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from typing import TYPE_CHECKING, Any, Iterator, Tuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, GRID, PAPER, BAD = "#010101", "#010102", "#010103", "#010104", "#010105"
SERIES = ("#010110", "#010111", "#010112", "#010113", "#010114", "#010115")
_VARIABLES = {
    INK: "--ink", SOFT: "--soft", GRID: "--grid", PAPER: "--paper", BAD: "--bad",
    **{color: f"--c{number}" for number, color in enumerate(SERIES)},
}  # fmt: skip
"""Colors that nothing else has, and the variable of the page that takes the place of each."""
WIDTH = 4.6
"""Inches of a chart: as wide as a phone, so that its text keeps its size there."""
_SETTINGS: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "blendmask", "font.size": 9, "font.family": "sans-serif",
    "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": GRID, "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.facecolor": "none", "figure.facecolor": "none", "axes.grid": True, "grid.color": GRID, "axes.axisbelow": True,
    "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "legend.fontsize": 9,
}  # fmt: skip


def color(number: int) -> str:
    """Return the color of a series."""
    return SERIES[number % len(SERIES)]


@contextlib.contextmanager
def drawing(height: float, rows: int = 1) -> Iterator[Tuple[Figure, Any]]:
    """Give a figure and its axes, as settings of the user would not have them."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as NewFigure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        figure = NewFigure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots(rows)


def as_svg(figure: Figure) -> str:
    """Return a figure as inline SVG whose colors and font are those of the page."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that Matplotlib's font lacks; the browser has others
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font(-family)?: ?[^;\"]*sans-serif[^;\"]*", _font, svg)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, f"var({variable})")
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    return svg.replace("xlink:href", "href").strip()


def legend_above(figure: Figure, columns: int = 2) -> None:
    """Put the legend above the chart, where it covers nothing and is cut nowhere."""
    figure.legend(loc="outside upper left", ncols=columns, borderaxespad=0.2, handlelength=1.2, columnspacing=1.2)


def _font(match: re.Match[str]) -> str:
    size = re.search(r"[\d.]+px", match[0])
    return f"font-size: {size[0]}" if size else "font-family: inherit"
