"""The contract between a manifest and its graphs: checked when a graph is loaded, and on the arrays of each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Collection, Dict, List, Tuple

import numpy as np

from blendmask_edge.bundle.tensors import EMPTY_CLASS, INPUT_NAME, OUTPUT_NAMES, THRESHOLD_NAME, Outputs
from blendmask_edge.errors import InferenceError
from blendmask_edge.runtimes.base import Session, Signature, TensorType

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import Manifest

_ADVICE = "Try another runtime; if it says the same, build the bundle again."


@dataclass(frozen=True)
class Contract:
    """Types of inputs and outputs, and the number of classes, as a manifest states them.

    Every graph has K rows; one that returns only the rows in use (the `cpu` variant may) leaves K dynamic.
    """

    signature: Signature
    num_classes: int

    @classmethod
    def of(cls, manifest: Manifest) -> Contract:
        """Return the contract of the graphs of `manifest`."""
        rows, size = manifest.detections, manifest.mask_size
        inputs = {INPUT_NAME: TensorType("uint8", (1, manifest.input.height, manifest.input.width, 3))}
        if manifest.threshold_input:
            inputs[THRESHOLD_NAME] = TensorType("float32", (1,))
        outputs = {
            "boxes": TensorType("float32", (1, rows, 4)),
            "scores": TensorType("float32", (1, rows)),
            "class_ids": TensorType("int32", (1, rows)),
            "mask_logits": TensorType("float32", (1, rows, size, size)),
        }
        return cls(Signature(inputs, outputs), len(manifest.classes))

    @property
    def image_shape(self) -> Tuple[int, ...]:
        """Shape of the network input, (1, H, W, 3)."""
        return tuple(size or 0 for size in self.signature.inputs[INPUT_NAME].shape)

    def check_session(self, session: Session) -> None:
        """Compare a loaded graph with the manifest; run it once where the runtime tells nothing before a run.

        Raises:
            InferenceError: a name, dtype or shape differs; the message names the tensor, found and expected type.
        """
        loaded = session.signature
        if loaded is None:
            self.check_outputs(session.run(np.zeros(self.image_shape, np.uint8)))
            return
        check_names(loaded.inputs, loaded.outputs)
        if set(loaded.inputs) != set(self.signature.inputs):
            raise InferenceError(
                f"The graph has inputs {sorted(loaded.inputs)}, the manifest states {sorted(self.signature.inputs)}. "
                "Build the bundle again."
            )
        types = {**loaded.inputs, **loaded.outputs}
        for name, expected in {**self.signature.inputs, **self.signature.outputs}.items():
            actual = types[name]
            if actual.dtype != expected.dtype or not _fits(actual, expected, name):
                raise InferenceError(
                    f"The graph has {name} as {actual}, the manifest states {expected}. Build the bundle again."
                )

    def check_outputs(self, outputs: Outputs) -> None:
        """Check the arrays of one run.

        Raises:
            InferenceError: a dtype or shape is not the manifest's, a class id is out of range, or a row in use has a
                box that is not finite, a score outside 0 to 1 or a mask that holds NaN; the message has the value.
        """
        self._check_types(outputs)
        class_ids = outputs.class_ids[0]
        self._refuse("class id", class_ids, (class_ids < EMPTY_CLASS) | (class_ids >= self.num_classes),
                     f"{EMPTY_CLASS} to {self.num_classes - 1}")  # fmt: skip
        used = class_ids != EMPTY_CLASS
        scores, boxes, logits = outputs.scores[0], outputs.boxes[0], outputs.mask_logits[0]
        self._refuse("score", scores, used & ~((scores >= 0) & (scores <= 1)), "0 to 1")
        self._refuse("box", boxes, used & ~np.isfinite(boxes).all(axis=1), "finite numbers")
        if logits.size and np.isnan(logits.min()):  # the minimum of an array with NaN is NaN, and needs no second array
            rows = np.isnan(logits).any(axis=(1, 2))
            self._refuse("mask logits", np.where(rows, np.nan, 0), used & rows, "no NaN")

    def _check_types(self, outputs: Outputs) -> None:
        rows = outputs.scores.shape[1] if outputs.scores.ndim == 2 else None
        for name, array in zip(OUTPUT_NAMES, outputs):
            expected = self.signature.outputs[name]
            most = expected.shape[1] or 0
            wanted = expected.shape if rows is None or rows > most else (1, rows, *expected.shape[2:])
            if str(array.dtype) != expected.dtype or array.shape != wanted:
                actual = TensorType(str(array.dtype), array.shape)
                raise InferenceError(
                    f"The graph returned {name} as {actual}, the manifest states {expected}. {_ADVICE}"
                )

    @staticmethod
    def _refuse(what: str, values: NDArray[Any], wrong: NDArray[np.bool_], expected: str) -> None:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InferenceError(
                f"The graph returned the {what} {values[row].tolist()} in row {row}, expected {expected}. {_ADVICE}"
            )


def check_names(inputs: Collection[str], outputs: Collection[str]) -> None:
    """Refuse a graph whose inputs and outputs are not those of `bundle/tensors.py`.

    Raises:
        InferenceError: with the names found and expected.
    """
    if set(inputs) - {THRESHOLD_NAME} != {INPUT_NAME} or not set(OUTPUT_NAMES) <= set(outputs):
        raise InferenceError(
            f"The graph has inputs {sorted(inputs)} and outputs {sorted(outputs)}, expected {INPUT_NAME}, and "
            f"{THRESHOLD_NAME} in newer bundles, and {list(OUTPUT_NAMES)}. Build the bundle again."
        )


def signature_of(inputs: Dict[str, TensorType], outputs: Dict[str, TensorType]) -> Signature:
    """Return the signature of a loaded graph whose names have been checked.

    Raises:
        InferenceError: as `check_names`.
    """
    check_names(inputs, outputs)
    return Signature(inputs, outputs)


def _fits(actual: TensorType, expected: TensorType, name: str) -> bool:
    """Whether the shapes agree; the rows of an output may be dynamic."""
    free: List[int] = [1] if name in OUTPUT_NAMES else []
    return len(actual.shape) == len(expected.shape) and all(
        size == wanted or (size is None and axis in free)
        for axis, (size, wanted) in enumerate(zip(actual.shape, expected.shape))
    )
