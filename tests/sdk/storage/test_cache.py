"""The cache lies where the user or XDG says."""

from __future__ import annotations

from pathlib import Path

import pytest

from blendmask_edge import OutputError
from blendmask_edge.storage.cache import cache_folder


def test_own_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("BLENDMASK_CACHE", "/own")
    assert cache_folder() == Path("/own")


@pytest.mark.parametrize("xdg, base", [("/xdg", "/xdg"), ("relative", "/home/anna/.cache"), ("", "/home/anna/.cache")])
def test_otherwise_xdg_decides_unless_it_is_relative(xdg: str, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLENDMASK_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/anna")
    assert cache_folder() == Path(base) / "blendmask-edge"


def test_user_without_a_home_is_told_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("BLENDMASK_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(OutputError, match="BLENDMASK_CACHE"):
        cache_folder()
