"""The digest of a network's weights, by which a run knows what it was started from."""

from __future__ import annotations

import hashlib

from torch import nn


def network_digest(network: nn.Module) -> str:
    """Return the SHA-256 of the weights and statistics of a network on the CPU, and of their names."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()
