"""After a refusal of the guard, the same command with `--allow` goes on from the work that was done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.errors import CalibrationError
from blendmask_edge.execution.choice import worker_threads
from blendmask_edge.execution.serial import SerialExecutor
from blendmask_quantize import QuantizeOptions, load_checkpoint, quantize
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.pipeline import comparison, stages
from blendmask_quantize.pipeline.observed_images import SentNetwork
from blendmask_quantize.pipeline.report import Report
from blendmask_quantize.quantization.refine import steps
from blendmask_quantize.validation.fidelity import Fidelity

BROKEN = Fidelity(4, 40, 0, 0, score_drift=0.01, box_iou=0.95, mask_iou=0.3, mask_iou_low=0.1)
SWAPPED = ([[0.6], [0.5], [0.7]], [[0.8], [0.75], [0.9]])

OPTIONS = QuantizeOptions(
    count=4, estimator="max", size=(64, 96), detections=20, steps=("bias_correction",), allow=("few-images",)
)
"""Few images, with one output."""

Run = Callable[..., Report]


@pytest.fixture
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_path)


@pytest.fixture
def run(photographs: Path, tmp_path: Path) -> Run:
    """The public function; see `OPTIONS`."""

    def call(checkpoint: Checkpoint, *allow: str, **changes: Any) -> Report:
        given = {"allow": (*OPTIONS.allow, *allow), **changes}
        return quantize(checkpoint, photographs, tmp_path / "m.bmz", options=replace(OPTIONS, **given))

    return call


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of INT8 are far from those of float."""
    monkeypatch.setattr(comparison, "compare_variants", lambda *_: dict.fromkeys(("cpu", "tensorrt"), BROKEN))


def forbid(monkeypatch: pytest.MonkeyPatch, module: Any, *names: str) -> None:
    for name in names:
        monkeypatch.setattr(module, name, lambda *_, name=name: pytest.fail(f"{name} is done again"))


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("replayed", "broken")
def test_after_the_comparison_with_float_nothing_but_measuring_is_left(
    run: Run, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CalibrationError, match=r"--allow broken-masks.*\n.*kept in .*m\.run"):
        run(checkpoint)
    assert names_in(tmp_path) == {f"m.run/stage-{stage}.npz" for stage in ("candidate", "observation", "refinement")}
    forbid(monkeypatch, stages, "observe_images", "scores_both_ways", "refine", "load_calibration_set")
    forbid(monkeypatch, comparison, "export_onnx", "compare_variants")
    with pytest.raises(CalibrationError, match="--allow broken-masks"):
        run(checkpoint)
    report = run(checkpoint, "broken-masks", license="MIT")
    assert names_in(tmp_path) == {"m.bmz"}
    manifest = Bundle.open(tmp_path / "m.bmz").manifest
    assert manifest.calibration is not None
    assert (manifest.calibration.overrides, manifest.license) == (["few-images", "broken-masks"], "MIT")
    assert manifest.calibration.clipped == report.calibration.record.clipped != {}
    assert manifest.fidelity["cpu"].mask_iou == 0.3
    assert [outcome.name for outcome in report.refined] == ["bias_correction"]
    assert manifest.recipe.options["steps"]["bias_correction"] == report.refined[0].record()
    assert report.speedup > 0


@pytest.mark.slow
@pytest.mark.usefixtures("replayed", "broken")
def test_what_was_allowed_before_is_judged_again(run: Run, checkpoint: Checkpoint) -> None:
    with pytest.raises(CalibrationError, match="broken-masks"):
        run(checkpoint)
    with pytest.raises(CalibrationError, match="few-images"):
        run(checkpoint, allow=("broken-masks",))
    report = run(checkpoint, "broken-masks")
    assert report.calibration.record.overrides == ("few-images", "broken-masks")


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_instances_are_not_looked_for_again(
    run: Run, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        checkpoint.model.proposal_generator.fcos_head.cls_logits.bias.fill_(-30)
    with pytest.raises(CalibrationError, match="--allow few-detections"):
        run(checkpoint)
    assert names_in(tmp_path) == {"m.run/stage-observation.npz"}
    forbid(monkeypatch, stages, "observe_images")
    assert run(checkpoint, "few-detections").calibration.record.overrides == ("few-images", "few-detections")
    assert names_in(tmp_path) == {"m.bmz"}


def test_an_interrupted_run_goes_on_after_calibration(
    run: Run, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "refine", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint)
    assert names_in(tmp_path) == {"m.run/stage-observation.npz"}
    forbid(monkeypatch, stages, "observe_images")
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, resume=True)


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_an_interrupted_run_goes_on_after_the_last_step_of_refinement(
    run: Run, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"steps": ("cross_layer_equalization", "bias_correction")}
    with monkeypatch.context() as patch:
        patch.setattr(steps, "correct_biases", lambda *_: interrupt())
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, **chosen)
    assert names_in(tmp_path) == {"m.run/stage-observation.npz", "m.run/stage-refinement.npz"}
    forbid(monkeypatch, stages, "observe_images")
    forbid(monkeypatch, steps, "equalize")
    report = run(checkpoint, **chosen)
    assert [outcome.name for outcome in report.refined] == list(chosen["steps"])
    assert names_in(tmp_path) == {"m.bmz"}


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_the_order_of_channels_is_not_measured_again(
    run: Run, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "scores_both_ways", lambda *_: SWAPPED)
    with pytest.raises(CalibrationError, match="--allow channel-order"):
        run(checkpoint)
    assert names_in(tmp_path) == {"m.run/stage-channel-order.npz"}
    forbid(monkeypatch, stages, "scores_both_ways")
    run(checkpoint, "channel-order")
    assert names_in(tmp_path) == {"m.bmz"}


