"""Training: it learns, it resumes exactly, and it stops with one message when it cannot go on."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from blendmask_edge.errors import CheckpointError
from blendmask_edge.imaging import read_image
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.training import loop
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.curves import draw_curves
from blendmask_quantize.training.loop import DivergedError, train
from blendmask_quantize.training.losses import LossOptions
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.start import NEW, Origin, starting_network
from blendmask_quantize.training.stream import AugmentedStream
from tests.quantize.images import PLAIN, SIZE, some_images, write_images
from tests.quantize.tiny import LABELS, TINY

OPTIONS = TrainOptions(
    iterations=8, batch=2, learning_rate=3e-3, warmup=2, ema=0.5, precision="32-true", workers=0, save_every=3, seed=5,
    augmentation=Augmentation(crop=SIZE), losses=LossOptions(mask_positives=16),
)  # fmt: skip
LOSSES = ["loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr", "loss_mask", "loss_basis_sem", "total"]

Losses = dict[int, dict[str, float]]


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def new_model(seed: int = 0) -> BlendMask:
    torch.manual_seed(seed)
    return BlendMask(TINY)


def state_of(model: BlendMask) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def weights_of(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).model.state_dict()


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, some_images())
    return folder


@dataclass(frozen=True)
class Whole:
    """A run that nothing stopped: folder, losses by step, weights before and after, the top layer's after each step."""

    folder: Path
    losses: Losses
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    top_layers: list[Tensor]


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory) -> Whole:
    folder, model, top_layers = tmp_path_factory.mktemp("whole"), new_model(), []
    before = state_of(model)
    losses, _ = train_into(
        folder, images, model=model, after=lambda _, model: top_layers.append(model.top_layer.weight.detach().clone())
    )
    return Whole(folder, losses, before, state_of(model), top_layers)


@pytest.fixture
def run(images: Path, tmp_path: Path) -> Callable[..., tuple[Losses, BlendMask]]:
    """Train into a folder of the test; gives the losses of every step and the trained network."""
    return lambda folder="run", *given, **named: train_into(tmp_path / folder, images, *given, **named)


def train_into(
    folder: Path, images: Path, options: TrainOptions = OPTIONS, *, model: BlendMask | None = None,
    resume: bool = False, after: Callable[[int, BlendMask], None] | None = None, losses: Losses | None = None,
    origin: Origin = NEW,
) -> tuple[Losses, BlendMask]:  # fmt: skip
    model, losses = model or new_model(), {} if losses is None else losses
    source = CocoImages.open(images, images / "annotations.json", TINY, options.augmentation)
    stream = AugmentedStream([source], options.iterations * options.batch, options.seed)

    def on_step(step: int, numbers: dict[str, float]) -> None:
        losses[step] = numbers
        if after is not None:
            after(step, model)

    assert train(model, stream, folder, options, resume=resume, on_step=on_step, origin=origin).is_file()
    return losses, model


def interrupt_after(last: int) -> Callable[[int, BlendMask], None]:
    def after(step: int, _: BlendMask) -> None:
        if step == last:
            raise Interrupted

    return after


