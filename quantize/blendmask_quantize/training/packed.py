"""Many small records in one block of memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec
import numpy as np

Record = TypeVar("Record")


class PackedRecords(Generic[Record]):
    """A sequence of records, each decoded when it is asked for.

    Millions of Python objects take several times the memory of what they hold, and processes that share them by `fork`
    copy it all, since reading an object writes its count of references. One block of bytes has neither problem.

    Args:
        records: values that msgspec encodes.
        kind: their type.
    """

    def __init__(self, records: Iterable[Record], kind: type[Record]) -> None:
        content, ends = bytearray(), [0]
        encoder = msgspec.msgpack.Encoder()
        for record in records:
            content += encoder.encode(record)
            ends.append(len(content))
        self._content, self._ends = memoryview(content), np.array(ends, np.int64)
        self._decoder = msgspec.msgpack.Decoder(kind)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> Record:
        start, end = self._ends[index : index + 2]
        return self._decoder.decode(self._content[start:end])

    @property
    def size_bytes(self) -> int:
        """Memory that the records take."""
        return self._content.nbytes + self._ends.nbytes
