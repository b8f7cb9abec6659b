"""Where a worker gets its predictor from."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ContextManager, Dict, Optional, Protocol, Tuple

from blendmask_edge.errors import WorkerError
from blendmask_edge.predictor import MaskPredictor
from blendmask_edge.storage.digest import file_sha256

if TYPE_CHECKING:
    from blendmask_edge.evaluation.predictions import Predictor


class PredictorSource(Protocol):
    """Opens a predictor in any process; can be pickled."""

    @property
    def identity(self) -> str:
        """Return a digest of the network and the options that its results depend on."""
        ...

    @property
    def needs(self) -> Tuple[str, ...]:
        """Return paths of files that every worker must see."""
        ...

    def open(self) -> ContextManager[Predictor]:
        """Open the predictor, which is closed at the end of the block."""
        ...


@dataclass(frozen=True)
class OpenedSource:
    """A predictor that is open already, for work in this process.

    predictor: the predictor, which stays open.
    identity: as of the source that it was opened from.
    """

    predictor: Predictor
    identity: str
    needs: Tuple[str, ...] = ()

    def open(self) -> ContextManager[Predictor]:
        """Return the predictor."""
        return nullcontext(self.predictor)


@dataclass(frozen=True)
class BundleSource:
    """A bundle with the options of `MaskPredictor`.

    arguments: of `MaskPredictor`.
    sha256: of the bundle, in hexadecimal.
    """

    arguments: Dict[str, Any]
    sha256: str

    @classmethod
    def of(cls, predictor: MaskPredictor, threads: Optional[int]) -> BundleSource:
        """Describe an open predictor; what it chose itself, such as a runtime, is the choice of all workers.

        Args:
            predictor: whose bundle and options to take.
            threads: of each worker.
        """
        arguments = predictor.__getstate__()
        chosen = {"runtime": predictor.runtime, "variant": predictor.variant, "threads": threads}
        return cls({**arguments, **chosen}, file_sha256(arguments["path"]))

    @property
    def identity(self) -> str:
        """Return a digest of the bundle and the options, without the number of threads."""
        options = {name: repr(value) for name, value in self.arguments.items() if name not in ("path", "threads")}
        return hashlib.sha256(json.dumps([self.sha256, options], sort_keys=True).encode()).hexdigest()

    @property
    def needs(self) -> Tuple[str, ...]:
        """Return the path of the bundle."""
        return (self.arguments["path"],)

    def open(self) -> MaskPredictor:
        """Open the bundle.

        Raises:
            WorkerError: the file is another one than where the work was started.
            BundleError, RuntimeUnavailableError, InferenceError: as `MaskPredictor`.
        """
        path = self.arguments["path"]
        if file_sha256(path) != self.sha256:
            raise WorkerError(f"{path} is not the same file for every worker. Copy it anew, and start again.")
        return MaskPredictor(**self.arguments)