def read_log(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


class TestARun:
    def test_the_loss_falls(self, run):
        options = replace(OPTIONS, iterations=24, batch=4, save_every=24, augmentation=PLAIN)
        losses, _ = run(options=options)
        totals = [losses[step]["total"] for step in range(24)]
        assert sum(totals[-5:]) < 0.7 * sum(totals[:5])

    def test_every_step_is_logged(self, whole):
        header, rows = read_log(whole.folder / "log.csv")
        assert header == ["iteration", "seconds", *LOSSES]
        assert [int(row[0]) for row in rows] == list(range(8))
        for step, row in enumerate(rows):
            assert [float(value) for value in row[2:]] == pytest.approx(
                [whole.losses[step][n] for n in LOSSES], abs=1e-5
            )

    def test_the_total_is_the_plain_sum(self, whole):
        for numbers in whole.losses.values():
            assert numbers["total"] == pytest.approx(sum(numbers[name] for name in LOSSES[:-1]), rel=1e-6)

    def test_the_model_says_what_it_is_and_how_it_was_trained(self, whole):
        loaded = load_checkpoint(whole.folder / "model.safetensors")
        assert (loaded.config, loaded.labels) == (TINY, LABELS)
        (record,) = loaded.training
        assert (record.iterations, record.augmented_images, record.images) == (8, 16, 4)
        assert 0 <= record.hours < 0.1
        assert record.options["learning_rate"] == 3e-3
        assert record.options["augmentation"]["crop"] == list(SIZE)

    def test_a_run_from_a_checkpoint_says_both(self, run, whole, tmp_path):
        model, origin = starting_network(None, whole.folder / "model.safetensors", LABELS, 0)
        run("b", replace(OPTIONS, iterations=1), model=model, origin=origin)
        first, second = load_checkpoint(tmp_path / "b/model.safetensors").training
        assert (first.weights, second.weights, second.initialized) == ("", "model.safetensors", ())

    @pytest.mark.slow
    def test_the_curves_are_drawn(self, run, tmp_path, monkeypatch):
        pytest.importorskip("matplotlib")
        monkeypatch.setattr(loop, "draw_curves", draw_curves)
        run(options=replace(OPTIONS, iterations=2))
        image = read_image(tmp_path / "run/curves.png")
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50

    def test_the_model_is_the_average_of_the_weights(self, whole):
        average = whole.top_layers[0]
        for weight in whole.top_layers[1:]:
            average = average + 0.5 * (weight - average)
        torch.testing.assert_close(weights_of(whole.folder / "model.safetensors")["top_layer.weight"], average)

    def test_frozen_stages_stay_as_they_are(self, whole):
        stem = {key for key in whole.before if "bottom_up.stem" in key}
        assert stem
        moved = {key for key, value in whole.after.items() if not torch.equal(value, whole.before[key])}
        assert not stem & moved
        assert moved > {"top_layer.weight", "backbone.bottom_up.res5.1.conv3.weight", "basis_module.seg_head.0.weight"}

    def test_the_backbone_learns_at_its_own_rate(self, run):
        model = new_model()
        before = state_of(model)
        run(model=model, options=replace(OPTIONS, iterations=1, backbone_rate=0.0))
        moved = {name for name, value in model.named_parameters() if not torch.equal(value, before_key(before, name))}
        assert moved
        assert not any("bottom_up" in name for name in moved)

    @pytest.mark.slow
    def test_mixed_precision_learns_too(self, run):
        losses, model = run(options=replace(OPTIONS, precision="bf16-mixed"))
        assert losses[7]["total"] < losses[0]["total"]
        assert model.top_layer.weight.dtype == torch.float32

    def test_two_runs_are_the_same(self, run, whole):
        assert run()[0] == whole.losses

    def test_another_seed_augments_otherwise(self, run, whole):
        losses: Losses = {}
        with pytest.raises(Interrupted):
            run(options=replace(OPTIONS, seed=6), after=interrupt_after(0), losses=losses)
        assert losses[0] != whole.losses[0]


def before_key(state: dict[str, Tensor], parameter: str) -> Tensor:
    """The tensor of a parameter in a state dict, whose keys lack the wrapper's `conv`."""
    return state[parameter] if parameter in state else state[parameter.replace(".conv.weight", ".weight").replace(
        ".conv.bias", ".bias")]  # fmt: skip


class TestResuming:
    @pytest.mark.slow
    def test_seconds_count_what_was_trained_before(self, run, tmp_path):
        with pytest.raises(Interrupted):
            run("parts", after=interrupt_after(4))
        state = torch.load(tmp_path / "parts/last.pt", weights_only=True)
        torch.save({**state, "seconds": 1000.0}, tmp_path / "parts/last.pt")
        run("parts", resume=True)
        seconds = [float(row[1]) for row in read_log(tmp_path / "parts/log.csv")[1]]
        assert seconds == pytest.approx([0] * 3 + [1000] * 5, abs=60)
        assert load_checkpoint(tmp_path / "parts/model.safetensors").training[0].hours > 0.27

    @pytest.mark.slow
    def test_half_a_row_is_dropped(self, run, tmp_path):
        with pytest.raises(Interrupted):
            run("parts", after=interrupt_after(4))
        log = tmp_path / "parts/log.csv"
        log.write_text(log.read_text() + "5,1.0,0.3")
        run("parts", resume=True)
        assert [int(row[0]) for row in read_log(log)[1]] == list(range(8))

    @pytest.mark.parametrize("ends", [*(pytest.param(ends, marks=pytest.mark.slow) for ends in ((3,), (7,))), (4, 6)])
    def test_an_interrupted_run_goes_on_as_if_it_had_not_been(self, run, whole, tmp_path, ends):
        parts: Losses = {}
        for last in ends:
            with pytest.raises(Interrupted):
                run("parts", after=interrupt_after(last), losses=parts, resume=True)
        run("parts", model=new_model(seed=9), resume=True, losses=parts)
        assert parts == whole.losses
        self.assert_same_results(tmp_path / "parts", whole.folder)

    @pytest.mark.slow
    def test_a_run_without_a_checkpoint_yet_starts_anew(self, run, whole, tmp_path):
        with pytest.raises(Interrupted):
            run("parts", after=interrupt_after(1))
        run("parts")
        self.assert_same_results(tmp_path / "parts", whole.folder)

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_killed_process_goes_on_as_if_it_had_not_been(self, run, whole, images, tmp_path, workers):
        script = textwrap.dedent("""
            import os, signal, sys
            from dataclasses import replace
            from pathlib import Path
            from tests.quantize.training.test_loop import OPTIONS, TINY, CocoImages, AugmentedStream, new_model, train

            folder, output, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
            options = replace(OPTIONS, workers=workers)
            source = CocoImages.open(folder, folder / "annotations.json", TINY, options.augmentation)
            stream = AugmentedStream([source], options.iterations * options.batch, options.seed)

            def on_step(step, _):
                if step == 4:
                    os.kill(os.getpid(), signal.SIGKILL)

            train(new_model(), stream, output, options, on_step=on_step)
        """)
        command = [sys.executable, "-c", script, str(images), str(tmp_path / "parts"), str(workers)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        killed = subprocess.run(command, cwd=Path(__file__).parents[3], env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL
        rest, _ = run("parts", replace(OPTIONS, workers=workers), resume=True)
        assert rest == {step: numbers for step, numbers in whole.losses.items() if step >= 3}
        self.assert_same_results(tmp_path / "parts", whole.folder)

    @staticmethod
    def assert_same_results(parts: Path, whole: Path) -> None:
        assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        logs = [read_log(folder / "log.csv") for folder in (parts, whole)]
        without_seconds = [(header, [[row[0], *row[2:]] for row in rows]) for header, rows in logs]
        assert without_seconds[0] == without_seconds[1]


class TestStopping:
    @staticmethod
    def spoil(model: BlendMask) -> None:
        with torch.no_grad():
            model.top_layer.bias.fill_(torch.nan)

    def test_a_loss_that_is_no_number_names_the_iteration(self, run, tmp_path):
        kept: dict[str, bytes] = {}

        def after(step: int, model: BlendMask) -> None:
            if step == 4:
                kept["last"] = (tmp_path / "run/last.pt").read_bytes()
                self.spoil(model)

        with pytest.raises(DivergedError, match=r"nan at iteration 5: lower --learning-rate .* --resume"):
            run(after=after)
        assert (tmp_path / "run/last.pt").read_bytes() == kept["last"]
        assert not (tmp_path / "run/model.safetensors").exists()

    def test_it_names_the_images_of_the_step(self, run, images):
        source = CocoImages.open(images, images / "annotations.json", TINY, OPTIONS.augmentation)
        stream = AugmentedStream([source], 16, OPTIONS.seed)
        names = ", ".join(sorted({stream.name(10), stream.name(11)}))
        with pytest.raises(DivergedError, match=f"at iteration 5: .*the images of the step were {names}$"):
            run(after=lambda step, model: self.spoil(model) if step == 4 else None)

    @pytest.mark.slow
    def test_one_can_go_on_from_the_last_checkpoint(self, run):
        with pytest.raises(DivergedError):
            run(after=lambda step, model: self.spoil(model) if step == 4 else None)
        losses, _ = run(resume=True)
        assert sorted(losses) == [3, 4, 5, 6, 7]

    def test_a_gradient_that_is_no_number_spoils_neither_weights_nor_checkpoint(self, run, tmp_path):
        model = new_model()
        before: dict[str, Tensor] = {}

        def after(step: int, model: BlendMask) -> None:
            if step == 1:
                before.update(state_of(model))
                model.top_layer.bias.register_hook(lambda gradient: gradient * torch.inf)

        with pytest.raises(DivergedError, match=r"gradient .* at iteration 2"):
            run(model=model, after=after)
        assert torch.equal(model.top_layer.weight, before["top_layer.weight"])
        assert not (tmp_path / "run/last.pt").exists()

    def test_an_unfinished_run_is_not_overwritten(self, run, tmp_path):
        with pytest.raises(Interrupted):
            run(after=interrupt_after(4))
        log = (tmp_path / "run/log.csv").read_text()
        with pytest.raises(CheckpointError, match="unfinished run: go on with --resume, or remove it to start again"):
            run()
        assert (tmp_path / "run/log.csv").read_text() == log

    def test_another_network_cannot_go_on(self, run):
        with pytest.raises(Interrupted):
            run(after=interrupt_after(4))
        torch.manual_seed(0)
        other = BlendMask(replace(TINY, pyramid_width=32))
        with pytest.raises(CheckpointError, match=r"last\.pt belongs to another run, which has another network"):
            run(model=other, resume=True)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
    def test_a_damaged_checkpoint_is_named(self, run, tmp_path, content):
        (tmp_path / "run").mkdir()
        (tmp_path / "run/last.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"last\.pt"):
            run(resume=True)

    def test_so_is_one_without_its_parts(self, run, tmp_path):
        (tmp_path / "run").mkdir()
        torch.save({"iteration": 3}, tmp_path / "run/last.pt")
        with pytest.raises(CheckpointError, match=r"last\.pt"):
            run(resume=True)
