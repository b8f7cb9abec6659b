"""Time every graph, runtime and network in turn, in one process; a row that failed says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.lib.limits import gemm_probes, gemm_rate, timed
from bench.lib.machine import machine_record
from bench.lib.progress import stage
from bench.lib.sessions import RUNTIMES, RunGraph, open_graph
from bench.peers.accuracy import one_line
from bench.peers.graphs import FLOAT, Graphs, compared, run_in_torch
from bench.peers.mask_rcnn import mask_rcnn_frame
from bench.peers.packages import package
from bench.peers.predictor import graph_predictor
from bench.peers.yolo import PRECISIONS, open_peer
from blendmask_edge import BlendMaskError
from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times
from blendmask_edge.hardware.timing import WARM_UP, read_in_turn

Row = dict[str, Any]
YOLO = ("yolo11n-seg", "yolo11s-seg", "yolo26n-seg", "yolo26s-seg")
INSTANCES = 10
_BF16 = {"avx512_bf16", "amx_bf16"}


class UnsupportedError(BlendMaskError):
    """The processor lacks what a row is about."""


@dataclass
class Subject:
    """The timed graphs.

    Attributes:
        milliseconds: of one frame.
        facts: further columns of its row.
    """

    milliseconds: Callable[[], float]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """How speed is measured.

    Attributes:
        graphs: of the shipped network.
        images: (480, 640, 3) uint8 RGB; the first is timed, and YOLO takes ranges from all.
        threads: of every runtime.
        rounds: frames of each.
    """

    graphs: Graphs
    images: list[NDArray[np.uint8]]
    threads: int
    rounds: int

    def rows(self) -> list[Row]:
        """A row of each subject, and the limits of the machine."""
        torch.set_num_threads(self.threads)
        subjects, failed = self._opened()
        probes = {
            (runtime, macs): partial(_run, run, given)
            for runtime in RUNTIMES
            for macs, run, given in gemm_probes(runtime, self.threads)
        }
        read: dict[Any, Callable[[int], float]] = {name: partial(_call, each) for name, each in subjects.items()}
        before, step = read_cpu_times(), stage("rounds", self.rounds + 1)
        times = read_in_turn(read | probes, _announced(range(WARM_UP, self.rounds), step))
        shared = {"frames": self.rounds, "other_work": int(bool(other_work(before, read_cpu_times())))}
        rows: list[Row] = [
            {"name": name, **_percentiles(times[name]), **each.facts, **shared} for name, each in subjects.items()
        ]
        return rows + failed + [row | shared for row in _limits({key: times[key] for key in probes})]

    def prepare(self) -> list[Row]:
        """Make whatever takes long, so that `rows` has only to measure; no rows."""
        self._opened()
        return []

    def _opened(self) -> tuple[dict[str, Subject], list[Row]]:
        """The graphs that can be timed, each run once, and rows of those that cannot."""
        subjects: dict[str, Subject] = {}
        failed: list[Row] = []
        for name, make in self._makers():
            print(f"opening {name}", flush=True)
            try:
                subject = make()
                subject.milliseconds()
            except Exception as error:  # whatever a tool or a runtime says is the result
                failed.append({"name": name, "error": one_line(error)})
            else:
                subjects[name] = subject
        return subjects, failed

    def _makers(self) -> Iterator[tuple[str, Callable[[], Subject]]]:
        yield "blendmask/pytorch/float", lambda: self._frame(run_in_torch(self.graphs.module))
        yield "blendmask/torch-compile/float", lambda: self._frame(run_in_torch(torch.compile(self.graphs.module)))
        for runtime in RUNTIMES:
            yield f"blendmask/{runtime}/float", partial(self._graph, FLOAT, runtime)
        yield "blendmask/openvino/bf16", lambda: self._with_bf16(partial(self._graph, FLOAT, "openvino-bf16"))
        for name in compared()[1:]:
            for runtime in RUNTIMES:
                yield f"{name}/{runtime}/int8", partial(self._graph, name, runtime)
        for name in YOLO:
            for precision in PRECISIONS:
                yield f"{name}/openvino/{precision}", partial(self._yolo, name, precision)
        yield "mask-rcnn/pytorch/float", self._mask_rcnn

    def _graph(self, name: str, runtime: str) -> Subject:
        return self._frame(open_graph(runtime, self.graphs.read(name), self.threads))

    def _frame(self, run: RunGraph) -> Subject:
        """Image in, masks out as crops, at a threshold that ten instances pass."""
        scores = np.sort(graph_predictor(run, self.graphs.form)(self.images[0]).scores)[::-1]
        threshold = float(scores[INSTANCES - 1 : INSTANCES + 1].mean()) if len(scores) > INSTANCES else 0.0
        predictor = graph_predictor(run, self.graphs.form, threshold)

        def milliseconds() -> float:
            start = time.perf_counter()
            predictor(self.images[0]).crops()
            return 1000 * (time.perf_counter() - start)

        return Subject(milliseconds, {"instances": len(predictor(self.images[0]))})

    def _yolo(self, name: str, precision: str) -> Subject:
        run = partial(
            open_peer, precision, name, self.graphs.form.size, self.images, self.threads, self.graphs.folder / "yolo"
        )
        package("ultralytics")
        return self._with_bf16(lambda: Subject(run())) if precision == "bf16" else Subject(run())

    def _mask_rcnn(self) -> Subject:
        image = torch.from_numpy(self.images[0]).permute(2, 0, 1).float() / 255
        frame = mask_rcnn_frame(image, INSTANCES)

        def milliseconds() -> float:
            start = time.perf_counter()
            frame()
            return 1000 * (time.perf_counter() - start)

        return Subject(milliseconds, {"instances": frame()})

    def _with_bf16(self, make: Callable[[], Subject]) -> Subject:
        """The graphs in bf16, where the processor has it; elsewhere OpenVINO would silently take float32."""
        if not _BF16 & set(processor_flags()):
            raise UnsupportedError("the processor has no bf16 instructions, so OpenVINO would take float32")
        return make()


def processor_flags() -> list[str]:
    """Features of the processor, the few of the machine record and those of bf16."""
    listed = Path("/proc/cpuinfo")
    text = listed.read_text(encoding="utf-8") if listed.is_file() else ""
    return [*machine_record()["flags"], *sorted(flag for flag in _BF16 if flag in text)]


def _limits(times: Mapping[tuple[str, int], list[float]]) -> list[Row]:
    rows = []
    for runtime in RUNTIMES:
        rate = gemm_rate({macs: each for (of, macs), each in times.items() if of == runtime})
        rows.append({"name": f"gemm/{runtime}/int8", "gemm_gmacs_per_second": _rounded(rate / 1e6)})
    return rows


def _announced(turns: range, on_turn: Callable[[], None]) -> Iterator[int]:
    for turn in turns:
        yield turn
        on_turn()


def _call(subject: Subject, _: int) -> float:
    return subject.milliseconds()


def _run(run: RunGraph, given: Any, _: int) -> float:
    return timed(run, given)


def _percentiles(times: list[float]) -> dict[str, float]:
    return {f"latency_p{share}_ms": _rounded(np.percentile(times, share)) for share in (50, 90, 99)}


def _rounded(value: Any) -> float:
    return float(f"{float(value):.4g}")
