"""Look into a written page as a browser would."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, List

_FETCHED = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class _Requests(HTMLParser):
    """Collect what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: List[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        for name, value in attrs:
            if name in _FETCHED and not (value or "").startswith(("data:", "#")):
                self.requests.append(f"{tag} {name}={value}")
        if tag in ("script", "iframe", "object", "embed"):
            self.requests.append(tag)


def requests_of(text: str) -> List[str]:
    """Return all that a page would ask for, and all that could run in it."""
    parser = _Requests()
    parser.feed(text)
    return parser.requests + re.findall(r"url\((?!#)[^)]*\)|@import", text)
