"""Work on a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib.metadata
import pickle
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, Tuple

from blendmask_edge.errors import BlendMaskError, DependencyError, WorkerError, install_command
from blendmask_edge.execution.worker import check_node, process_payload

if TYPE_CHECKING:
    from blendmask_edge.execution.work import Shard, Work

AHEAD = 2
"""Shards in flight for each worker."""
_RETRIES = 3
_REACH_SECONDS = 5
_CONNECT_SECONDS = 120
_NAMED_ADDRESSES = ("auto", "local")
_PROBE = (
    "import sys, ray; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False); ray.nodes(); "
    "ray.shutdown()"
)


class RayExecutor:
    """Do shards as tasks of a Ray cluster, which repeats those whose worker or node dies.

    Args:
        address: "HOST:PORT" of the head of a cluster that this machine belongs to, "auto" for the cluster started
            here, or "local" to start one of this machine alone.
        threads: processor cores of a task.
    """

    def __init__(self, address: str, threads: int = 1) -> None:
        self.address, self.threads = address, threads

    def check(self) -> None:
        """See before long work that Ray is installed, and that something answers at the address.

        Raises:
            DependencyError, WorkerError: it is not so.
        """
        _import_ray()
        if self.address not in _NAMED_ADDRESSES:
            _reach(self.address)

    def run(self, work: Work, shards: Iterable[Shard]) -> Iterator[Tuple[Shard, bytes]]:
        """Yield the result of each shard, in the order in which they finish.

        Raises:
            DependencyError: Ray is not installed.
            WorkerError: the cluster does not answer, has another version of Ray or Python, lacks cores, or a node lacks
                this package or a file; or workers die repeatedly.
        """
        self.check()
        ray = _import_ray()
        with _connected(ray, self.address), _explained(ray):
            workers = self._workers(ray)
            _check_nodes(ray, work)
            yield from self._run(ray, work, iter(shards), AHEAD * workers)

    def _run(self, ray: Any, work: Work, shards: Iterator[Shard], most: int) -> Iterator[Tuple[Shard, bytes]]:
        task = ray.remote(num_cpus=self.threads, max_retries=_RETRIES)(process_payload)
        opener = ray.put(pickle.dumps(work.opener))
        running: Dict[Any, Shard] = {}
        while True:
            while len(running) < most:
                shard = next(shards, None)
                if shard is None:
                    break
                running[task.remote(opener, work.payload(shard.items))] = shard
            if not running:
                return
            (finished,), _ = ray.wait(list(running), num_returns=1)
            shard = running.pop(finished)
            try:
                result = ray.get(finished)
            except ray.exceptions.WorkerCrashedError as error:
                raise WorkerError(
                    f"A worker of the Ray cluster died {_RETRIES + 1} times at {work.describe(shard.items)}. If memory "
                    "ran out, start Ray with fewer --num-cpus; otherwise look for the image that crashes the runtime, "
                    "and leave it out."
                ) from error
            yield shard, result

    def _workers(self, ray: Any) -> int:
        """Return how many tasks run at the same time."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        workers = sum(int(node["Resources"].get("CPU", 0)) // self.threads for node in nodes)
        if not workers:
            raise WorkerError(
                f"No node of the Ray cluster {self.address} has {self.threads} cores, as many as --threads asks for. "
                "Use fewer --threads, or start Ray with more --num-cpus."
            )
        return workers


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise DependencyError(f"--ray needs Ray, which is not installed. Type: {install_command('ray')}") from error
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Connect to a cluster during a block."""
    if address != "local":
        _probe(address)
    ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """See that something listens at an address: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if (
        not host
        or "/" in host
        or not (port.isascii() and port.isdigit() and len(port) < 6)
        or not 0 < int(port) < 2**16
    ):
        raise WorkerError(
            f'{address!r} is not an address of a Ray cluster. Give HOST:PORT of its head, e.g. 10.0.0.1:6379, "auto" '
            'for the cluster of this machine, or "local" to start one.'
        )
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except OSError as error:
        raise WorkerError(
            f"The Ray cluster at {address} does not answer ({error.strerror or error}). See that its head runs, by "
            "`ray status` there, and that this machine reaches it."
        ) from error


def _probe(address: str) -> None:
    """Connect in a process of its own, since Ray may wait without end, or end the process, where it cannot connect."""
    command = [sys.executable, "-c", _PROBE, address]
    try:
        probed = subprocess.run(command, capture_output=True, text=True, timeout=_CONNECT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise WorkerError(
            f"The Ray cluster at {address} gave no answer within {_CONNECT_SECONDS} seconds. See that the address is "
            "that of its head, and that this machine belongs to it (`ray start --address=HOST:PORT`)."
        ) from error
    if probed.returncode:
        raise WorkerError(
            f"Cannot use the Ray cluster at {address}: {_reason(probed.stderr)} This machine must belong to a running "
            "cluster (`ray start`), with the same versions of Ray and Python."
        )


def _reason(printed: str) -> str:
    """Return what an error that was printed says, without the traceback."""
    lines = [line.strip() for line in printed.strip().splitlines()]
    starts = [place for place, line in enumerate(lines) if line.split(":")[0].endswith(("Error", "Exception"))]
    words = " ".join(lines[starts[-1] :] if starts else lines[-1:]) or "Ray ended without a message."
    return words.partition(": ")[2] or words


@contextlib.contextmanager
def _explained(ray: Any) -> Iterator[None]:
    """Turn errors of Ray into ours; an error of the work comes back as it was raised in the worker.

    Raises:
        WorkerError: workers died or cannot run the work.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BlendMaskError):
            raise error.cause from None
        raise WorkerError(_unable(_last_line(error))) from error
    except ray.exceptions.RayError as error:
        raise WorkerError(_unable(_last_line(error))) from error


def _check_nodes(ray: Any, work: Work) -> None:
    """See that every node has this package and sees the files."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    check = ray.remote(num_cpus=0, max_retries=0)(check_node)
    version, checks = importlib.metadata.version("blendmask-edge"), []
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0):
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            checks.append(check.options(scheduling_strategy=strategy).remote(version, work.needs))
    try:
        ray.get(checks, timeout=_CONNECT_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise WorkerError(
            f"Nodes of the Ray cluster started no worker within {_CONNECT_SECONDS} seconds. Look at `ray status`."
        ) from error


def _unable(reason: str) -> str:
    return (
        f"A worker of the Ray cluster cannot do the work: {reason} Every node needs blendmask-edge with the same "
        "extras, as here."
    )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"{(lines or [type(error).__name__])[-1].rstrip('.')[:300]}."
