"""What goes wrong while images are loaded: damaged files, processes that end, memory that is too small."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blendmask_edge.errors import AnnotationError, ConfigError, ImageError
from blendmask_quantize import train
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.loading import LoadingError, batches
from blendmask_quantize.training.losses import LossOptions
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.samples import Sample
from blendmask_quantize.training.stream import AugmentedStream
from tests.quantize.images import PLAIN, some_images, write_images
from tests.quantize.tiny import TINY

OPTIONS = TrainOptions(
    iterations=4, batch=2, precision="32-true", workers=0, seed=5, augmentation=PLAIN,
    losses=LossOptions(mask_positives=16),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "data", some_images())
    return tmp_path / "data"


def damage(path: Path) -> None:
    """Spoil the pixels of a PNG, not its chunks."""
    content = path.read_bytes()
    path.write_bytes(content[:45] + bytes(len(content) - 61) + content[-16:])


def stream_of(folder: Path) -> AugmentedStream:
    source = CocoImages.open(folder, folder / "annotations.json", TINY, PLAIN)
    return AugmentedStream([source], OPTIONS.augmented_images, OPTIONS.seed)


class Broken:
    """A source whose images fail as they are told to."""

    def __init__(self, source: CocoImages, fail: Any) -> None:
        self.labels, self.presence, self.name, self.fail = source.labels, source.presence, source.name, fail

    def __len__(self) -> int:
        return len(self.presence)

    def sample(self, _: int, __: np.random.Generator) -> Sample:
        return self.fail()


def broken(folder: Path, fail: Any) -> AugmentedStream:
    source = CocoImages.open(folder, folder / "annotations.json", TINY, PLAIN)
    return AugmentedStream([Broken(source, fail)], OPTIONS.augmented_images, OPTIONS.seed)


class TestDamagedImages:
    def test_another_one_takes_their_place_and_they_are_named(
        self, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        damage(folder / "1.png")
        assert train(folder, folder / "annotations.json", tmp_path / "run", config=TINY, options=OPTIONS).is_file()
        assert "1.png" in caplog.text
        assert "Another image takes its place" in caplog.text

    def test_it_is_the_same_one_each_time(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        damage(folder / "1.png")
        first, second = (
            [stream[item].pixels for item in range(8)] for stream in (stream_of(folder), stream_of(folder))
        )
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert caplog.text.count("1.png") == 4

    @pytest.mark.parametrize("workers", [0, 1])
    def test_where_all_are_damaged_one_message_says_so(self, folder: Path, workers: int) -> None:
        stream = stream_of(folder)
        for path in folder.glob("*.png"):
            damage(path)
        with pytest.raises(ImageError, match=r"^[^\n]*\.png[^\n]*$"), caplog_off():
            next(batches(stream, replace(OPTIONS, workers=workers), 0, 0))


class caplog_off:
    """Without the warnings of each image."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)


class TestOtherProcesses:
    def test_their_errors_are_one_message(self, folder: Path) -> None:
        def fail() -> Sample:
            raise AnnotationError("a.png is 3 x 4 pixels, annotated as 4 x 3")

        with pytest.raises(AnnotationError, match=r"^a\.png is 3 x 4 pixels, annotated as 4 x 3$") as raised:
            next(batches(broken(folder, fail), replace(OPTIONS, workers=1), 0, 0))
        assert raised.tb is not None, "a traceback does not keep them"
        assert not active_children()

    def test_one_that_ends_is_one_message(self, folder: Path) -> None:
        def fail() -> Sample:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        with pytest.raises(LoadingError, match=r"go on with --resume and fewer --workers"):
            next(batches(broken(folder, fail), replace(OPTIONS, workers=1), 0, 0))

    def test_each_takes_its_share(self, folder: Path) -> None:
        options = replace(OPTIONS, devices=2)
        stream = stream_of(folder)
        shares = [[batch for _, batch in batches(stream, options, 1, rank)] for rank in (0, 1)]
        assert [len(share) for share in shares] == [3, 3]
        for step in range(1, 4):
            for rank in (0, 1):
                first = (step * 2 + rank) * 2
                wanted = torch.stack([stream[first].pixels, stream[first + 1].pixels])
                assert torch.equal(shares[rank][step - 1].pixels, wanted)


def test_a_device_that_is_too_small_is_one_message(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("blendmask_quantize.training.loop.step_losses", fail)
    with pytest.raises(ConfigError, match=r"a batch of 2 images of 64x96 does not fit .* smaller --batch or --crop"):
        train(folder, folder / "annotations.json", tmp_path / "run", config=TINY, options=OPTIONS)
