"""The reference workload and the machine record."""

from __future__ import annotations

import json
import platform
import threading

import pytest

from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.benchmark.reference import Reference


@pytest.mark.parametrize("threads", [1, 3])
def test_reference_runs_again_and_again_and_leaves_no_thread(threads: int) -> None:
    before = threading.active_count()
    with Reference(threads) as reference:
        reference()
        reference()
        assert threading.active_count() <= before + threads - 1
    assert threading.active_count() == before


def test_machine_record_tells_hardware_and_versions_and_names_no_machine() -> None:
    import msgspec

    machine = this_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.packages["numpy"]
    assert platform.node() not in json.dumps(msgspec.to_builtins(machine))
    assert machine.difference(machine) == []
