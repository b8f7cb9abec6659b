"""Batches of a run, loaded and augmented ahead by other processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from blendmask_edge.errors import BlendMaskError
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.samples import Batch, Sample, collate
from blendmask_quantize.training.stream import AugmentedStream


class LoadingError(BlendMaskError):
    """The processes that load images ended. Use fewer, and resume."""


def batches(stream: AugmentedStream, options: TrainOptions, start: int, rank: int) -> Iterator[tuple[int, Batch]]:
    """Yield the steps from `start` on, each with this process's share of its images.

    Args:
        stream: the augmented images of the whole run.
        options: the schedule.
        start: the first step.
        rank: of this process among those that train together.

    Raises:
        BlendMaskError: as `AugmentedStream` raises it, also in another process.
        LoadingError: a process ended.
    """
    loader = DataLoader(
        _Guarded(stream), batch_sampler=_Share(options, start, rank), num_workers=options.workers,
        collate_fn=_collate, worker_init_fn=_single_threaded,
    )  # fmt: skip
    loaded = iter(loader)
    try:
        for step in range(start, options.iterations):
            try:
                batch = next(loaded)
            except RuntimeError as error:
                raise _ended(error) from error
            if isinstance(batch, BlendMaskError):
                raise batch
            yield step, batch
    finally:
        del loaded  # the traceback of an error would keep it, and the processes with it


def _ended(error: RuntimeError) -> LoadingError:
    return LoadingError(
        f"a process that loads images ended ({str(error).splitlines()[0][:200]}): it may be out of memory, or "
        "of shared memory (/dev/shm); go on with --resume and fewer --workers, 0 at the least"
    )


class _Share(Sampler[list[int]]):
    """Items of each step that belong to a process."""

    def __init__(self, options: TrainOptions, start: int, rank: int) -> None:
        self._options, self._start, self._rank = options, start, rank

    def __len__(self) -> int:
        return self._options.iterations - self._start

    def __iter__(self) -> Iterator[list[int]]:
        batch, processes = self._options.batch, self._options.processes
        for step in range(self._start, self._options.iterations):
            first = (step * processes + self._rank) * batch
            yield list(range(first, first + batch))


class _Guarded(Dataset[Sample | BlendMaskError]):
    """Returns errors that users can mend, which torch would wrap in the traceback of another process."""

    def __init__(self, stream: AugmentedStream) -> None:
        self._stream = stream

    def __getitem__(self, item: int) -> Sample | BlendMaskError:
        try:
            return self._stream[item]
        except BlendMaskError as error:
            return error


def _collate(samples: Sequence[Sample | BlendMaskError]) -> Batch | BlendMaskError:
    whole = []
    for sample in samples:
        if isinstance(sample, BlendMaskError):
            return sample
        whole.append(sample)
    return collate(whole)


def _single_threaded(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
