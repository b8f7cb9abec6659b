"""Work in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Iterator, Tuple

if TYPE_CHECKING:
    from blendmask_edge.execution.work import Shard, Work


class SerialExecutor:
    """Do one shard after the other in this process."""

    def run(self, work: Work, shards: Iterable[Shard]) -> Iterator[Tuple[Shard, bytes]]:
        """Yield the result of each shard, in their order."""
        with work.opener() as process:
            for shard in shards:
                yield shard, process(work.payload(shard.items))
