"""A file appears whole or not at all, whoever writes it at once, and whatever a killed writer left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import List

import pytest

from blendmask_edge import OutputError
from blendmask_edge.storage.atomic import check_writable, replacing, write_bytes
from blendmask_edge.storage.temporary import SLOTS, scratch_folder, temporary_folder
from tests.sdk.storage.faults import each_fault, injected

HANGS = """
import sys, time
from blendmask_edge.storage.atomic import replacing
with replacing(sys.argv[1]) as stream:
    stream.write(b"half")
    stream.flush()
    print("open", flush=True)
    time.sleep(600)
"""


def names(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_while_writing(path: Path) -> None:
    """Write half of a file in another process, and kill it."""
    process = subprocess.Popen([sys.executable, "-c", HANGS, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_the_next_writer_takes_over_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"older")
    for _ in range(2):
        killed_while_writing(path)
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == [".a.bin.0.part", "a.bin"]
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("name, reason", [("none/a", "No such file"), ("", "is a folder"), ("x" * 300, "shorter")])
def test_place_that_cannot_be_written_is_refused_early(name: str, reason: str, tmp_path: Path) -> None:
    for write in (check_writable, lambda path: write_bytes(path, b"new")):
        with pytest.raises(OutputError, match=reason):
            write(tmp_path / name)
    check_writable(tmp_path / "a")
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_not_a_file_is_not_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        path.symlink_to(os.devnull)
    before = path.lstat()
    for write in (check_writable, lambda target: write_bytes(target, b"new")):
        with pytest.raises(OutputError, match="is a device, pipe or socket; give the name of a file"):
            write(path)
    assert path.lstat() == before
    assert names(tmp_path) == ["a"]


def test_a_file_that_another_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    process = subprocess.Popen([sys.executable, "-c", HANGS, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    write_bytes(path, b"ours")
    assert path.read_bytes() == b"ours"
    assert (tmp_path / ".a.bin.0.part").read_bytes() == b"half"
    process.kill()
    process.wait()
    process.stdout.close()


def test_many_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path, contents, failures = tmp_path / "a.bin", [bytes([number]) * 100_000 for number in range(8)], []  # type: ignore[var-annotated]

    def write(content: bytes) -> None:
        try:
            for _ in range(40):
                write_bytes(path, content)
        except Exception as error:  # whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert path.read_bytes() in contents
        time.sleep(0.001)
    assert failures == []
    assert names(tmp_path) == ["a.bin"]


def test_more_writers_than_names_are_served(tmp_path: Path) -> None:
    path, open_ones = tmp_path / "a.bin", []
    for number in range(SLOTS + 2):
        stream = replacing(path)
        stream.__enter__().write(bytes([number]))
        open_ones.append(stream)
    assert len(names(tmp_path)) == SLOTS + 2
    for number, stream in enumerate(open_ones):
        stream.__exit__(None, None, None)
        assert path.read_bytes() == bytes([number])
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("kind", ["link", "broken link", "FIFO", "folder", "hard link"])
def test_what_stands_in_the_place_of_a_temporary_file_is_not_written_to(kind: str, tmp_path: Path) -> None:
    victim, temporary = tmp_path / "victim", tmp_path / ".a.bin.0.part"
    victim.write_bytes(b"precious")
    if kind == "link":
        temporary.symlink_to(victim)
    elif kind == "broken link":
        temporary.symlink_to(tmp_path / "none")
    elif kind == "FIFO":
        os.mkfifo(temporary)
    elif kind == "folder":
        temporary.mkdir()
    else:
        os.link(victim, temporary)
    write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert victim.read_bytes() == b"precious"
    assert names(tmp_path) == [".a.bin.0.part", "a.bin", "victim"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_temporary_file_of_another_user_is_not_written_to(tmp_path: Path) -> None:
    planted = tmp_path / ".a.bin.0.part"
    planted.write_bytes(b"planted")
    os.chown(planted, 4242, -1)
    write_bytes(tmp_path / "a.bin", b"new")
    assert planted.read_bytes() == b"planted"
    assert (tmp_path / "a.bin").stat().st_uid == 0


@pytest.mark.parametrize("name", ["x" * 240, "\N{GRINNING FACE}" * 60, "a b.json", ".hidden"])
def test_any_name_that_the_system_takes_is_written(name: str, tmp_path: Path) -> None:
    write_bytes(tmp_path / name, b"new")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("error", [OSError("no"), RuntimeError("no"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_older_file_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"older")

    def write_half() -> None:
        with replacing(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises((OutputError, type(error))):
        write_half()
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == ["a.bin"]


def test_system_without_locks_writes_by_random_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr("fcntl.flock", unsupported)
    for content in (b"new", b"newer"):
        write_bytes(tmp_path / "a.bin", content)
        assert (tmp_path / "a.bin").read_bytes() == content
        assert names(tmp_path) == ["a.bin"]
        monkeypatch.setattr("blendmask_edge.storage.temporary.fcntl", None)


STAGES = """
import sys, time
from pathlib import Path
from blendmask_edge.storage.temporary import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(b"half")
    (folder / "inner").mkdir()
    print("open", flush=True)
    time.sleep(600)
