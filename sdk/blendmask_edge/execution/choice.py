"""Choose where work is done by what the user asks for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional

from blendmask_edge.arguments.values import is_integer
from blendmask_edge.errors import ConfigError
from blendmask_edge.execution.processes import ProcessExecutor
from blendmask_edge.execution.serial import SerialExecutor

if TYPE_CHECKING:
    from blendmask_edge.execution.work import Executor

MOST_PROCESSES = 256


def choose_executor(processes: int = 1, ray: Optional[str] = None, threads: Optional[int] = None) -> Executor:
    """Return where work is done.

    Args:
        processes: number of processes on this machine, 1 to 256.
        ray: address of a Ray cluster instead; None for none.
        threads: processor cores of each task on a cluster; None for 1.

    Raises:
        ConfigError: an argument has a wrong type or is out of range, or both are given.
        DependencyError: Ray is not installed.
        WorkerError: nothing answers at the address.
    """
    if not is_integer(processes, 1, MOST_PROCESSES):
        raise ConfigError(f"processes is {processes!r}, expected a whole number from 1 to {MOST_PROCESSES}.")
    if ray is not None and not (isinstance(ray, str) and ray):
        raise ConfigError(f'ray is {ray!r}, expected the address of a Ray cluster, e.g. "auto" or "10.0.0.1:6379".')
    if ray is not None and processes > 1:
        raise ConfigError("processes and ray are two ways to do the same work: give --processes, or --ray")
    if ray is not None:
        from blendmask_edge.execution.ray_cluster import RayExecutor

        cluster = RayExecutor(ray, threads or 1)
        cluster.check()
        return cluster
    return ProcessExecutor(processes) if processes > 1 else SerialExecutor()


def worker_threads(processes: int, ray: Optional[str], threads: Optional[int]) -> Optional[int]:
    """Return the threads of each worker: as asked for, else its share of the cores; None leaves one process to choose.

    Args:
        processes, ray: as for `choose_executor`.
        threads: asked for; None for no wish.
    """
    if threads is not None:
        return threads
    if ray is not None:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes) if processes > 1 else None
