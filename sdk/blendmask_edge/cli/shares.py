"""Read a share that somebody typed, such as 1% or 0.01."""

from __future__ import annotations

from blendmask_edge.errors import ConfigError


def parse_share(option: str, text: str) -> float:
    """Return a share, 0 to 1.

    Args:
        option: name of the option, for the message.
        text: "1%", or "0.01".

    Raises:
        ConfigError: it is neither, or ambiguous: a bare 1 may be meant as a percentage.
    """
    bare = text.strip()
    try:
        value = float(bare[:-1]) / 100 if bare.endswith("%") else float(bare)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1 or (value == 1 and not bare.endswith("%")):
        raise ConfigError(f"{option} is {text!r}, expected a share such as 1% or 0.01.")
    return value
