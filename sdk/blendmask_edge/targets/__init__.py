"""Devices: what each can do, whether a bundle runs there, and engines compiled for them."""

from __future__ import annotations

from blendmask_edge.targets.check import check
from blendmask_edge.targets.table import Cell, Table, Target, load_table
from blendmask_edge.targets.verdict import CheckOptions, Reason, Route, Verdict

__all__ = ["Cell", "CheckOptions", "Reason", "Route", "Table", "Target", "Verdict", "check", "load_table"]
