"""A run goes on only as the run it is; what is finished, damaged, lost or foreign is said in one sentence."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from blendmask_edge.errors import CheckpointError, OutputError
from blendmask_edge.storage import atomic
from blendmask_quantize import train
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from blendmask_quantize.training.losses import LossOptions
from blendmask_quantize.training.options import TrainOptions
from tests.quantize.images import PLAIN, some_images, write_images
from tests.quantize.tiny import LABELS, TINY, tiny_model

OPTIONS = TrainOptions(
    iterations=4, batch=2, learning_rate=3e-3, warmup=1, ema=0.5, precision="32-true", workers=0, save_every=2, seed=5,
    augmentation=PLAIN, losses=LossOptions(mask_positives=16),
)  # fmt: skip


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def stop_after(last: int) -> Callable[[str, int], Callable[[], None]]:
    """A progress that ends the run after some steps."""

    def stage(_name: str, _total: int) -> Callable[[], None]:
        done = iter(range(last))
        return lambda: None if next(done, None) is not None else interrupt()

    def interrupt() -> None:
        raise Interrupted

    return stage


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_images(tmp_path / "data", some_images())
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train by the public function; keywords are passed on."""

    def run(folder: str = "run", **others: Any) -> Path:
        given = {"config": TINY, "options": OPTIONS, **others}
        return train(data, data / "annotations.json", tmp_path / folder, **given)

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, and one that was stopped in its third step, after the state of two was saved."""
    folder = tmp_path_factory.mktemp("made")
    write_images(folder / "data", some_images())
    given = (folder / "data", folder / "data/annotations.json")
    train(*given, folder / "finished", config=TINY, options=OPTIONS)
    with pytest.raises(Interrupted):
        train(*given, folder / "begun", config=TINY, options=OPTIONS, progress=stop_after(2))
    return folder


@pytest.fixture
def begun(made: Path, tmp_path: Path) -> Path:
    """A copy of the folder of the run that was stopped, where `run` takes it."""
    return Path(shutil.copytree(made / "begun", tmp_path / "run"))


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(run: Callable[..., Path], folder: Path, message: str, **others: Any) -> None:
    before = state_of(folder)
    with pytest.raises(CheckpointError, match=message):
        run(resume=True, **others)
    assert state_of(folder) == before


class TestGoingOn:
    @pytest.mark.usefixtures("begun")
    def test_it_ends_as_a_run_that_was_not_stopped(self, run, made):
        assert run(resume=True).read_bytes() == (made / "finished/model.safetensors").read_bytes()

    @pytest.mark.usefixtures("begun")
    def test_a_lower_learning_rate_is_taken(self, run):
        assert run(resume=True, options=replace(OPTIONS, learning_rate=1e-3)).is_file()

    @pytest.mark.slow
    @pytest.mark.usefixtures("begun")
    def test_options_without_effect_may_change(self, run):
        assert run(resume=True, options=replace(OPTIONS, save_every=1)).is_file()

    @pytest.mark.slow
    def test_without_a_log_it_goes_on_and_keeps_the_seconds(self, run, begun):
        state = torch.load(begun / "last.pt", weights_only=True)
        torch.save({**state, "seconds": 7200.0}, begun / "last.pt")
        (begun / "log.csv").unlink()
        assert load_checkpoint(run(resume=True)).training[0].hours == 2.0
        assert [line.split(",")[0] for line in (begun / "log.csv").read_text().splitlines()] == ["iteration", "2", "3"]

    @pytest.mark.slow
    def test_without_a_log_after_the_last_step(self, run, begun, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr("blendmask_quantize.training.loop.save_checkpoint", lambda *_, **__: stop_after(0)("", 0)())
            with pytest.raises(Interrupted):
                run(resume=True)
        (begun / "log.csv").unlink()
        assert run(resume=True).is_file()

    @pytest.mark.slow
    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n1,2\n", b"iteration,seconds\nx,y\n"])
    def test_a_damaged_log_does_no_harm(self, run, begun, content):
        (begun / "log.csv").write_bytes(content)
        assert run(resume=True).is_file()

    def test_nothing_to_resume_is_a_new_run(self, run):
        assert run(resume=True).is_file()

    @pytest.mark.slow
    def test_a_run_that_was_stopped_before_its_first_state_starts_again(self, run, tmp_path):
        with pytest.raises(Interrupted):
            run(progress=stop_after(0))
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run/run.json").write_text(
            json.dumps({"command": "blendmask train", "settings": {}, "save_every": 2})
        )
        assert run(resume=True).is_file()

    def test_what_a_killed_process_was_writing_is_removed(self, run, begun):
        (begun / ".last.pt.0123abcd.part").touch()
        run(resume=True)
        assert not list(begun.glob("*.part"))

    def test_a_user_who_stops_it_is_told_how_to_go_on(self, run, caplog):
        def stage(_: str, __: int) -> Callable[[], None]:
            done = iter(range(2))
            return lambda: None if next(done, None) is not None else interrupt()

        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(progress=stage)
        assert "go on with --resume" in caplog.text


class TestAnotherRun:
    @pytest.mark.parametrize(
        "change, message",
        [
            ({"seed": 6}, "seed 5 instead of 6"),
            ({"iterations": 8}, "iterations 4 instead of 8"),
            ({"batch": 4}, "batch 2 instead of 4"),
            ({"optimizer": "sgd"}, "optimizer adamw instead of sgd"),
            ({"frozen_norms": True}, "frozen_norms off instead of on"),
            ({"frozen_stages": 0}, "frozen_stages none instead of 0"),
            ({"augmentation": replace(PLAIN, flip=0.5)}, r"augmentation\.flip 0\.0 instead of 0\.5"),
            ({"losses": LossOptions(dice_weight=0.5)}, r"losses\.mask_positives 16 instead of none, .*dice_weight 0"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
    )
    def test_other_options_are_refused(self, run, begun, change, message):
        refused(run, begun, f"holds a run with {message}.*: resume it with", options=replace(OPTIONS, **change))

    def test_other_annotations_are_refused(self, run, begun, data):
        content = json.loads((data / "annotations.json").read_text())
        content["annotations"] = content["annotations"][::-1]
        (data / "annotations.json").write_text(json.dumps(content))
        refused(run, begun, "a run with another annotation file: resume")

    def test_other_classes_are_refused(self, run, begun, data):
        text = (data / "annotations.json").read_text().replace('"cup"', '"mug"')
        (data / "annotations.json").write_text(text)
        refused(run, begun, "another annotation file, another set of classes: resume")

    def test_other_images_are_refused(self, run, begun, data):
        cv2.imwrite(str(data / "0.png"), np.zeros((64, 96, 3), np.uint8))
        refused(run, begun, "a run with another image folder: resume")

    def test_another_network_is_refused(self, run, begun):
        refused(
            run, begun, "config TINY instead of WIDE, another arch", config=replace(TINY, name="WIDE", pyramid_width=32)
        )

    def test_other_weights_are_refused(self, run, begun, tmp_path):
        save_checkpoint(tmp_path / "a.safetensors", tiny_model(), LABELS)
        refused(run, begun, "another checkpoint: resume", weights=tmp_path / "a.safetensors")

    def test_a_run_that_does_not_say_what_it_is(self, run, begun):
        (begun / "run.json").unlink()
        refused(run, begun, r"no run\.json that says what it was started with: remove the folder, or name another")


class TestFinishedAndDamaged:
    @pytest.mark.parametrize("resume", [False, True])
    def test_a_finished_run_is_called_finished(self, run, made, tmp_path, resume):
        shutil.copytree(made / "finished", tmp_path / "run")
        before = state_of(tmp_path / "run")
        assert sorted(before) == ["log.csv", "model.safetensors", "run.json"]
        with pytest.raises(
            CheckpointError, match=r"holds a finished run: name another --output; .* --weights .*/model"
        ):
            run(resume=resume)
        assert state_of(tmp_path / "run") == before

    def test_an_unfinished_run_is_not_overwritten(self, run, begun):
        before = state_of(begun)
        with pytest.raises(CheckpointError, match="unfinished run: go on with --resume, or remove it to start again"):
            run()
        assert state_of(begun) == before

    @pytest.mark.usefixtures("begun")
    def test_both_are_said_before_the_data_are_read(self, run, monkeypatch):
        monkeypatch.setattr("blendmask_quantize.training.labeled_images.open_document", lambda _: pytest.fail("read"))
        with pytest.raises(CheckpointError, match="unfinished"):
            run()

    @pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04broken"])
    def test_a_damaged_state_is_one_message(self, run, begun, content):
        (begun / "last.pt").write_bytes(content)
        refused(run, begun, r"last\.pt, the state to go on from, cannot be read .*: put back a copy of it, or remove")

    @pytest.mark.parametrize("content", [{}, {"iteration": 2}, {"iteration": "x"}, [1, 2]])
    def test_a_state_without_its_parts_is_one_message(self, run, begun, content):
        torch.save(content, begun / "last.pt")
        refused(run, begun, r"last\.pt")

    def test_a_lost_state_is_one_message(self, run, begun):
        (begun / "last.pt").unlink()
        refused(
            run, begun, r"last\.pt, .* is missing, although log\.csv has 3 steps: put it back, or start again without"
        )

    def test_one_can_start_again_without_it(self, run, begun):
        (begun / "last.pt").unlink()
        assert run().is_file()

    def test_a_folder_with_other_files_can_be_used(self, run, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run/notes.txt").touch()
        run()
        assert (tmp_path / "run/notes.txt").exists()

    def test_a_copied_folder_goes_on(self, run, begun, tmp_path):
        shutil.copytree(begun, tmp_path / "copy")
        assert run("copy", resume=True).is_file()


class FullDisk(io.BytesIO):
    """A file on a disk with room for a few kilobytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 4096:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_disk_that_fills_up_with_the_state_is_one_message(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch raises an error of its own there, which names neither the file nor the reason."""
    becoming = atomic.becoming

    @contextlib.contextmanager
    def full(name: str, *rest: Any) -> Iterator[Any]:
        with becoming(name, *rest) as stream:
            yield FullDisk() if name.endswith("last.pt") else stream

    monkeypatch.setattr(atomic, "becoming", full)
    with pytest.raises(OutputError, match=r"Cannot write .*last\.pt: No space left on device.*has room"):
        run()
