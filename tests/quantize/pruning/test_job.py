"""From a checkpoint and labeled images to a pruned, fine-tuned checkpoint, in one go or after being cut off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from blendmask_edge.errors import AnnotationError, CheckpointError, ConfigError
from blendmask_edge.labels import Labels
from blendmask_quantize.api import prune as api
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from blendmask_quantize.cli import commands as cli
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.model.sparsity import sparse_layers
from blendmask_quantize.pruning.budget import TOLERANCE
from blendmask_quantize.pruning.job import PruneReport, prune
from blendmask_quantize.pruning.options import PruneOptions, fine_tuning
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.losses import LossOptions
from blendmask_quantize.training.options import TrainOptions
from tests.quantize.images import SIZE, some_images, write_images
from tests.quantize.prunable import SMALL
from tests.quantize.tiny import LABELS, tiny_model

TRAINING = TrainOptions(
    iterations=4, batch=2, learning_rate=1e-3, precision="32-true", workers=0, save_every=2,
    augmentation=Augmentation(crop=SIZE), losses=LossOptions(mask_positives=16),
)  # fmt: skip
OPTIONS = PruneOptions(0.7, fine_tuning(TRAINING), batches=2)
UNTRAINED = replace(OPTIONS, training=replace(TRAINING, iterations=0))


def quiet(_name: str, _total: int) -> Callable[[], None]:
    return lambda: None


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def interrupting(stage: str, after: int) -> Callable[[str, int], Callable[[], None]]:
    """Progress that breaks off in a stage."""

    def announce(name: str, _total: int) -> Callable[[], None]:
        steps = iter(range(after))

        def step() -> None:
            if name == stage and next(steps, None) is None:
                raise Interrupted

        return step

    return announce


def source_in(folder: Path) -> CocoImages:
    return CocoImages.open(folder, folder / "annotations.json", SMALL, TRAINING.augmentation)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, some_images())
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    save_checkpoint(path, tiny_model(SMALL), LABELS)
    return load_checkpoint(path)


@pytest.fixture
def run(images, checkpoint, tmp_path):
    """Prunes into `tmp_path`."""

    def call(options=OPTIONS, stage=quiet, resume=False, name="pruned.safetensors", of=checkpoint):
        output = tmp_path / name
        return prune(of, [source_in(images)], output, options, stage, resume=resume)

    return call


@pytest.fixture(scope="module")
def stopped(images, checkpoint, tmp_path_factory) -> Path:
    """The folder of a run that broke off at its first step of training."""
    folder = tmp_path_factory.mktemp("stopped")
    output, stage = folder / "pruned.safetensors", interrupting("fine-tuning", 0)
    with pytest.raises(Interrupted):
        prune(checkpoint, [source_in(images)], output, OPTIONS, stage)
    return folder / "pruned.run"


@pytest.fixture
def begun(stopped, tmp_path) -> Path:
    """A copy of it where `run` takes it."""
    return Path(shutil.copytree(stopped, tmp_path / "pruned.run"))


@pytest.fixture(scope="module")
def untrained(images, checkpoint, tmp_path_factory) -> PruneReport:
    """The report of pruning without fine-tuning."""
    output = tmp_path_factory.mktemp("untrained") / "pruned.safetensors"
    return prune(checkpoint, [source_in(images)], output, UNTRAINED, quiet)


class TestPruning:
    def test_the_file_holds_the_thinner_network_trained(self, run, checkpoint, untrained, tmp_path):
        before = load_checkpoint(untrained.path)
        loaded = load_checkpoint(run().path)
        assert count_macs(loaded.model) / count_macs(checkpoint.model) == pytest.approx(0.7, rel=TOLERANCE)
        assert loaded.config == before.config
        assert loaded.labels == LABELS
        assert not torch.equal(loaded.model.top_layer.weight, before.model.top_layer.weight)
        assert {path.name for path in tmp_path.iterdir()} == {"pruned.safetensors"}

    def test_the_report_counts_work_and_weights(self, untrained, checkpoint):
        loaded = load_checkpoint(untrained.path).model
        assert untrained.macs == (count_macs(checkpoint.model), count_macs(loaded))
        assert (
            untrained.weights[1] == sum(parameter.numel() for parameter in loaded.parameters()) < untrained.weights[0]
        )
        assert untrained.ratio == pytest.approx(0.7, rel=TOLERANCE)

    @pytest.mark.slow
    def test_the_checkpoint_handed_in_stays(self, run, checkpoint):
        before = load_checkpoint(checkpoint.path).model.state_dict()
        run()
        assert all(torch.equal(value, checkpoint.model.state_dict()[key]) for key, value in before.items())

    def test_a_short_run_warms_up_and_averages_over_less_than_its_length(self):
        options = fine_tuning(replace(TRAINING, iterations=100))
        assert options.warmup == 10
        assert options.ema == pytest.approx(0.9)
        assert fine_tuning(TrainOptions()) == replace(TrainOptions(), warmup=200, ema=1 - 10 / 4000)


class TestResuming:
    @pytest.mark.parametrize("after", [1, 3])
    @pytest.mark.slow
    def test_a_run_that_was_cut_off_ends_as_one_that_was_not(self, run, after):
        whole = load_checkpoint(run(name="whole.safetensors").path).model.state_dict()
        with pytest.raises(Interrupted):
            run(stage=interrupting("fine-tuning", after))
        with pytest.raises(CheckpointError, match="--resume"):
            run()
        resumed = load_checkpoint(run(resume=True).path).model.state_dict()
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())

    @pytest.mark.usefixtures("begun")
    @pytest.mark.slow
    def test_importance_is_not_measured_again(self, run):
        run(stage=interrupting("measuring channels", 0), resume=True)

    @pytest.mark.slow
    def test_nothing_to_resume_is_a_new_run(self, run):
        assert run(resume=True).path.is_file()

    @pytest.mark.usefixtures("begun")
    def test_a_run_of_another_ratio_is_not_continued(self, run):
        with pytest.raises(CheckpointError, match=r"macs 0\.7 instead of 0\.5"):
            run(replace(OPTIONS, ratio=0.5), resume=True)

    @pytest.mark.usefixtures("begun")
    @pytest.mark.parametrize(
        "change, message",
        [pytest.param({"learning_rate": 1e-4}, None, marks=pytest.mark.slow),
         ({"ema": 0.1}, r"fine-tuning ema 0\.\d+ instead of 0\.1"),
         ({"optimizer": "sgd"}, "fine-tuning optimizer adamw instead of sgd")],
        ids=["rate", "ema", "optimizer"],
    )  # fmt: skip
    def test_options_that_change_the_weights_must_be_the_same(self, run, change, message):
        other = replace(OPTIONS, training=replace(OPTIONS.training, **change))
        if message is None:
            assert run(other, resume=True).path.is_file()
        else:
            with pytest.raises(CheckpointError, match=message):
                run(other, resume=True)

    @pytest.mark.usefixtures("begun")
    def test_a_run_on_other_annotations_is_not_continued(self, run, images):
        annotations = images / "annotations.json"
        text = annotations.read_text()
        annotations.write_text(text + " ")
        try:
            with pytest.raises(CheckpointError, match="another annotation file: resume"):
                run(resume=True)
        finally:
            annotations.write_text(text)

    def test_a_run_that_does_not_say_what_it_is_is_left_alone(self, run, tmp_path):
        (tmp_path / "pruned.run").mkdir()
        (tmp_path / "pruned.run/last.pt").write_bytes(b"state")
        for resume in (False, True):
            with pytest.raises(CheckpointError, match=r"no run\.json that says what it was started with"):
                run(resume=resume, stage=interrupting("measuring channels", 0))
        assert (tmp_path / "pruned.run/last.pt").read_bytes() == b"state"


class TestBadInput:
    @pytest.mark.slow
    @pytest.mark.usefixtures("begun")
    def test_an_interruption_by_the_user_says_how_to_go_on(self, run):
        def stage(name, _total):
            def step():
                if name == "fine-tuning":
                    raise KeyboardInterrupt

            return step

        with pytest.raises(KeyboardInterrupt, match=r"kept in .*pruned\.run: the same command with --resume"):
            run(stage=stage, resume=True)

    def test_an_impossible_ratio_leaves_nothing(self, run, tmp_path):
        with pytest.raises(ConfigError, match="Ask for"):
            run(replace(OPTIONS, ratio=0.01), stage=interrupting("measuring channels", 0))
        assert not list(tmp_path.iterdir())

    def test_a_run_that_breaks_off_while_measuring_leaves_nothing(self, run, tmp_path):
        with pytest.raises(Interrupted):
            run(stage=interrupting("measuring channels", 0))
        assert not list(tmp_path.iterdir())

    def test_annotations_of_other_categories(self, run, checkpoint):
        other = replace(checkpoint, labels=Labels(("dog", "cat", "cow"), (1, 2, 3)))
        with pytest.raises(AnnotationError, match=r"cup.*dog"):
            run(of=other)

    @pytest.mark.slow
    def test_a_checkpoint_that_never_named_its_classes_takes_any(self, run, checkpoint, tmp_path):
        torch.save(checkpoint.model.state_dict(), tmp_path / "bare.pth")
        report = run(UNTRAINED, of=load_checkpoint(tmp_path / "bare.pth", SMALL))
        assert load_checkpoint(report.path).labels == LABELS


class TestCommand:
    @pytest.fixture
    def invoke(self, checkpoint, images, tmp_path):
        app = typer.Typer()
        cli.register(app)
        arguments = [
            "prune", str(checkpoint.path),
            "--images", str(images), "--annotations", str(images / "annotations.json"),
            "-o", str(tmp_path / "a.safetensors"), "--batch", "1", "--workers", "0", "--precision", "32-true",
        ]  # fmt: skip
        return lambda *more: CliRunner().invoke(app, [*arguments, *more])

    @pytest.mark.slow
    def test_it_says_what_it_did_and_what_comes_next(self, invoke, tmp_path):
        result = invoke("--macs", "0.8", "--iterations", "1")
        assert result.exit_code == 0, result.output
        assert f"blendmask evaluate {tmp_path / 'a.safetensors'}" in result.stdout
        assert load_checkpoint(tmp_path / "a.safetensors").config.widths

    def test_json_for_machines(self, invoke, untrained, monkeypatch):
        monkeypatch.setattr(api, "prune", lambda *_, **__: untrained)
        result = invoke("--macs", "0.7", "--json")
        assert result.exit_code == 0, result.output
        loaded = json.loads(result.stdout)
        assert loaded["checkpoint"] == str(untrained.path)
        assert loaded["macs"] / loaded["macs_before"] == pytest.approx(0.7, rel=TOLERANCE)

    def test_images_that_are_not_there(self, invoke, tmp_path):
        result = invoke("--images", str(tmp_path), "--annotations", str(tmp_path / "nowhere.json"))
        assert isinstance(result.exception, AnnotationError)
        assert not list(tmp_path.iterdir())

    def test_a_runtime_that_nothing_is_timed_in(self, invoke, tmp_path):
        result = invoke("--macs", "0.8", "--runtime", "openvino")
        assert result.exit_code == 2
        assert "--runtime names what --latency times" in " ".join(result.stderr.replace("\u2502", " ").split())
        assert not list(tmp_path.iterdir())

    def test_folders_and_annotations_go_in_pairs(self, invoke, tmp_path):
        result = invoke("--macs", "0.8", "--images", str(tmp_path))
        assert result.exit_code == 2


@pytest.mark.slow
class TestRounds:
    def test_each_round_prunes_and_fine_tunes_and_the_share_is_met(self, run, tmp_path):
        announced: list[tuple[str, int]] = []

        def stage(name: str, total: int):
            announced.append((name, total))
            return lambda: None

        report = run(replace(OPTIONS, rounds=2), stage)
        assert announced == [("measuring channels", 2), ("fine-tuning", 2)] * 2
        assert report.ratio == pytest.approx(0.7, rel=TOLERANCE)
        assert load_checkpoint(report.path).config.widths
        assert {path.name for path in tmp_path.iterdir()} == {"pruned.safetensors"}

    def test_a_round_that_is_done_is_not_done_again(self, run, tmp_path):
        options, rounds = replace(OPTIONS, rounds=2), iter(range(2))

        def stage(name: str, _total: int):
            if name == "fine-tuning" and next(rounds) == 1:
                raise Interrupted
            return lambda: None

        with pytest.raises(Interrupted):
            run(options, stage)
        assert (tmp_path / "pruned.run/round-1.safetensors").is_file()
        announced: list[str] = []

        def watched(name: str, _total: int):
            announced.append(name)
            return lambda: None

        run(options, watched, resume=True)
        assert announced == ["fine-tuning"]
        assert {path.name for path in tmp_path.iterdir()} == {"pruned.safetensors"}

    def test_the_network_before_pruning_can_teach(self, run, checkpoint):
        report = run(replace(OPTIONS, distill=True))
        options = load_checkpoint(report.path).training[-1].options
        assert (options["teacher"], options["labeled"]) == (checkpoint.path.name, True)
        assert report.ratio == pytest.approx(0.7, rel=TOLERANCE)

    def test_blocks_are_dropped_before_channels(self, run):
        report = run(replace(OPTIONS, depth=0.9))
        found = load_checkpoint(report.path)
        assert found.config.dropped
        assert count_macs(found.model) == report.macs[1] <= 0.7 * (1 + TOLERANCE) * report.macs[0]

    def test_sparse_weights_are_sparse_after_fine_tuning(self, run):
        report = run(replace(OPTIONS, sparsity="2:4", ratio=1.0))
        assert len(sparse_layers(load_checkpoint(report.path).model)) > 40
        assert report.ratio == 1
