"""The study of planted outliers: the planted network computes the same, and its rows say what a bound brought back."""

from __future__ import annotations

import torch

from bench.lib.outliers import plant_outliers
from bench.lib.tables import sensitivity_table
from bench.studies.sensitivity import FACTOR, OUTLIERS
from blendmask_quantize.model.blendmask import BlendMask
from tests.quantize.small_networks import LITE, image, network_input, size_of, small_network


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


def test_the_table_names_graphs_and_the_most_sensitive_layers() -> None:
    table = sensitivity_table(
        {
            "planted/ptq/cpu": {"mask_ap": 0.6, "retention": 0.8},
            "planted/max-drop/cpu": {"mask_ap": 0.75, "retention": 1, "float_macs_share": 0.1, "reverted": ["a", "b"]},
            "planted/layer/a.b": {"mask_iou": 0.5},
        }
    )
    assert "| planted/ptq, `cpu` | 60.0 | 80.0 % | - | - |" in table
    assert "| planted/max-drop, `cpu` | 75.0 | 100.0 % | 10.0 % | 2 |" in table
    assert "`a.b` (mask IoU 0.50)" in table
