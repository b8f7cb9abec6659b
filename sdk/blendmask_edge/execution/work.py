"""Work on many items, cut into shards that any process can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, ContextManager, Iterable, Iterator, List, Protocol, Sequence, Tuple

Process = Callable[[Any], bytes]
"""From the payload of a shard to its result."""
Opener = Callable[[], ContextManager[Process]]
"""Load what the work needs, such as a network; called once in each worker."""
_LARGEST_SHARD = 32
_LEAST_SHARDS = 64


class Work(Protocol):
    """Work on a number of items, with one result of bytes for each shard of them."""

    @property
    def total(self) -> int:
        """Return the number of items."""
        ...

    @property
    def identity(self) -> str:
        """Return a digest of all that the results depend on, by which an interrupted run is continued."""
        ...

    @property
    def opener(self) -> Opener:
        """Return what opens the work in a worker; it can be pickled."""
        ...

    @property
    def needs(self) -> Tuple[str, ...]:
        """Return files and folders that each worker must see at the same path."""
        ...

    def payload(self, items: range) -> Any:
        """Return what a worker needs to know of some items; it can be pickled."""
        ...

    def describe(self, items: range) -> str:
        """Return some items in words, for a message."""
        ...


@dataclass(frozen=True)
class Shard:
    """Consecutive items that one worker does at a time."""

    number: int
    items: range


class Executor(Protocol):
    """Where work is done."""

    def run(self, work: Work, shards: Iterable[Shard]) -> Iterator[Tuple[Shard, bytes]]:
        """Yield the result of each shard, in the order in which they finish; few are held at a time.

        Raises:
            WorkerError: workers cannot be started or reached, or die again and again.
            BlendMaskError: as the work.
        """
        ...


def cut(total: int) -> List[Shard]:
    """Cut items into shards; how does not depend on the workers, so that other workers can continue."""
    size = max(1, min(_LARGEST_SHARD, total // _LEAST_SHARDS))
    starts = range(0, total, size)
    return [Shard(number, range(start, min(start + size, total))) for number, start in enumerate(starts)]


def described(kind: str, items: range, names: Sequence[str] = ()) -> str:
    """Return consecutive items in words, with the names of the first and the last.

    Args:
        kind: what one item is.
        items: places, from 0; at least one.
        names: of all items; none where they have none.
    """
    ends = dict.fromkeys((items.start, items.stop - 1))
    named = f" ({' to '.join(names[place] for place in ends)})" if names else ""
    return f"{kind}{'s' * (len(ends) - 1)} {' to '.join(str(place + 1) for place in ends)}{named}"
