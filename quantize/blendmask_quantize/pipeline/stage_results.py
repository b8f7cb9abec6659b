"""Results that a refused or interrupted run leaves beside its output, so that the same command goes on from them."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendmask_edge.errors import CalibrationError, OutputError
from blendmask_edge.storage.atomic import replacing
from blendmask_quantize.runs.run_folder import clear_stages, stage_file

Arrays = Mapping[str, NDArray[Any]]

_LOG = logging.getLogger(__name__)
_IDENTITY = "identity"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class StageResults:
    """The results of long stages of one run.

    Attributes:
        folder: where they lie; it is made when there is something to keep.
        identify: a digest of what the results depend on; empty where that cannot be told, and then nothing is kept.
    """

    folder: Path
    identify: Callable[[], str]

    @cached_property
    def identity(self) -> str:
        """The digest."""
        return self.identify()

    def load(self, stage: str) -> dict[str, NDArray[Any]] | None:
        """The result of a stage of an earlier run of the same identity; None where there is none that can be read."""
        path = stage_file(self.folder, stage)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except _DAMAGED:
            return None
        if arrays.pop(_IDENTITY, np.array("")).item() != self.identity:
            return None
        _LOG.warning("going on from %s, which an earlier run of the same command left", path)
        return arrays

    @contextmanager
    def refusable(self, stage: str, result: Callable[[], Arrays]) -> Iterator[None]:
        """Keep the result of a stage if a block refuses it.

        Args:
            stage: name of the stage.
            result: gives what `load` shall return.

        Raises:
            CalibrationError: that of the block, which says where the result lies.
        """
        try:
            yield
        except CalibrationError as error:
            if not self.save(stage, result):
                raise
            raise CalibrationError(
                f"{error}\nThe work so far is kept in {self.folder}: the same command with --allow goes on from there."
            ) from error

    def clear(self) -> None:
        """Remove everything that is kept, and the folder if nothing else is in it."""
        clear_stages(self.folder)

    def save(self, stage: str, result: Callable[[], Arrays]) -> bool:
        """Keep the result of a stage; returns whether it could be kept, as a run must not fail for want of room.

        Args:
            stage: name of the stage.
            result: gives what `load` shall return.
        """
        if not self.identity:
            return False
        try:
            self.folder.mkdir(exist_ok=True)
            with replacing(stage_file(self.folder, stage)) as stream:
                np.savez(stream, **{_IDENTITY: np.array(self.identity)}, **result())  # type: ignore[arg-type]
        except (OSError, OutputError):
            with suppress(OSError):
                self.folder.rmdir()
            return False
        return True
