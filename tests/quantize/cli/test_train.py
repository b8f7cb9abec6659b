"""`blendmask train`: what is typed reaches the library, and what makes no sense is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from blendmask_quantize.api import arguments as arguments_of_functions
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import get_config
from blendmask_quantize.training import labeled_images, loop, start
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.stream import AugmentedStream
from tests.quantize.images import some_images, write_images
from tests.quantize.tiny import LABELS


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_images(tmp_path / "p", some_images())
    return ["train", "--images", str(tmp_path / "p"), "--annotations", str(tmp_path / "p/annotations.json"),
            "-o", str(tmp_path / "run")]  # fmt: skip


@pytest.fixture
def received(monkeypatch) -> list[TrainOptions]:
    """The options of the runs that the command asks for."""
    options_given: list[TrainOptions] = []

    def train(_, stream, output, options, **others):
        assert not others["resume"]
        options_given.append(options)
        assert len(stream) == options.augmented_images
        return output / loop.MODEL_FILE

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(start, "load_backbone", lambda *_: None)
    monkeypatch.setattr(start, "find_backbone_weights", lambda *_: None)
    monkeypatch.setattr(arguments_of_functions, "find_backbone_weights", lambda *_: None)
    monkeypatch.setattr("blendmask_quantize.api.training_run.check_tensorboard", lambda _: None)
    return options_given


def test_its_defaults_are_those_of_the_library(arguments, received):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert received == [TrainOptions()]
    assert "Next: blendmask evaluate" in result.output


def test_options_reach_the_run(arguments, received):
    typed = "--optimizer sgd --schedule steps --warmup 1000 --clip 0 --ema 0 --frozen-stages 0 --frozen-norms "
    typed += "--batch 4 "
    typed += "--crop 384x512 --scale 0.5,2 --paste 0.6 --dice 0.5 --repeat-threshold 0.1 --class-weight fork=2 "
    typed += "--class-weight plate=1.5 "
    typed += "--precision 32-true --devices 2 --nodes 3 --tensorboard --iterations 7000"
    assert CliRunner().invoke(app, [*arguments, *typed.split()]).exit_code == 0
    (options,) = received
    assert (options.optimizer, options.schedule) == ("sgd", "steps")
    assert (options.warmup, options.clip, options.ema) == (1000, 0, 0)
    assert (options.frozen_stages, options.frozen_norms, options.tensorboard) == (0, True, True)
    assert (options.augmentation.crop, options.augmentation.scale) == ((384, 512), (0.5, 2.0))
    assert (options.augmentation.paste, options.losses.dice_weight) == (0.6, 0.5)
    assert options.sampling.class_weights == (("fork", 2.0), ("plate", 1.5))
    assert options.sampling.threshold == 0.1
    assert (options.processes, options.augmented_images) == (6, 7000 * 4 * 6)


def test_views_are_of_the_size_that_the_given_checkpoint_is_tested_at(arguments, monkeypatch, tmp_path):
    config = get_config("LITE0_RT")
    config = replace(config, num_classes=len(LABELS.names), input=replace(config.input, test_short=96, test_long=160))
    save_checkpoint(tmp_path / "given.safetensors", BlendMask(config), LABELS)
    streams: list[AugmentedStream] = []

    def train(_, stream, output, *_options, **_others):
        streams.append(stream)
        return output / loop.MODEL_FILE

    monkeypatch.setattr(loop, "train", train)
    result = CliRunner().invoke(app, [*arguments, "--weights", str(tmp_path / "given.safetensors")])
    assert result.exit_code == 0, result.output
    source = streams[0].sources[0]
    assert (source.config.input.test_short, source.config.input.test_long) == (96, 160)


@pytest.mark.usefixtures("received")
def test_annotations_are_read_once(arguments, monkeypatch):
    read = []
    whole = labeled_images.open_document
    monkeypatch.setattr(labeled_images, "open_document", lambda path: read.append(path) or whole(path))
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert len(read) == 1


@pytest.mark.usefixtures("received")
def test_how_many_images_show_no_instance_is_said(arguments, tmp_path, caplog):
    write_images(tmp_path / "p", [*some_images(), []])
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "1 of 5 images" in caplog.text
    assert "1 left out (--keep-empty" in caplog.text
    assert CliRunner().invoke(app, [*arguments, "--keep-empty"]).exit_code == 0
    assert "1 kept as negatives" in caplog.text


@pytest.mark.parametrize("typed, code, message", [
    ("--crop 384", 2, "give two numbers, e.g. 3x4"), ("--crop 300x400", 1, "multiples of 32"),
    ("--scale 2,1", 1, "in order"), ("--class-weight fork", 2, "e.g. spoon=3"),
    ("--class-weight frok=2", 1, "did you mean fork"),
    ("--optimizer adam", 1, "did you mean adamw"), ("--paste 2", 1, "give a probability"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(arguments, received, typed, code, message):
    result = CliRunner().invoke(app, [*arguments, *typed.split()])
    assert result.exit_code == code, result.output
    assert not received
    assert message in " ".join(result.stderr.replace("\u2502", " ").split())


def test_an_unknown_class_is_refused_before_images_are_looked_at(arguments, received, tmp_path):
    for image in (tmp_path / "p").glob("*.png"):
        image.unlink()
    result = CliRunner().invoke(app, [*arguments, "--class-weight", "frok=2"])
    assert result.exit_code == 1
    assert not received
    assert "no class is called 'frok': did you mean fork" in result.stderr
