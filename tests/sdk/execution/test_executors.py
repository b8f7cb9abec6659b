"""Work in one process and in several: the same results, also after workers and the driver were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Optional

import pytest

from blendmask_edge import ConfigError, ImageError, OutputError, WorkerError
from blendmask_edge.execution.choice import choose_executor, worker_threads
from blendmask_edge.execution.processes import ProcessExecutor
from blendmask_edge.execution.serial import SerialExecutor
from blendmask_edge.execution.shards import do_work
from blendmask_edge.execution.work import cut
from tests.processes import is_running, wait_for
from tests.sdk.execution.squares import Fault, Squares, SquaresOpener, expected

EXECUTORS = [SerialExecutor(), ProcessExecutor(2)]
DRIVER = """
import sys
from pathlib import Path
from tests.sdk.execution.test_executors import ProcessExecutor, Squares, SquaresOpener, results
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    results(Squares(300, SquaresOpener(folder=folder, seconds=0.05)), ProcessExecutor(2), folder / "shards")
"""


def results(work: Squares, executor: Any, folder: Optional[Path] = None, counted: Optional[List[int]] = None) -> Any:
    """Do the work and return all numbers."""
    with do_work(work, executor, lambda: counted.append(1) if counted is not None else None, folder) as parts:
        return [int(word) for part in parts() for word in part.split()]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_results_come_in_order_and_each_item_is_counted(executor: Any) -> None:
    counted: List[int] = []
    assert results(Squares(130), executor, counted=counted) == expected(130)
    assert len(counted) == 130


@pytest.mark.parametrize("total", [0, 1, 2, 63, 64, 65, 2047, 2048, 5000])
def test_shards_cover_every_item_once(total: int) -> None:
    assert [item for shard in cut(total) for item in shard.items] == list(range(total))
    assert [shard.number for shard in cut(total)] == list(range(len(cut(total))))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_error_of_the_work_arrives_as_it_was_raised(executor: Any, tmp_path: Path) -> None:
    work = Squares(100, SquaresOpener(Fault(40, tmp_path, message="cannot read 40")))
    with pytest.raises(ImageError, match=r"^cannot read 40$"):
        results(work, executor, tmp_path / "shards")
    assert any((tmp_path / "shards").iterdir()), "what was done before is kept"


def test_the_shard_of_a_killed_worker_is_done_again(tmp_path: Path) -> None:
    work = Squares(130, SquaresOpener(Fault(50, tmp_path, times=1)))
    assert results(work, ProcessExecutor(2)) == expected(130)
    assert (tmp_path / "killed0").exists()


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_is_named(tmp_path: Path) -> None:
    work = Squares(130, SquaresOpener(Fault(50, tmp_path, times=9)))
    with pytest.raises(WorkerError, match="numbers 51 to 52 died, 3 times"):
        results(work, ProcessExecutor(2))


def test_each_worker_opens_the_work_once(tmp_path: Path) -> None:
    results(Squares(130, SquaresOpener(folder=tmp_path)), ProcessExecutor(2))
    assert 1 <= len(list(tmp_path.glob("opened-*"))) <= 2


def test_a_killed_driver_leaves_no_worker_and_the_next_goes_on(tmp_path: Path) -> None:
    done = kill_driver(DRIVER, tmp_path)
    work = Squares(300, SquaresOpener(folder=tmp_path))
    assert results(work, SerialExecutor(), tmp_path / "shards") == expected(300)
    again = len((tmp_path / "done.txt").read_text().split())
    assert again == 300 - done * len(cut(300)[0].items), "finished shards are not done again"
    assert not (tmp_path / "shards").exists(), "results are removed when the work is done"


@pytest.mark.parametrize("damage", [b"", b"damaged"])
def test_a_damaged_shard_is_done_again(damage: bytes, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        results(Squares(10, SquaresOpener(Fault(8, tmp_path, message="stop"))), SerialExecutor(), tmp_path / "kept")
    kept = sorted((tmp_path / "kept").iterdir())
    kept[3].write_bytes(damage)
    assert results(Squares(10), SerialExecutor(), tmp_path / "kept") == expected(10)


def test_shards_of_other_work_are_not_taken(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        results(Squares(10, SquaresOpener(Fault(8, tmp_path, message="stop"))), SerialExecutor(), tmp_path / "kept")
    other = Squares(10, SquaresOpener(folder=tmp_path), identity="other")
    assert results(other, SerialExecutor(), tmp_path / "kept") == expected(10)
    assert len((tmp_path / "done.txt").read_text().split()) == 10


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        results(Squares(10), SerialExecutor(), tmp_path / "file" / "shards")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"processes": 0}, "processes is 0"),
        ({"processes": True}, "processes is True"),
        ({"processes": 257}, "from 1 to 256"),
        ({"ray": ""}, "ray is ''"),
        ({"ray": "auto", "processes": 2}, "give --processes, or --ray"),
    ],
)
def test_impossible_choices_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_executor(**arguments)


def test_workers_share_the_cores_unless_told_otherwise() -> None:
    assert worker_threads(1, None, None) is None
    assert worker_threads(256, None, None) == worker_threads(1, "auto", None) == 1
    assert worker_threads(2, None, 3) == 3


def kill_driver(program: str, folder: Path, *arguments: str) -> int:
    """Kill a program amid its work in `folder`, wait until its workers ended too, and return the finished shards."""
    command = [sys.executable, "-c", program, str(folder), *arguments]
    driver = subprocess.Popen(command, cwd=Path(__file__).parents[3])
    wait_for(lambda: len(list(folder.glob("shards/*.shard"))) >= 5)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    workers = [int(path.name.partition("-")[2]) for path in folder.glob("opened-*")]
    wait_for(lambda: not any(is_running(pid) for pid in workers))
    (folder / "done.txt").unlink()
    return len(list(folder.glob("shards/*.shard")))
