"""Upper limits of a bundle: the reader checks them before it allocates, the writer before it writes."""

from __future__ import annotations

MAX_FILE_BYTES = 2**31 - 1
MAX_MEMBERS = 32
MAX_DIRECTORY_BYTES = 64 * 1024
MAX_MANIFEST_BYTES = 2 * 1024 * 1024
MAX_UNPACKED_BYTES = 2**32
MAX_RATIO = 10
"""Unpacked over packed bytes. Weights hardly pack; what unpacks to more takes longer to hash than one waits."""
RATIO_APPLIES_FROM = 8 * 1024 * 1024
