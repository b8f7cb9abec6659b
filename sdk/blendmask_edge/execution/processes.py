"""Work in several processes of this machine."""

from __future__ import annotations

import pickle
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Dict, Generator, Iterable, Iterator, List, Tuple

from blendmask_edge.errors import WorkerError
from blendmask_edge.execution.worker import process_in_child, start

if TYPE_CHECKING:
    from blendmask_edge.execution.work import Shard, Work

AHEAD = 2
"""Shards in flight for each worker: one that is done, and one that waits."""
_MOST_DEATHS = 2
_Results = Generator[Tuple["Shard", bytes], None, List["Shard"]]


class ProcessExecutor:
    """Do shards in processes; one that dies is replaced, and its shard is done again.

    Args:
        processes: number of processes, 2 or more.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes

    def run(self, work: Work, shards: Iterable[Shard]) -> Iterator[Tuple[Shard, bytes]]:
        """Yield the result of each shard, in the order in which they finish.

        When a process dies, the pool does not tell which of the shards in flight it had, so they are done again one at
        a time: one at which a process dies repeatedly is then known.

        Raises:
            WorkerError: processes die repeatedly.
        """
        remaining = iter(shards)
        while True:
            lost = yield from self._run(work, remaining, self.processes)
            if not lost:
                return
            for shard in lost:
                yield from self._retry(work, shard)

    def _retry(self, work: Work, shard: Shard) -> Iterator[Tuple[Shard, bytes]]:
        for _ in range(_MOST_DEATHS):
            if not (yield from self._run(work, iter([shard]), 1)):
                return
        raise WorkerError(
            f"Each process that worked on {work.describe(shard.items)} died, {_MOST_DEATHS + 1} times. If memory "
            'ran out, use fewer --processes; if a script started them, call it below `if __name__ == "__main__":`; '
            "otherwise look for the image that crashes the runtime, and leave it out."
        )

    def _run(self, work: Work, shards: Iterator[Shard], processes: int) -> _Results:
        """Do shards until all are done or a process dies; return those that were in flight then."""
        opener = pickle.dumps(work.opener)
        pool = ProcessPoolExecutor(processes, get_context("spawn"), start, (opener,))
        running: Dict[Future[bytes], Shard] = {}
        lost: List[Shard] = []
        try:
            while True:
                while not lost and len(running) < AHEAD * processes:
                    shard = next(shards, None)
                    if shard is None:
                        break
                    try:
                        running[pool.submit(process_in_child, work.payload(shard.items))] = shard
                    except BrokenProcessPool:
                        lost.append(shard)
                if not running:
                    return lost
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    shard = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        lost.append(shard)
                        continue
                    yield shard, result
        finally:
            for future in running:
                future.cancel()
            pool.shutdown()