@pytest.fixture(scope="module")
def refused(checkpoint_path: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is kept of a run whose order of channels the guard refused."""
    folder = tmp_path_factory.mktemp("refused")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "scores_both_ways", lambda *_: SWAPPED)
        with pytest.raises(CalibrationError, match="--allow channel-order"):
            quantize(checkpoint_path, photographs, folder / "m.bmz", options=OPTIONS)
    return folder / "m.run"


def test_the_same_run_goes_on_behind_what_was_refused(
    run: Run, checkpoint: Checkpoint, refused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(refused, tmp_path / "m.run")
    forbid(monkeypatch, stages, "scores_both_ways")
    monkeypatch.setattr(stages, "observe_images", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, "channel-order")


@pytest.mark.parametrize(
    "change", ["options", "network", "images", "damaged", pytest.param("empty", marks=pytest.mark.slow)]
)
def test_anything_else_begins_anew(
    run: Run, checkpoint: Checkpoint, refused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    kept = Path(shutil.copytree(refused, tmp_path / "m.run")) / "stage-channel-order.npz"
    changes: dict[str, Any] = {}
    if change == "options":
        changes["seed"] = 1
    elif change == "network":
        checkpoint = replace(checkpoint, model=load_checkpoint(checkpoint.path).model)
        with torch.no_grad():
            checkpoint.model.top_layer.weight += 1
    elif change == "images":
        monkeypatch.setattr("blendmask_quantize.pipeline.job.list_images", lambda folder: sorted(folder.glob("1*.png")))
    else:
        kept.write_bytes(kept.read_bytes()[:-30] if change == "damaged" else b"")
    monkeypatch.setattr(stages, "scores_both_ways", lambda *_: pytest.fail("it began"))
    with pytest.raises(pytest.fail.Exception, match="it began"):
        run(checkpoint, "channel-order", **changes)


def test_a_refusal_is_the_same_where_nothing_can_be_kept(
    checkpoint: Checkpoint, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images that are not files cannot be told apart later, and a file may be in the way of the folder."""
    monkeypatch.setattr(stages, "scores_both_ways", lambda *_: SWAPPED)
    rng = np.random.default_rng(0)
    images = [np.asarray(rng.integers(0, 255, (64, 96, 3)), np.uint8) for _ in range(20)]
    allowed = ("channel-order", "not-photographs", "near-duplicates")
    with pytest.raises(CalibrationError) as refused:
        quantize(checkpoint, images, tmp_path / "m.bmz", size=(64, 96), allow=allowed[1:])
    assert "kept in" not in str(refused.value)
    (tmp_path / "m.run").write_text("in the way")
    with pytest.raises(CalibrationError, match="--allow channel-order") as refused:
        run(checkpoint)
    assert "kept in" not in str(refused.value)
    assert names_in(tmp_path) == {"m.run"}


@pytest.mark.slow
def test_images_are_observed_where_the_options_say(
    run: Run, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Elsewhere:
        def run(self, work: Any, shards: Any) -> Any:
            asked.append((type(work.network), work.network.threads))
            return SerialExecutor().run(work, shards)

    def choose(*given: Any) -> Elsewhere:
        asked.append(given)
        return Elsewhere()

    monkeypatch.setattr(stages, "choose_executor", choose)
    monkeypatch.setattr(stages, "refine", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, processes=2)
    assert asked == [(2, None), (SentNetwork, worker_threads(2, None, None))]
