"""A bound on the drop of mask AP: layers go back to float until it holds, or a refusal names what was reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.lib.outliers import Outliers, plant_outliers
from blendmask_calibration.dataset import CalibrationDataset
from blendmask_edge.errors import AnnotationError, CalibrationError
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.pipeline import max_drop, stages
from blendmask_quantize.pipeline.calibration_set import TO_MEASURE, HoldOut, load_calibration_set
from blendmask_quantize.pipeline.ground_truth import check_labels
from blendmask_quantize.pipeline.job import Job, make_job
from blendmask_quantize.pipeline.max_drop import MAX_DROP, DropReport, hold_drop
from blendmask_quantize.pipeline.options import QuantizeOptions
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.pipeline.recipes.ptq import Ptq
from blendmask_quantize.pipeline.settings import CalibrationSettings
from blendmask_quantize.pipeline.stages import calibrate, read_images
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.quantized_layers import quantized_layers
from blendmask_quantize.validation.drop import DropCriterion
from tests.quantize.small_networks import DLA, FIVE_LEVELS, LITE, size_of, small_network
from tests.quantize.tiny import LABELS

PYRAMID = Outliers(
    tuple(f"backbone.fpn_output{level}" for level in (3, 4, 5)),
    ("proposal_generator.fcos_head.share_tower.0", *(f"basis_module.refine.{level}.0" for level in range(3))),
)
TOUCHING = {*(f"{name}.conv" for name in PYRAMID.makers), *PYRAMID.readers}
OTHERS = ("backbone.bottom_up", "basis_module.tower")
RECIPE = Ptq(
    calibration=CalibrationSettings(count=17, estimator="max"), steps=("bias_correction",), ignored=OTHERS,
    max_drop=0.2, max_float_macs=0.999,
)  # fmt: skip
OPTIONS = QuantizeOptions(size=(64, 96), detections=20, allow=("few-images", "few-detections", "channel-order"))

Make = Callable[..., Job]


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    """Hold out and rank on a few images, to be quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "TO_MEASURE", HoldOut(4, 4, 2 / 5, needed=4))
        patch.setattr(max_drop, "_RANKED_ON", 1)
        yield


