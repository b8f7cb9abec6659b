"""`blendmask teach`: what is typed reaches the library, and what makes no sense is refused before any step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from blendmask_quantize.training import loop, teach
from tests.quantize.images import some_images, write_images
from tests.quantize.tiny import LABELS, tiny_model


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_images(tmp_path / "p", some_images())
    save_checkpoint(tmp_path / "teacher.safetensors", tiny_model(), LABELS)
    return [
        "teach",
        str(tmp_path / "teacher.safetensors"),
        "--images",
        str(tmp_path / "p"),
        "-o",
        str(tmp_path / "run"),
    ]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Student, stream and options of the runs that the command asks for."""
    found: list[tuple[Any, ...]] = []

    def run(student: Any, _: Any, stream: Any, output: Path, options: Any, **__: Any) -> Path:
        found.append((student, stream, options))
        return output / loop.MODEL_FILE

    monkeypatch.setattr(teach, "teach", run)
    monkeypatch.setattr(teach, "check_teacher", lambda *_: None)
    return found


def test_options_reach_the_run(arguments: list[str], received: list[tuple[Any, ...]]) -> None:
    typed = "--config RT_R_50_4x_syncbn_shtw --iterations 7 --batch 4 --learning-rate 5e-4 --frozen-stages 1 "
    typed += "--crop 64x96 --scale 0.5,2 --warmup 3 --ema 0.9 --precision 32-true --save-every 5 --workers 0 --seed 3"
    result = CliRunner().invoke(app, [*arguments, *typed.split()])
    assert result.exit_code == 0, result.output
    ((student, stream, options),) = received
    assert (student.config.name, student.config.num_classes) == ("RT_R_50_4x_syncbn_shtw", 3)
    training = options.training
    assert (training.iterations, training.batch, training.augmented_images) == (7, 4, len(stream))
    assert (training.learning_rate, training.backbone_rate, training.frozen_stages) == (5e-4, 1.0, 1)
    assert (training.augmentation.crop, training.augmentation.scale) == ((64, 96), (0.5, 2.0))
    assert (training.warmup, training.ema, training.precision) == (3, 0.9, "32-true")
    assert (training.save_every, training.workers, training.seed, stream.seed) == (5, 0, 3, 3)
    assert "Next: blendmask train --config RT_R_50_4x_syncbn_shtw --weights" in " ".join(result.output.split())


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
