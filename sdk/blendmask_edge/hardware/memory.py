"""Peak memory of this process, which load of the machine does not change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5), clear_refs


def reset_peak() -> bool:
    """Let the peak begin with the memory in use now; return whether the system can."""
    try:
        _RESET.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return peak_megabytes() is not None


def peak_megabytes() -> Optional[float]:
    """Return the most resident memory since `reset_peak`, in MB; None where the system does not tell."""
    try:
        match = re.search(r"^VmHWM:\s*(\d+) kB", _STATUS.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return None if match is None else round(int(match[1]) * 1024 / 1e6, 2)
