"""Devices: what each can do, whether a bundle runs there."""

from __future__ import annotations

from blendmask_edge.devices.check import check
from blendmask_edge.devices.table import Cell, Table, Target, load_table
from blendmask_edge.devices.verdict import CheckOptions, Reason, Route, Verdict

__all__ = ["Cell", "CheckOptions", "Reason", "Route", "Table", "Target", "Verdict", "check", "load_table"]
