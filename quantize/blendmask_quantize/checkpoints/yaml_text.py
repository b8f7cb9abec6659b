"""YAML from outside, in bounded time: a kilobyte of merge keys would take forever, and so would nested brackets."""

from __future__ import annotations

from typing import Any

MOST_BYTES = 2**17
_MOST_MERGED = 10_000
"""Entries of a mapping after its merge keys."""


def decode_yaml(data: bytes) -> Any:
    """Return what YAML text holds: scalars, lists and mappings, nothing that runs code.

    Raises:
        ImportError: PyYAML is not installed.
        ValueError: it is not YAML, nests too deeply, or merges too much; the text says which, in one line.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """The library's own reader in Python, which the depth of recursion bounds."""

        def flatten_mapping(self, node: Any) -> None:
            super().flatten_mapping(node)
            if len(node.value) > _MOST_MERGED:
                raise ValueError(f"merge keys make a mapping of more than {_MOST_MERGED} entries")

    try:
        return yaml.load(data, Loader)  # a safe loader
    except RecursionError as error:
        raise ValueError("it nests lists or mappings too deeply") from error
    except (yaml.YAMLError, OverflowError, AttributeError, TypeError) as error:
        raise ValueError(" ".join((str(error) or type(error).__name__).split())[:200]) from error
