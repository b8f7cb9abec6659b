"""Results of shards as files, so that memory stays bounded and an interrupted run can be continued."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Sequence

from blendmask_edge.errors import OutputError
from blendmask_edge.execution.work import Executor, Shard, Work, cut
from blendmask_edge.storage.atomic import output_error, write_bytes
from blendmask_edge.storage.temporary import scratch_folder

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

SUFFIX = ".shard"
_DIGEST_BYTES = 32
Results = Callable[[], Iterator[bytes]]
"""Goes through the results of all shards, in their order; can be called again."""


@contextlib.contextmanager
def do_work(
    work: Work, executor: Executor, on_item: Callable[[], None], folder: Optional[PathLike] = None
) -> Iterator[Results]:
    """Do all shards, and give their results to the block; the files are removed when it ends well.

    Args:
        work: the work.
        executor: where it is done.
        on_item: called for each item that is done or was done before.
        folder: keeps results of finished shards, with which the same work continues after an interruption; None takes
            a temporary folder, which keeps none.

    Raises:
        OutputError: a result cannot be written.
        WorkerError, BlendMaskError: as the executor and the work.
    """
    shards = cut(work.total)
    with _place(folder) as place:
        files = ShardFiles(place, work.identity, len(shards))
        missing = [shard for shard in shards if files.read(shard) is None]
        for _ in range(work.total - sum(len(shard.items) for shard in missing)):
            on_item()
        for shard, result in executor.run(work, missing) if missing else ():
            files.write(shard, result)
            for _ in shard.items:
                on_item()
        yield lambda: files.read_all(shards)
        files.clear()


class ShardFiles:
    """Files of the shards of one work in a folder; each begins with a digest, so that others are told apart.

    Args:
        folder: an existing folder.
        identity: of the work.
        count: number of its shards.
    """

    def __init__(self, folder: Path, identity: str, count: int) -> None:
        self.folder, self.identity, self.count = folder, identity, count

    def path(self, shard: Shard) -> Path:
        """Return the path of a shard."""
        return self.folder / f"{shard.number:06d}-of-{self.count:06d}{SUFFIX}"

    def read(self, shard: Shard) -> Optional[bytes]:
        """Return the result of a shard; None if there is none, or that of other work."""
        try:
            content = self.path(shard).read_bytes()
        except OSError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return data if digest == self._digest(shard, data) else None

    def read_all(self, shards: Sequence[Shard]) -> Iterator[bytes]:
        """Yield the results of shards.

        Raises:
            OutputError: one has disappeared.
        """
        for shard in shards:
            data = self.read(shard)
            if data is None:
                raise OutputError(f"{self.path(shard)} was removed or changed during the run. Run the command again.")
            yield data

    def write(self, shard: Shard, data: bytes) -> None:
        """Write the result of a shard, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        write_bytes(self.path(shard), self._digest(shard, data) + data)

    def clear(self) -> None:
        """Remove the files of shards, and the folder if nothing else is in it."""
        with contextlib.suppress(OSError):
            for path in self.folder.glob(f"*{SUFFIX}"):
                path.unlink()
            self.folder.rmdir()

    def _digest(self, shard: Shard, data: bytes) -> bytes:
        return hashlib.sha256(f"{self.identity}/{shard.number}/{self.count}/".encode() + data).digest()


@contextlib.contextmanager
def _place(folder: Optional[PathLike]) -> Iterator[Path]:
    if folder is None:
        with scratch_folder() as temporary:
            yield temporary
        return
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(place, error) from error
    yield place
