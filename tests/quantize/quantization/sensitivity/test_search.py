"""The search for layers to revert, on networks whose layers add up: it holds the bound, at a bounded cost."""

from __future__ import annotations

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from blendmask_quantize.quantization.sensitivity.layers import Layer, Layers
from blendmask_quantize.quantization.sensitivity.search import fewest_in_float

COSTS = st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1)), min_size=1, max_size=12)


def _network(costs: list[tuple[int, float]]) -> tuple[Layers, dict[str, float]]:
    layers = Layers(
        tuple(Layer(str(i), macs, (str(i),)) for i, (macs, _) in enumerate(costs)), sum(m for m, _ in costs)
    )
    return layers, {str(i): change for i, (_, change) in enumerate(costs)}


@given(COSTS, st.floats(0, 3), st.floats(0.1, 1))
def test_the_bound_holds_within_the_allowed_cost_or_the_answer_is_no(
    costs: list[tuple[int, float]], bound: float, most: float
) -> None:
    layers, changes = _network(costs)

    def holds(reverted: Collection[Layer]) -> bool:
        return sum(changes[layer.name] for layer in layers.quantized if layer not in reverted) <= bound

    found, held = fewest_in_float(layers, changes, holds, most)
    assert layers.float_share(found) <= most + 1e-9
    assert held == holds(found)
    if most == 1:
        assert held


def test_only_the_layers_that_matter_are_reverted() -> None:
    layers, changes = _network([(100, 0.001), (50, 0.5), (10, 0.001), (40, 0.4), (300, 0.002)])
    found, held = fewest_in_float(layers, changes, lambda some: {"1", "3"} <= {layer.name for layer in some}, 0.5)
    assert held
    assert {layer.name for layer in found} == {"1", "3"}


def test_a_layer_that_ranks_high_but_is_not_needed_is_quantized_again() -> None:
    layers, changes = _network([(100, 0.9), (50, 0.1), (350, 0.0)])
    found, held = fewest_in_float(layers, changes, lambda some: "1" in {layer.name for layer in some}, 0.5)
    assert held
    assert {layer.name for layer in found} == {"1"}


def test_a_costly_layer_that_matters_is_reverted_where_the_cheap_ones_do_not_suffice() -> None:
    layers, changes = _network([(1, 0.1), (100, 1.0)])
    found, held = fewest_in_float(layers, changes, lambda some: "1" in {layer.name for layer in some}, 0.995)
    assert held
    assert {layer.name for layer in found} == {"1"}


def test_a_layer_that_seems_harmless_but_is_needed_is_found_where_the_ranking_misleads() -> None:
    layers, changes = _network([(20, 0.9), (50, 0.5), (20, 0.1), (10, 0.0)])
    needed = {"0", "2", "3"}
    found, held = fewest_in_float(layers, changes, lambda some: needed <= {layer.name for layer in some}, 0.6)
    assert held
    assert {layer.name for layer in found} == needed


def test_the_search_asks_seldom() -> None:
    layers, changes = _network([(1, 1 - i / 100) for i in range(80)])
    asked: list[int] = []

    def holds(reverted: Collection[Layer]) -> bool:
        asked.append(len(reverted))
        return len(reverted) >= 10

    found, held = fewest_in_float(layers, changes, holds, 1.0)
    assert held
    assert len(found) == 10
    assert len(asked) <= 9 + len(found)
