"""Messages are of bounded length, and the install command in one fits how this package was installed."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Optional

import pytest

from blendmask_edge import ConfigError, MaskPredictor
from blendmask_edge.errors import install_command


@pytest.mark.parametrize(
    "origin, expected",
    [
        ({"url": "file://{here}/a%20b", "dir_info": {"editable": True}}, 'pip install -e "{here}/a b[cpu]"'),
        ({"url": "file://{here}/a%20b", "dir_info": {}}, 'pip install "{here}/a b[cpu]"'),
        ({"url": "file://{here}/p.whl", "archive_info": {}}, 'pip install "blendmask-edge[cpu] @ file://{here}/p.whl"'),
        (
            {"url": "https://host/p.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            'pip install "blendmask-edge[cpu] @ git+https://host/p.git@abc"',
        ),
    ],
)
def test_install_command_names_where_the_package_came_from(
    origin: Dict[str, Any], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "p.whl").touch()
    record_origin(monkeypatch, json.dumps(origin).replace("{here}", str(tmp_path)))
    assert install_command("cpu") == expected.replace("{here}", str(tmp_path))


@pytest.mark.parametrize("origin", [None, '{"url": "file:///gone/p.whl", "archive_info": {}}'])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_install_command_names_the_packages_of_an_extra_where_its_source_is_unknown(
    origin: Optional[str], quote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_origin(monkeypatch, origin)
    extras = {"blendmask-edge[cpu]": "all", "onnxruntime>=1.16": "cpu", "numpy (>=1.20)": "cpu", "openvino": "openvino"}
    required = ["msgspec", *(f"{name} ; extra == {quote}{extra}{quote}" for name, extra in extras.items())]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: required)
    assert install_command("cpu") == install_command("all") == 'pip install "onnxruntime>=1.16" "numpy(>=1.20)"'


def record_origin(monkeypatch: pytest.MonkeyPatch, recorded: Optional[str]) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: recorded))


def test_sources_on_the_path_are_installed_from_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert install_command("cpu").startswith('pip install -e "/')


@pytest.mark.parametrize("value", ["x" * 10**6, [0] * 10**6], ids=["text", "list"])
def test_message_of_a_long_value_keeps_its_beginning_and_its_end(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^threads is .* characters left out\] .*expected an integer") as raised:
        MaskPredictor("m.bmz", threads=value)
    assert len(str(raised.value)) < 5000
