"""One small network, exported as the studies of speed and agreement time and compare it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from bench.lib.float_baseline import DENSE
from bench.lib.timed_networks import FLOAT, INT8, TimedNetwork, timed_network
from blendmask_edge import Bundle
from blendmask_edge.imaging import resize
from tests.made_once import made_once
from tests.quantize.small_networks import image, small_network
from tests.quantize.tiny import TINY

SIZE = (64, 96)
IMAGE = resize(image(3, SIZE)[0], (480, 640))
"""As large as the images of the speed study."""


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> TimedNetwork:
    """The tiny network, which finds ten instances in `IMAGE`."""
    name = "tiny.bmz"

    def make(folder: Path) -> None:
        timed_network(small_network(TINY), SIZE, IMAGE, folder / name)

    path = made_once(tmp_path_factory, "timed", make) / name
    bundle = Bundle.open(path)
    return TimedNetwork(
        path, {graph: onnx.load_from_string(bundle.graph(graph)) for graph in (DENSE, FLOAT, INT8)}, SIZE
    )
