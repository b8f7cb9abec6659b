"""Architectures of NVIDIA GPUs by compute capability. The data lies in `architectures.json` beside this."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import List, Literal, Optional

import msgspec

from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.hardware.facts import Fact

Precision = Literal["int8", "fp16", "fp32"]
_DATA = Path(__file__).with_name("architectures.json")


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Capabilities of the GPUs of one compute capability (`sm`, "8.7").

    fp16: "slow", "native" or "tensor cores"; fp16_rate: against FP32; int8: "none", "dp4a" or "tensor cores";
    sparsity: 2:4 structured weights.
    """

    sm: str
    fp16: Fact[Literal["slow", "native", "tensor cores"]]
    fp16_rate: Optional[Fact[str]] = None
    int8: Fact[Literal["none", "dp4a", "tensor cores"]]
    bf16: Fact[bool]
    fp8: Fact[bool]
    fp4: Optional[Fact[bool]] = None
    sparsity: Fact[bool]


@functools.lru_cache(maxsize=None)
def load_architectures() -> List[Architecture]:
    """Read the architectures that come with this package."""
    return msgspec.json.decode(_DATA.read_bytes(), type=List[Architecture])


def architecture_of(gpu: Gpu) -> Architecture:
    """Return the architecture of a GPU.

    Raises:
        ConfigError: it is not in the table.
    """
    rows = load_architectures()
    for row in rows:
        if row.sm == gpu.sm:
            return row
    known = ", ".join(row.sm for row in rows)
    raise ConfigError(f"The table knows nothing of {gpu.name}, SM {gpu.sm}; it knows SM {known}.")
