"""A page in plain values, whichever format it is written in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple, Union


@dataclass(frozen=True)
class Table:
    """Rows of text below headings; `headings` is empty for a list of facts. Columns but the first are numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True


@dataclass(frozen=True)
class Chart:
    """A drawing: inline SVG, and what it shows in a sentence."""

    svg: str
    title: str


@dataclass(frozen=True)
class Charts:
    """Charts beside each other, or below each other on a narrow screen."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Overlay:
    """An image before and after, as JPEG, and what changed in it."""

    name: str
    before: bytes
    after: bytes
    changes: Sequence[Tuple[str, str]]
    """Kind of the change, and its text."""


@dataclass(frozen=True)
class Overlays:
    """Images with what `before` and `after` stand for."""

    before: str
    after: str
    overlays: Sequence[Overlay]


Block = Union[str, Table, Charts, Overlays]
"""A string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Figure:
    """A number that stands at the top of the page, with what it is; `bad` where a limit was left."""

    value: str
    label: str
    bad: bool = False


@dataclass(frozen=True)
class Page:
    """A whole page; `lines` stand below the title."""

    title: str
    lines: Sequence[str]
    figures: Sequence[Figure]
    sections: Sequence[Section]
