"""The check that every runtime makes of a graph it has loaded."""

from __future__ import annotations

from typing import Collection

from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES
from blendmask_edge.errors import InferenceError


def check_names(inputs: Collection[str], outputs: Collection[str]) -> None:
    """Refuse a graph whose inputs and outputs are not those of `bundle/graph.py`.

    Raises:
        InferenceError: with the names found and expected.
    """
    if set(inputs) != {INPUT_NAME} or not set(OUTPUT_NAMES) <= set(outputs):
        raise InferenceError(
            f"The graph has inputs {sorted(inputs)} and outputs {sorted(outputs)}, expected {[INPUT_NAME]} and "
            f"{list(OUTPUT_NAMES)}. Build the bundle again."
        )
