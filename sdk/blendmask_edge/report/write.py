"""Write a page to a file, whose suffix says in which format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from blendmask_edge.errors import ConfigError, OutputError
from blendmask_edge.report.html import render_html, require_html
from blendmask_edge.report.markdown import render_markdown
from blendmask_edge.storage.atomic import check_writable, write_bytes

if TYPE_CHECKING:
    from blendmask_edge.report.page import Page
    from blendmask_edge.storage.atomic import PathLike

HTML, MARKDOWN = (".html", ".htm"), (".md", ".markdown")


def check_output(path: PathLike) -> None:
    """See before long work that a page can be written.

    Raises:
        ConfigError: the suffix is neither .html nor .md.
        DependencyError: HTML needs a package that is not installed.
        OutputError: the folder does not exist or cannot be written to, or the path is that of something else.
    """
    target = Path(path)
    if target.suffix.lower() not in HTML + MARKDOWN:
        raise ConfigError(f"{target} is not a name for a page, expected one that ends in .html or .md.")
    if target.is_dir() or not target.parent.is_dir():
        problem = "is a folder" if target.is_dir() else "lies in a folder that does not exist"
        raise OutputError(f"{target} {problem}. Give the path of a file, e.g. {target.name}.")
    check_writable(target)
    if is_html(target):
        require_html()


def write_page(page: Page, path: PathLike) -> None:
    """Write a page, whole or not at all.

    Raises:
        BlendMaskError: as `check_output`; or the file cannot be written.
    """
    check_output(path)
    text = render_html(page) if is_html(Path(path)) else render_markdown(page)
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def is_html(path: Path) -> bool:
    """Whether a name is that of an HTML file."""
    return path.suffix.lower() in HTML
