"""The install command in a message fits how this package was installed."""

from __future__ import annotations

import importlib.metadata
import json
from types import SimpleNamespace
from typing import Any, Dict, Optional

import pytest

from blendmask_edge.errors import install_command


@pytest.mark.parametrize(
    "origin, expected",
    [
        (None, 'pip install "blendmask-edge[cpu]"'),
        ({"url": "file:///a%20b/src", "dir_info": {"editable": True}}, 'pip install -e "/a b/src[cpu]"'),
        ({"url": "file:///src", "dir_info": {}}, 'pip install "/src[cpu]"'),
        (
            {"url": "file:///w/blendmask_edge-1-py3-none-any.whl", "archive_info": {}},
            'pip install "blendmask-edge[cpu] @ file:///w/blendmask_edge-1-py3-none-any.whl"',
        ),
        (
            {"url": "https://host/p.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            'pip install "blendmask-edge[cpu] @ git+https://host/p.git@abc"',
        ),
    ],
)
def test_install_command_names_where_the_package_came_from(
    origin: Optional[Dict[str, Any]], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = None if origin is None else json.dumps(origin)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: recorded))
    assert install_command("cpu") == expected


def test_sources_on_the_path_are_installed_from_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert install_command("cpu").startswith('pip install -e "/')
