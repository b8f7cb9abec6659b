"""Write a page as one HTML file that asks for nothing: styles, charts and overlays are inside it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from blendmask_edge.errors import DependencyError, install_command
from blendmask_edge.report.page import Charts, Overlays, Table

if TYPE_CHECKING:
    from blendmask_edge.report.page import Page

TEMPLATE = "page.html.jinja"


def render_html(page: Page) -> str:
    """Return a page as HTML, readable in light and dark and on a phone.

    Raises:
        DependencyError: Jinja2 is not installed.
    """
    environment = _environment()
    environment.filters["data_uri"] = _data_uri
    environment.filters["kind"] = _kind
    return str(environment.get_template(TEMPLATE).render(page=page))


def require_html() -> None:
    """See before long work that HTML can be written.

    Raises:
        DependencyError: Jinja2 or Matplotlib is not installed.
    """
    _environment()
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise _missing("Matplotlib") from error


def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise _missing("Jinja2") from error
    return jinja2.Environment(
        loader=jinja2.PackageLoader("blendmask_edge.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _missing(package: str) -> DependencyError:
    return DependencyError(
        f"An HTML page needs {package}, which is not installed. Type: {install_command('report')}. "
        "Or write Markdown: --output NAME.md"
    )


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _kind(block: Any) -> str:
    kinds = ((Table, "table"), (Charts, "charts"), (Overlays, "overlays"))
    return next((name for kind, name in kinds if isinstance(block, kind)), "text")
