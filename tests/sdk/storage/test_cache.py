"""The cache lies where the user or XDG says, and takes nothing that others could have put there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from blendmask_edge import OutputError
from blendmask_edge.storage.cache import Cache, cache_folder


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


LARGE = b"an engine" * 1000


@pytest.fixture
def cache(own_cache: Path) -> Cache:
    return Cache(own_cache, "engines")


@pytest.fixture
def planted(cache: Cache) -> Path:
    """Return the path of a sound file of the cache, to be tampered with."""
    return cache.write("a.engine", LARGE)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_what_is_written_is_read(cache: Cache) -> None:
    assert cache.read("a.engine") is None
    assert cache.names() == []
    assert cache.write("a.engine", b"") == cache.path("a.engine")
    cache.write("a.engine", LARGE)
    cache.keep("b.engine", b"b")
    assert (cache.read("a.engine"), cache.read("b.engine")) == (LARGE, b"b")
    assert sorted(cache.names()) == ["a.engine", "b.engine"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_levels_are_made_for_their_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    base = tmp_path / "home" / ".cache" / "own"
    before = os.umask(umask)
    try:
        path = Cache(base, "engines").write("a.engine", LARGE)
    finally:
        os.umask(before)
    levels = [path.parent, base, base.parent, base.parent.parent]
    assert [mode_of(level) for level in levels] == [0o700] * 4
    assert mode_of(path) == 0o600
    assert Cache(base, "engines").read("a.engine") == LARGE


@pytest.mark.parametrize("where", ["planted bytes", "flipped", "cut", "empty", "another name"])
def test_a_file_that_was_not_written_as_it_is_is_ignored_and_replaced(
    where: str, cache: Cache, planted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = planted.read_bytes()
    spoilt = {
        "planted bytes": LARGE, "flipped": sound[:-1] + b"?", "cut": sound[:100], "empty": b"", "another name": sound,
    }  # fmt: skip
    name = "other.engine" if where == "another name" else "a.engine"
    cache.path(name).write_bytes(spoilt[where])
    assert cache.read(name) is None
    assert f"{name} is damaged" in caplog.text
    cache.write(name, LARGE)
    assert cache.read(name) == LARGE


@pytest.mark.parametrize("level", ["", "engines"])
@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_passed_over(
    level: str, mode: int, own_cache: Path, cache: Cache, planted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert planted.is_file()
    (own_cache / level).chmod(mode)
    assert cache.read("a.engine") is None
    assert cache.names() == []
    assert f"chmod go-w {own_cache / level}" in caplog.text
    for write in (lambda: cache.write("b.engine", b"b"), cache.check):
        with pytest.raises(OutputError, match=f"can be written by other users .*chmod go-w {own_cache / level}"):
            write()
    cache.keep("b.engine", b"b")
    (own_cache / level).chmod(0o700)
    assert (cache.read("a.engine"), cache.read("b.engine")) == (LARGE, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("level", ["..", "", "engines"])
def test_a_folder_of_another_user_is_passed_over(level: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = tmp_path / "home" / "cache"
    cache = Cache(base, "engines")
    cache.write("a.engine", LARGE)
    os.chown(base / level, 4242, -1)
    assert cache.read("a.engine") is None
    assert "belongs to user 4242" in caplog.text
    with pytest.raises(OutputError, match=r"belongs to user 4242.*chown 0 .*BLENDMASK_CACHE"):
        cache.check()


def test_an_unsafe_folder_above_is_passed_over_unless_sticky(tmp_path: Path) -> None:
    above = tmp_path / "shared"
    cache = Cache(above / "own", "engines")
    cache.write("a.engine", LARGE)
    above.chmod(0o777)
    assert cache.read("a.engine") is None
    above.chmod(0o1777)
    assert cache.read("a.engine") == LARGE


@pytest.mark.parametrize("level", ["", "engines"])
def test_links_to_folders_are_not_followed(level: str, own_cache: Path, cache: Cache, planted: Path) -> None:
    folder, moved = own_cache / level, own_cache.with_name("moved")
    folder.rename(moved)
    folder.symlink_to(moved, target_is_directory=True)
    assert planted.is_file()
    assert cache.read("a.engine") is None
    with pytest.raises(OutputError, match=r"is a link.*BLENDMASK_CACHE"):
        cache.write("a.engine", b"other")


def test_a_link_above_the_cache_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "home").symlink_to(tmp_path / "disk", target_is_directory=True)
    Cache(tmp_path / "home" / "own", "engines").write("a.engine", LARGE)
    assert Cache(tmp_path / "disk" / "own", "engines").read("a.engine") == LARGE


def test_a_link_to_a_file_is_not_followed_but_replaced(cache: Cache, planted: Path, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    planted.rename(aside)
    planted.symlink_to(aside)
    before = aside.read_bytes()
    assert cache.read("a.engine") is None
    assert cache.names() == []
    cache.write("a.engine", b"new")
    assert (cache.read("a.engine"), aside.read_bytes(), planted.is_symlink()) == (b"new", before, False)


def test_a_fifo_does_not_hang(cache: Cache, planted: Path) -> None:
    planted.unlink()
    os.mkfifo(planted)
    assert cache.read("a.engine") is None
    assert cache.names() == []
    cache.write("a.engine", LARGE)
    assert cache.read("a.engine") == LARGE


def test_a_file_in_the_way_of_the_folder_is_told(own_cache: Path, cache: Cache) -> None:
    own_cache.write_text("in the way")
    assert cache.read("a.engine") is None
    with pytest.raises(OutputError, match="Cannot write"):
        cache.write("a.engine", b"")


def test_a_folder_in_the_way_of_a_file_leaves_no_part(cache: Cache) -> None:
    cache.write("b.engine", b"b")
    cache.path("a.engine").mkdir()
    with pytest.raises(OutputError, match=r"Cannot write .*a\.engine"):
        cache.write("a.engine", b"")
    assert sorted(path.name for path in cache.folder.iterdir()) == ["a.engine", "b.engine"]


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_file_that_others_can_write_is_ignored(mode: int, cache: Cache, planted: Path) -> None:
    planted.chmod(mode)
    assert cache.read("a.engine") is None
    cache.write("a.engine", b"new")
    assert (cache.read("a.engine"), mode_of(planted)) == (b"new", 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away or make a device")
@pytest.mark.parametrize("kind", ["file of another user", "device"])
def test_what_another_user_put_in_the_place_of_a_file_is_ignored(kind: str, cache: Cache, planted: Path) -> None:
    if kind == "device":
        planted.unlink()
        try:
            os.mknod(planted, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
        except PermissionError:
            pytest.skip("no devices can be made here")
    else:
        os.chown(planted, 4242, -1)
    assert cache.read("a.engine") is None
    cache.write("a.engine", b"new")
    assert cache.read("a.engine") == b"new"


def test_what_was_planted_with_the_digest_of_another_file_is_ignored(cache: Cache) -> None:
    """The digest covers the name, so that a sound file of one engine is none of another."""
    sound = cache.write("small.engine", b"small").read_bytes()
    cache.write("large.engine", LARGE)
    cache.path("large.engine").write_bytes(sound)
    assert cache.read("large.engine") is None


def test_writers_in_many_processes_leave_one_whole_file(own_cache: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from blendmask_edge.storage.cache import Cache\n"
        "cache = Cache(Path(sys.argv[1]), 'engines')\n"
        "for _ in range(50):\n"
        "    cache.write('a.engine', sys.argv[2].encode() * 50_000)\n"
        "    assert len(set(cache.read('a.engine'))) == 1\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(own_cache), letter]) for letter in "abcd"]
    assert [process.wait() for process in started] == [0] * 4
    assert sorted(path.name for path in (own_cache / "engines").iterdir()) == ["a.engine"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_disk_that_takes_nothing_costs_no_run(
    number: int, cache: Cache, planted: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(OutputError, match=f"Cannot write .*b.engine: {os.strerror(number)}"):
        cache.write("b.engine", b"b")
    cache.keep("b.engine", b"b")
    assert "Nothing is kept for the next start" in caplog.text
    assert cache.read("a.engine") == LARGE
    assert [path.name for path in cache.folder.iterdir()] == [planted.name]


def test_what_a_killed_writer_left_is_no_file_and_is_taken_over(cache: Cache, planted: Path) -> None:
    left = cache.folder / ".b.engine.0.part"
    left.write_bytes(b"half")
    assert cache.names() == [planted.name]
    cache.write("b.engine", b"b")
    assert not left.exists()
