"""Machine record of the result files, the same as in baselines of the SDK."""

from __future__ import annotations

from typing import Any

import msgspec

from blendmask_edge.benchmark.machine import this_machine


def machine_record() -> dict[str, Any]:
    """The machine of a measurement; see `blendmask_edge.benchmark.machine.Machine`."""
    return dict(msgspec.to_builtins(this_machine()))
