"""Devices: what each can do, whether a bundle runs there."""

from __future__ import annotations

from blendmask_edge.devices.check import check, check_bundle
from blendmask_edge.devices.result import CheckOptions, CheckResult, Reason, Route
from blendmask_edge.devices.table import Table, Target, load_table
from blendmask_edge.hardware.facts import Fact

__all__ = [
    "CheckOptions",
    "CheckResult",
    "Fact",
    "Reason",
    "Route",
    "Table",
    "Target",
    "check",
    "check_bundle",
    "load_table",
]
