"""Spellings of an earlier release, which go on working, hidden, for one more."""

from __future__ import annotations

from typing import Dict, List

OPTIONS = {
    "--flavour": "--variant",
    "--licence": "--license",
    "--objects": "--instances",
    "--balance": "--repeat-threshold",
    "--emphasis": "--class-weight",
    "--trunk-rate": "--backbone-rate",
    "--hosts": "--nodes",
    "--view": "--crop",
}
VALUES: Dict[str, Dict[str, str]] = {
    "--allow": {
        "colourless-images": "colorless-images",
        "lost-objects": "missed-instances",
        "invented-objects": "spurious-instances",
    },
    "--steps": {
        "equalise": "cross_layer_equalization",
        "descent": "coordinate_descent",
        "bias": "bias_correction",
    },
}
"""Renamed values by the option they follow; several are separated by commas."""


def respell(words: List[str]) -> List[str]:
    """Return a command line in today's spelling: names of options, and values after the options of `VALUES`.

    What follows `--` and every other argument stay as they are, so that a file may have any name.
    """
    respelled: List[str] = []
    values: Dict[str, str] = {}
    for position, word in enumerate(words):
        if word == "--":
            return respelled + words[position:]
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            respelled.append(_respell_values(word, values))
        else:
            name = OPTIONS.get(name, name)
            respelled.append(name + equals + _respell_values(value, VALUES.get(name, {})))
        values = {} if equals else VALUES.get(name, {})
    return respelled


def _respell_values(text: str, renamed: Dict[str, str]) -> str:
    return ",".join(renamed.get(value, value) for value in text.split(","))
