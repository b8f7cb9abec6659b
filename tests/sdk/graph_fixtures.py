"""Bundles of small graphs for the checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest

from blendmask_edge.bundle import Bundle, Manifest, Measurement, write_bundle
from tests.sdk.devices.graphs import make_graph

MEASURED = [Measurement(data="val", images=5, metrics={"mask_ap": 0.25})]
MakeBundle = Callable[..., Bundle]


@pytest.fixture
def make_bundle(tmp_path: Path, make_manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch) -> MakeBundle:
    """Return a function that writes and opens a bundle; every variant has the graph of `make_graph(**properties)`.

    Rules for devices look at operators and opsets that no bundle may hold yet, so the check of graphs is left out.
    """
    for module in ("reader", "writer"):
        monkeypatch.setattr(f"blendmask_edge.bundle.{module}.check_graph", lambda _: None)

    def made(
        variants: str = "cpu tensorrt float", measured: bool = True, manifest: Optional[Dict[str, Any]] = None,
        **properties: Any,
    ) -> Bundle:  # fmt: skip
        graph = make_graph(**properties)
        graphs = dict.fromkeys(variants.split(), graph)
        metrics = dict.fromkeys(graphs, MEASURED) if measured else {}
        return Bundle.open(
            write_bundle(tmp_path / "m.bmz", make_manifest(graphs, metrics=metrics, **(manifest or {})), graphs)
        )

    return made