@pytest.fixture(scope="module")
def make(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    model = plant_outliers(small_network(LITE), [PYRAMID], 300)
    checkpoint = Checkpoint(model, LABELS, Path("planted.safetensors"))
    output = tmp_path_factory.mktemp("max_drop") / "m.bmz"

    def made(recipe: Ptq = RECIPE, folder: Path = photographs, **options: object) -> Job:
        return make_job(checkpoint, CalibrationDataset(folder), output, recipe, replace(OPTIONS, **options))  # type: ignore[arg-type]

    return made


@pytest.fixture(scope="module")
def start(make: Make) -> Quantized:
    job = make()
    return calibrate(job, read_images(job), checked=True)


@pytest.fixture(scope="module")
def held(start: Quantized) -> Quantized:
    return hold_drop(start)


def report_of(quantized: Quantized) -> DropReport:
    report = quantized.training[MAX_DROP]
    assert isinstance(report, DropReport)
    return report


@pytest.mark.slow
def test_the_bound_holds_with_a_few_layers_in_float(start: Quantized, held: Quantized) -> None:
    report = report_of(held)
    assert min(report.before.values()) > report.bound
    assert report.holds
    assert set(report.reverted) & TOUCHING
    assert report.float_macs_share < 1
    for variant in VARIANTS:
        still = quantized_layers(held.calibrated.traced, variant)
        assert not still & set(report.reverted)
        assert still | set(report.reverted) >= quantized_layers(start.calibrated.traced, variant) & TOUCHING


@pytest.mark.slow
def test_the_manifest_and_the_report_name_the_reverted_layers(held: Quantized) -> None:
    entry = held.recipe_options()[MAX_DROP]
    assert entry["reverted"] == list(report_of(held).reverted)
    assert entry["holds"] is True
    assert entry["images"] == 4
    assert all(name in str(report_of(held)) for name in entry["reverted"])
    assert [outcome.name for outcome in held.refined] in ([], ["bias_correction"])


@pytest.mark.slow
def test_an_interrupted_search_measures_nothing_twice(
    start: Quantized, held: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[nn.Module] = []

    class Watched(DropCriterion):
        """Breaks off the first run in the middle of the search."""

        def __call__(self, network: nn.Module) -> float:
            shown.append(network)
            if len(shown) == 7:
                raise KeyboardInterrupt
            return super().__call__(network)

    monkeypatch.setattr(max_drop, "DropCriterion", Watched)
    job = replace(start.job, output=tmp_path / "m.bmz")
    with pytest.raises(KeyboardInterrupt):
        hold_drop(replace(start, job=job))
    monkeypatch.setattr(max_drop, "measure_changes", lambda *_, **__: pytest.fail("layers are ranked again"))
    resumed = hold_drop(replace(start, job=replace(job)))
    assert report_of(resumed) == report_of(held)
    assert len(list(tmp_path.rglob("stage-search.npz"))) == 1


@pytest.mark.slow
def test_an_interrupted_ranking_measures_only_the_other_layers(start: Quantized, tmp_path: Path) -> None:
    totals: list[int] = []

    def breaking_off(_name: str, total: int) -> Callable[[], None]:
        steps = iter(range(20 if not totals else 0))  # of 26: 13 layers in two variants on one image
        totals.append(total)

        def step() -> None:
            if next(steps, None) is None:
                raise KeyboardInterrupt

        return step

    job = replace(start.job, output=tmp_path / "m.bmz", progress=breaking_off)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            hold_drop(replace(start, job=replace(job)))
    assert totals[1] == totals[0] - 8 * len(VARIANTS)


@pytest.mark.slow
def test_a_bound_that_holds_reverts_nothing(make: Make) -> None:
    few = CalibrationSettings(count=4, estimator="max")
    job = make(replace(RECIPE, calibration=few, steps=(), max_drop=0.999))
    start = calibrate(job, read_images(job), checked=True)
    report = report_of(hold_drop(start))
    assert report.reverted == ()
    assert report.before == report.after
    assert hold_drop(replace(start, job=replace(job, recipe=replace(job.recipe, max_drop=None)))).training == {}


@pytest.mark.slow
def test_a_bound_out_of_reach_is_refused_with_what_was_reached(start: Quantized) -> None:
    narrow = replace(RECIPE, max_drop=0.001, max_float_macs=start_share(start) + 0.01)
    result = hold_drop(replace(start, job=replace(start.job, recipe=narrow)))
    report = report_of(result)
    assert not report.holds
    assert report.float_macs_share <= narrow.max_float_macs
    with pytest.raises(CalibrationError, match=r"(?s)at most 0.1% is allowed.*--allow max-drop"):
        result.images.report.checked_anew(())
    assert result.images.report.checked_anew(("max-drop", *OPTIONS.allow))


def start_share(start: Quantized) -> float:
    """Share of the box predictors, which are always in float."""
    whole = replace(start, job=replace(start.job, recipe=replace(RECIPE, max_drop=0.999)))
    return report_of(hold_drop(whole)).float_macs_share


BASES = Outliers(tuple(f"basis_module.refine.{level}.1" for level in range(3)), ("basis_module.tower.0.0",))


@pytest.mark.slow
@pytest.mark.parametrize("config, outliers", [
    pytest.param(DLA, PYRAMID, id="DLA-34"),
    pytest.param(FIVE_LEVELS, BASES, id="GN heads"),
])  # fmt: skip
def test_the_bound_holds_for_other_architectures(
    config: ModelConfig, outliers: Outliers, photographs: Path, tmp_path: Path
) -> None:
    model = plant_outliers(small_network(config), [outliers], 300)
    with torch.no_grad():  # be confident of what is detected
        model.proposal_generator.fcos_head.cls_logits.bias += 1
        model.proposal_generator.fcos_head.ctrness.bias += 3
    checkpoint = Checkpoint(model, LABELS, Path("planted.safetensors"))
    recipe = replace(RECIPE, ignored=("backbone.bottom_up",), max_drop=0.05)
    options = replace(OPTIONS, size=size_of(config))
    job = make_job(checkpoint, CalibrationDataset(photographs), tmp_path / "m.bmz", recipe, options)
    report = report_of(hold_drop(calibrate(job, read_images(job), checked=True)))
    assert max(report.before.values()) > 0.1
    assert report.holds
    assert report.reverted


def test_fewer_images_than_needed_are_refused_before_any_is_read(make: Make) -> None:
    job = make(replace(RECIPE, calibration=CalibrationSettings(count=34)))
    with pytest.raises(CalibrationError, match=r"14 calibration images can be held out, and 16 are needed.* give 38"):
        load_calibration_set(job.dataset, job.recipe.calibration, job.size, job.pad_value, hold_out=TO_MEASURE)


def test_labels_of_other_images_are_refused_first(make: Make, scenes: Path) -> None:
    job = make()
    with pytest.raises(AnnotationError, match="34 of 34 calibration images are not in"):
        check_labels(job.checkpoint, job.dataset, scenes / "annotations.json")
