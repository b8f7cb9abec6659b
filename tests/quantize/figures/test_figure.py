"""The figure: a row for each instance, a column for each basis, in colors that mean what the legend says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.mark import ParameterSet

from blendmask_edge.errors import OutputError
from blendmask_edge.imaging import read_image
from blendmask_edge.imaging.colors import class_color
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.figures.figure import TILE, basis_color, draw_figure, write_figure
from blendmask_quantize.figures.stages import Stages, run_stages
from blendmask_quantize.model.config import ModelConfig
from tests.quantize.small_networks import ASSEMBLER, image
from tests.quantize.tiny import LABELS, TINY, tiny_model

NINE = replace(TINY, bases=replace(TINY.bases, count=9))
Shape = tuple[int, int]


def stages_of(config: ModelConfig = TINY, size: Shape = (64, 96), instances: int = 3) -> Stages:
    checkpoint = Checkpoint(tiny_model(config), LABELS, Path("tiny.safetensors"))
    return run_stages(checkpoint, image(1, size)[0]).best(instances, 0.0)


def has(figure: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((figure == np.array(color)).all(axis=2).any())


def any_three() -> Iterator[ParameterSet]:
    """Three networks, sizes and numbers of instances; in the fast suite, each two of them meet once."""
    options: tuple[tuple[Any, ...], ...] = ((TINY, NINE, ASSEMBLER), ((64, 96), (300, 40), (40, 300)), (0, 1, 4))
    for places in itertools.product(range(3), repeat=3):
        config, size, instances = (values[place] for values, place in zip(options, places, strict=True))
        name = f"{config.name}-{config.bases.count}-{size[0]}x{size[1]}-{instances}"
        yield pytest.param(config, size, instances, marks=pytest.mark.slow if sum(places) % 3 else (), id=name)


@pytest.mark.slow
@pytest.mark.parametrize("config, size, instances", list(any_three()))
def test_any_image_any_number_of_bases_and_instances(config, size, instances):
    figure = draw_figure(stages_of(config, size, instances), config, "a.png")
    assert figure.dtype == np.uint8
    assert figure.shape[1] > (config.bases.count + 4) * TILE
    assert all(has(figure, basis_color(index)) for index in range(config.bases.count))
    assert [has(figure, class_color(row)) for row in range(instances)] == [True] * instances


def test_each_object_adds_a_row():
    heights = [draw_figure(stages_of(instances=count), TINY, "a.png").shape[0] for count in (1, 2, 3)]
    assert heights == sorted(set(heights))


def test_bases_are_colored_by_sign_on_one_scale():
    """A basis of nothing is white; one that votes for instances everywhere is red, one that votes against is blue."""
    empty = stages_of(instances=0)
    bases = np.stack([np.full_like(empty.bases[0], value) for value in (0, 2, -2, 2)])
    figure = draw_figure(Stages(empty.image, bases, empty.attention, empty.instances), TINY, "a.png").astype(int)
    tile = (figure.shape[1] - 2 * 28 + 14) // 5
    middles = [figure[160:180, 28 + tile * column + tile // 2] for column in range(1, 5)]
    zero, positive, negative, same = (middle.mean(axis=0) for middle in middles)
    assert zero.min() > 250
    assert positive[0] > positive[2] + 80
    assert negative[2] > negative[0] + 80
    np.testing.assert_array_equal(positive, same)


def test_the_file_holds_the_figure(tmp_path):
    figure = draw_figure(stages_of(), TINY, "a.png")
    write_figure(tmp_path / "figure.png", figure)
    np.testing.assert_array_equal(read_image(tmp_path / "figure.png"), figure)


def test_only_png_is_written(tmp_path):
    with pytest.raises(OutputError, match=r"a\.jpg is to be a PNG: give a name that ends in \.png"):
        write_figure(tmp_path / "a.jpg", np.zeros((4, 4, 3), np.uint8))