"""


def test_a_folder_that_a_killed_process_left_is_emptied_and_taken_over(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STAGES, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    with temporary_folder(tmp_path) as beside:
        assert names(tmp_path) == [".0.part", ".1.part"]
        assert names(beside) == []
    process.kill()
    process.wait()
    process.stdout.close()
    assert names(tmp_path / ".0.part") == ["half", "inner"]
    with temporary_folder(tmp_path) as taken:
        assert (taken.name, names(taken)) == (".0.part", [])
    assert names(tmp_path) == []


def test_a_folder_that_a_failure_left_is_taken_over_by_the_same_process(tmp_path: Path) -> None:
    def work() -> None:
        with temporary_folder(tmp_path) as folder:
            (folder / "a").write_bytes(b"new")
            (folder / "a").replace(tmp_path / "a")

    for number in each_fault(work):
        with injected(number), contextlib.suppress(OSError):
            work()
        work()
        assert names(tmp_path) == ["a"], number


def test_a_link_in_the_place_of_a_temporary_folder_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").touch()
    (tmp_path / ".0.part").symlink_to(tmp_path / "victim", target_is_directory=True)
    with temporary_folder(tmp_path) as folder:
        (folder / "a").touch()
    assert names(tmp_path) == [".0.part", "victim"]
    assert names(tmp_path / "victim") == ["precious"]


SCRATCH = """
import time
from blendmask_edge.storage.temporary import scratch_folder
with scratch_folder() as folder:
    (folder / "half").write_bytes(b"half")
    print(folder, flush=True)
    time.sleep(600)
"""


def kill_in_scratch_folder(system: Path) -> Path:
    """Kill a process that has a temporary folder; return the folder."""
    environment = {**os.environ, "TMPDIR": str(system)}
    process = subprocess.Popen([sys.executable, "-c", SCRATCH], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().decode().strip())
    process.kill()
    process.wait()
    process.stdout.close()
    return folder


def test_a_temporary_folder_of_the_system_that_a_killed_process_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = kill_in_scratch_folder(tmp_path)
    assert names(left) == ["half"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as folder, scratch_folder() as other:
        assert folder != other
        assert names(folder) == names(other) == []
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "open to others", "file"])
def test_what_stands_in_the_place_of_our_temporary_folders_is_not_used(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place, victim = tmp_path / f"blendmask-{os.geteuid()}", tmp_path / "victim"
    victim.mkdir(mode=0o700)
    if kind == "link":
        place.symlink_to(victim, target_is_directory=True)
    elif kind == "file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    with scratch_folder() as folder:
        assert folder.parent == tmp_path
        assert names(folder) == names(victim) == []
    assert names(tmp_path) == [place.name, "victim"]
