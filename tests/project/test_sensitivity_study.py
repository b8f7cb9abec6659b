"""The study of planted outliers: the planted network computes the same, and its rows say what a bound brought back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.lib.outliers import plant_outliers
from bench.lib.study import read_rows
from bench.lib.tables import TABLES
from bench.studies import sensitivity as study
from bench.studies.sensitivity import BOUND, FACTOR, OUTLIERS
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, save_checkpoint
from blendmask_quantize.export.parity import Parity
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.pipeline.calibration_set import CalibrationReport
from blendmask_quantize.pipeline.candidate import Trained
from blendmask_quantize.pipeline.max_drop import MAX_DROP, DropReport
from blendmask_quantize.pipeline.report import Report, VariantReport
from blendmask_quantize.pipeline.sensitivity import LayerSensitivity, SensitivityReport
from blendmask_quantize.validation.sensitivity import Change
from tests.markdown import table_rows
from tests.quantize.small_networks import LITE, image, network_input, size_of, small_network
from tests.quantize.tiny import LABELS

LAYERS = tuple(f"backbone.layer{number}" for number in range(7))
REVERTED = LAYERS[:2]
GRAPHS = ("cpu", "tensorrt")


def outputs(model: BlendMask) -> list[torch.Tensor]:
    with torch.no_grad():
        predictions = model(network_input(model, image(0, size_of(model.config))))
    return [value for value in torch.utils._pytree.tree_leaves(predictions) if isinstance(value, torch.Tensor)]


def test_the_planted_network_computes_the_same_from_larger_activations() -> None:
    model = small_network(LITE)
    planted = plant_outliers(model, OUTLIERS, FACTOR)
    seen: list[float] = []
    for network in (model, planted):
        block = network.get_submodule(OUTLIERS[0].makers[1])
        block.register_forward_hook(lambda _module, _inputs, out: seen.append(float(out[:, :2].abs().max())))
    for one, other in zip(outputs(model), outputs(planted), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert seen[1] > 0.9 * FACTOR * seen[0]


class Product:
    """Stands for `quantize` and `sensitivity`: the planted network loses a fifth, unless the drop is bounded."""

    def __init__(self) -> None:
        self.shipped: list[torch.Tensor] = []
        self.bounds: list[float | None] = []

    def quantize(
        self, checkpoint: Checkpoint, _images: Path, output: Path, *, max_drop: float | None = None, **_: object
    ) -> Report:
        self.bounds.append(max_drop)
        planted = not all(map(torch.equal, checkpoint.model.state_dict().values(), self.shipped))
        ap = {"float": 0.75, "cpu": 0.6 if planted and max_drop is None else 0.75, "tensorrt": 0.75}
        parity = Parity(1, 0, 0.0, 0.0)
        variants = {name: VariantReport(1, parity, {"mask_ap": value}, None, None) for name, value in ap.items()}
        drops = {"cpu": 0.004, "tensorrt": 0.0}
        drop = DropReport(max_drop or 1, {"cpu": 0.2, "tensorrt": 0.0}, drops, REVERTED, 0.125, 20, "labels")
        training = {} if max_drop is None else {MAX_DROP: Trained(str(drop), drop.record())}
        return Report(output, variants, 1.0, CalibrationReport(None), training=training)  # type: ignore[arg-type]

    def sensitivity(self, *_: object, **__: object) -> SensitivityReport:
        layers = tuple(
            LayerSensitivity(name, 0.1, Change((9 - index) / 10, 0.01, 0.0, 0.0, -0.1, 0.9))
            for index, name in enumerate(LAYERS)
        )
        return SensitivityReport(layers, (), layers[0].change, 0.1, 2, "labels", ("cpu",))


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Product:
    """The study's own, on a small network."""
    model = small_network(LITE)
    save_checkpoint(tmp_path / "lite.safetensors", model, LABELS)
    (tmp_path / "scenes" / study.SPLIT).mkdir(parents=True)
    product = Product()
    product.shipped = [value.clone() for value in model.state_dict().values()]
    monkeypatch.setattr(study, "quantize", product.quantize)
    monkeypatch.setattr(study, "sensitivity", product.sensitivity)
    words = ["--data", tmp_path / "scenes", "--checkpoint", tmp_path / "lite.safetensors", "--work", tmp_path / "work"]
    monkeypatch.setattr(sys, "argv", ["sensitivity", *map(str, words), "--output", str(tmp_path)])
    return product


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return read_rows("sensitivity", folder)


@pytest.mark.slow
def test_the_rows_say_what_the_outliers_cost_and_what_the_bound_brought_back(product: Product, tmp_path: Path) -> None:
    study.main()
    found = rows(tmp_path)
    graphs = {f"{name}/{graph}" for name in ("planted/ptq", "planted/max-drop", "shipped/ptq") for graph in GRAPHS}
    assert set(found) == graphs | {f"planted/layer/{name}" for name in LAYERS}
    assert [found[f"{name}/cpu"]["retention"] for name in ("planted/ptq", "planted/max-drop", "shipped/ptq")] == [
        0.8, 1, 1,
    ]  # fmt: skip
    assert sorted(name for name in graphs if "reverted" in found[name]) == [
        f"planted/max-drop/{graph}" for graph in GRAPHS
    ]
    assert found["planted/max-drop/cpu"]["reverted"] == list(REVERTED)
    assert found["planted/max-drop/cpu"]["held_out_retention"] == 0.996
    assert found[f"planted/layer/{LAYERS[0]}"]["mask_iou"] == pytest.approx(0.1)
    assert product.bounds == [None, BOUND, None]


@pytest.mark.usefixtures("product")
def test_the_table_has_a_line_for_each_graph_and_names_the_layers_that_change_most(tmp_path: Path) -> None:
    study.main()
    table, _, layers = TABLES["sensitivity"](rows(tmp_path)).partition("\n\n")
    networks = [cells[0] for cells in table_rows(table)]
    assert len(networks) == len(set(networks)) == 3 * len(GRAPHS)
    assert [name in layers for name in LAYERS] == [True] * 5 + [False] * 2
    assert layers.index(LAYERS[0]) < layers.index(LAYERS[4])


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(product: Product, tmp_path: Path) -> None:
    study.main()
    first = rows(tmp_path)
    next((tmp_path / "work").rglob("planted-max-drop.json")).unlink()
    study.main()
    assert product.bounds == [None, BOUND, None, BOUND]
    assert rows(tmp_path) == first
