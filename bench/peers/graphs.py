"""The float graph of the shipped network and what each tool makes of it, kept in a folder once they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.lib.command import quantize_with_float
from bench.lib.sessions import Arrays, RunGraph
from bench.peers.predictor import InputForm
from bench.peers.recipes import BEST, DEFAULT, RecipeError, quantize_apart
from blendmask_edge import Bundle, read_image
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, THRESHOLD_NAME, constant_inputs
from blendmask_edge.imaging import preprocess
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize import load_checkpoint
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.export.deployable import Bounds, DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.model.input_size import padded_test_size
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.quantization.trace import trace_network

FLOAT, OURS = "float", "blendmask-edge"


def compared() -> list[str]:
    """Names of the graphs that are compared: float, ours, and each tool by default and at its best."""
    return [FLOAT, OURS, *(f"{tool}-{setting}" for tool, best in BEST.items() for setting in (DEFAULT, best))]


@dataclass(frozen=True)
class Graphs:
    """Graphs of one checkpoint, calibrated on one set of images.

    Attributes:
        folder: where they are kept.
        checkpoint: of the network.
        calibration: folder of images.
    """

    folder: Path
    checkpoint: Path
    calibration: Path

    @cached_property
    def form(self) -> InputForm:
        """The input of all graphs."""
        config = self._loaded.model.config
        return InputForm(padded_test_size(config.input), pad_value(config.input), self._loaded.labels)

    @cached_property
    def module(self) -> DeployableGraph:
        """The float graph in torch, which computes masks for existing rows only, as all others do."""
        model = self._loaded.model
        return DeployableGraph(model, trace_network(model), self.form.size, Bounds(), live_rows=True).eval()

    def read(self, name: str) -> bytes:
        """The graph with a name, made if it is not there; what a tool refused is not tried again in the same folder.

        Args:
            name: one of `compared()`, or "TOOL-SETTING" with any setting of the tool.

        Raises:
            MissingPeerError: the tool is not installed.
            RecipeError: the tool does not quantize the graph.
        """
        path = self.folder / f"{name}.onnx"
        if not path.is_file():
            print(f"making {name}", flush=True)
            write_bytes(path, self._tried(name))
        return path.read_bytes()

    def _tried(self, name: str) -> bytes:
        """Make a graph, or repeat why that failed before."""
        refusal = self.folder / f"{name}.failed.txt"
        if refusal.is_file():
            raise RecipeError(refusal.read_text(encoding="utf-8"))
        try:
            return self._make(name)
        except RecipeError as error:
            write_bytes(refusal, str(error).encode())
            raise

    def _make(self, name: str) -> bytes:
        if name == FLOAT:
            return bytes(export_onnx(self.module).SerializeToString())
        if name == OURS:
            bundle = self.folder / f"{OURS}.bmz"
            if not bundle.is_file():
                quantize_with_float(self.checkpoint, self.calibration, bundle)
            return Bundle.open(bundle).graph("cpu")
        tool, _, setting = name.partition("-")
        return quantize_apart(tool, setting, self.read(FLOAT), self._inputs())

    def _inputs(self) -> list[Arrays]:
        """The inputs of the graph for each calibration image."""
        images = map(read_image, sorted(self.calibration.glob("*.jpg")))
        return [{INPUT_NAME: self.prepared(image), **constant_inputs()} for image in images]

    def prepared(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image (H, W, 3) in the form of the network input."""
        return preprocess(image, self.form.size, self.form.pad_value).image

    @cached_property
    def _loaded(self) -> Checkpoint:
        return load_checkpoint(self.checkpoint)


def run_in_torch(module: Callable[..., tuple[torch.Tensor, ...]]) -> RunGraph:
    """A float graph as `open_graph` opens one, of the module or of what `torch.compile` made of it."""

    @torch.inference_mode()
    def run(given: Arrays) -> dict[str, NDArray[np.generic]]:
        results = module(torch.from_numpy(given[INPUT_NAME]), torch.from_numpy(given[THRESHOLD_NAME]))
        return {name: value.numpy() for name, value in zip(OUTPUT_NAMES, results, strict=True)}

    return run
