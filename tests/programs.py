"""Programs in docstrings."""

from __future__ import annotations

import textwrap
from types import ModuleType


def run_docstring(module: ModuleType) -> None:
    """Run the indented lines of a package's docstring, which are ten at most, as somebody who pastes them would."""
    lines = (module.__doc__ or "").splitlines()
    program = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line)).strip()
    assert 1 < len([line for line in program.splitlines() if line]) <= 10
    exec(compile(program, f"docstring of {module.__name__}", "exec"), {})
