"""Recipes are values: by name, from a file, changed, checked, and explained before anything is done."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from blendmask_edge.errors import BlendMaskError, ConfigError
from blendmask_quantize import QuantizeOptions, explain, load_recipe, quantize
from blendmask_quantize.api.quantize_options import check_options
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from blendmask_quantize.pipeline.recipe_file import recipe_settings
from blendmask_quantize.pipeline.recipe_names import RECIPES
from blendmask_quantize.pipeline.recipes.edge_sparse import EdgeSparse
from blendmask_quantize.pruning.options import PruneOptions
from tests.quantize.prunable import SMALL
from tests.quantize.tiny import LABELS, tiny_model

WRONG: list[tuple[str, str]] = [
    ("", "holds no settings"),
    ("- ptq", "holds no settings"),
    ("recipe: [ptq", "is not YAML"),
    ("recipe: " + "[" * 100_000, "is not YAML .it nests lists or mappings too deeply"),
    ("version: '3'", "names no recipe"),
    ("recipe: ptqq\nversion: 3", "did you mean ptq"),
    ("recipe: ptq", "names no version of recipe ptq: add `version: 3`"),
    ("recipe: ptq\nversion: 1", "version 1 of recipe ptq"),
    ("recipe: ptq\nversion: 3\nestimatr: max", "no setting is called 'estimatr'"),
    ("recipe: ptq\nversion: 3\ncalibration: {estimatr: max}", "did you mean calibration.estimator"),
    ("recipe: ptq\nversion: 3\nqat: {iterations: 5}", "no setting is called 'qat'"),
    ("recipe: qat\nversion: 3\nqat: {training: {iteration: 5}}", "did you mean qat.training.iterations"),
    ("recipe: qat\nversion: 3\nqat: 5", "qat is 5, expected settings"),
    ("recipe: qat\nversion: 3\nqat: {training: {iterations: many}}", "qat.training.iterations"),
    ("recipe: qat\nversion: 3\nqat: {training: {batch: 0}}", "batch is 0"),
    ("recipe: ptq\nversion: 3\ncalibration: {count: 0}", "calibration.count"),
    ("recipe: ptq\nversion: 3\nprecision: int4", "int4 is not supported"),
    ("recipe: ptq\nversion: 3\nweights: int4", "weights: int4 is not supported"),
    ("recipe: ptq\nversion: 3\nweight_bits: 4", "weight_bits: 4 is not supported"),
    ("recipe: edge-sparse\nversion: 1\npruning: {sparsity: null}", "use recipe edge"),
    ("recipe: edge\nversion: 3\npruning: {target: mac}", "did you mean macs"),
    ("recipe: edge\nversion: 3\npruning: {ratio: 7}", "pruning.ratio"),
    ("recipe: edge\nversion: 3\npruning: {ratio: .nan}", "pruning.ratio"),
    ("recipe: w4a16\nversion: 3", "w4a16 is not supported"),
]


def write(folder: Path, content: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("content, message", WRONG)
def test_a_wrong_file_is_one_message(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError, match=message) as refused:
        load_recipe(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_written_to_a_file_is_read_as_the_same(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name)
    assert load_recipe(write(tmp_path, recipe_settings(recipe))) == recipe


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    content = "recipe: edge\nversion: 3\nsteps: []\nqat: {training: {iterations: 7}}\npruning: {ratio: 0.5}"
    recipe, own = load_recipe(write(tmp_path, content)), RECIPES["edge"]
    training = replace(own.qat.training, iterations=7)
    pruning = replace(own.pruning, ratio=0.5)
    assert recipe == replace(own, steps=(), qat=replace(own.qat, training=training), pruning=pruning)


def test_options_go_before_what_the_recipe_says(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "recipe: qat\nversion: 3\ncalibration: {count: 50, estimator: max}"))
    options = QuantizeOptions(count=60, iterations=9, steps=("adaround",))
    chosen = check_options(recipe, options)
    assert (chosen.calibration.count, chosen.calibration.estimator, chosen.steps) == (60, "max", ("adaround",))
    assert chosen.qat.training.iterations == 9


def test_the_weights_of_edge_sparse_are_sparse_whatever_is_given() -> None:
    for options in (QuantizeOptions(), QuantizeOptions(pruning=PruneOptions(0.5))):
        chosen = check_options(load_recipe("edge-sparse"), replace(options, annotations=__file__))
        assert isinstance(chosen, EdgeSparse)
        assert chosen.pruning.sparsity == "2:4"


def test_impossible_values_of_a_recipe_made_in_python_are_refused() -> None:
    recipe = load_recipe("ptq")
    with pytest.raises(ConfigError, match="count"):
        load_recipe(replace(recipe, calibration=replace(recipe.calibration, count=0)))
    with pytest.raises(ConfigError, match="int4 is not supported"):
        replace(recipe, precision="int4")
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.precision = "int8"  # type: ignore[misc]


def test_recipes_load_no_torch() -> None:
    code = (
        "import sys; from blendmask_quantize import load_recipe; load_recipe('edge').stages(); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_checkpoint(path, tiny_model(SMALL), LABELS)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("no_long_work", "timed_by_work")
def test_the_plan_names_what_the_recipe_does_and_what_stays_float(small: Path, scenes: Path, tmp_path: Path) -> None:
    file = write(tmp_path, "recipe: edge\nversion: 3\nignored: [backbone.bottom_up.stem]\npruning: {ratio: 0.75}")
    given = (small, scenes, tmp_path / "m.bmz", file)
    plan = explain(*given, annotations=scenes / "annotations.json", count=5)
    assert plan.recipe["calibration"]["count"] == 5
    assert plan.macs[1] == pytest.approx(0.75 * plan.macs[0], rel=0.02)
    assert plan.latency_ms == tuple(macs / 1000 for macs in plan.macs)
    assert plan.stages[1] == "prune to 0.75 of the multiply-accumulates, channels chosen by taylor"
    assert "backbone.bottom_up.stem.conv1.conv" in plan.float_layers
    assert "proposal_generator.fcos_head.bbox_pred" in plan.float_layers
    assert "basis_module.tower.4" not in plan.float_layers
    assert "proposal_generator.fcos_head.share_tower.0" not in plan.float_layers
    assert len(plan.float_layers) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml"]


def test_the_plan_refuses_what_cannot_be_done(small: Path, scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be reached"):
        explain(small, scenes, tmp_path / "m.bmz", "edge", annotations=scenes / "annotations.json", macs=0.001)
    with pytest.raises(ConfigError, match=r"no convolution can have 2:4 sparsity.*Protect fewer"):
        explain(
            small, scenes, tmp_path / "m.bmz", "edge-sparse", annotations=scenes / "annotations.json", macs=1.0,
            protect=("re:.",),
        )  # fmt: skip
    with pytest.raises(BlendMaskError, match="no convolution matches"):
        explain(small, scenes, tmp_path / "m.bmz", ignored=("stemm",))


@pytest.mark.slow
@pytest.mark.usefixtures("timed_by_work")
@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_explains(checkpoint_path: Path, photographs: Path, tmp_path: Path, as_json: bool) -> None:
    words = ["quantize", str(checkpoint_path), "--calibration", str(photographs), "-o", str(tmp_path / "m.bmz")]
    done = CliRunner().invoke(app, [*words, "--explain", *(["--json"] if as_json else [])])
    assert done.exit_code == 0, done.output
    if as_json:
        assert json.loads(done.stdout)["recipe"]["recipe"] == "ptq"
        assert json.loads(done.stdout)["latency_ms"][0] > 0
    else:
        assert "recipe ptq, version 3" in done.stdout
        assert "latency of the INT8 graph here, two threads: " in done.stdout
        assert "proposal_generator.fcos_head.bbox_pred" in done.stdout
    assert not list(tmp_path.iterdir())


def test_quantize_takes_a_file(checkpoint_path: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml: no setting is called 'bad'"):
        quantize(checkpoint_path, photographs, tmp_path / "m.bmz", write(tmp_path, "recipe: ptq\nversion: 3\nbad: 1"))
