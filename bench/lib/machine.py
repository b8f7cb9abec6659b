"""The machine record of the result files: the SDK's own, which its baselines carry too."""

from __future__ import annotations

from typing import Any

import msgspec

from blendmask_edge.benchmark.machine import this_machine


def machine_record() -> dict[str, Any]:
    """What a measurement was made on; see `blendmask_edge.benchmark.machine.Machine`."""
    return dict(msgspec.to_builtins(this_machine()))
