"""Digests of tensors and networks by what they hold."""

from __future__ import annotations

import hashlib

from torch import Tensor, nn


def network_digest(net: nn.Module) -> str:
    """Return the digest of a network's modules and of its state."""
    shape = hashlib.sha256(repr(net).encode()).hexdigest()[:8]
    return f"{tensor_digest(*net.state_dict().values())}-{shape}"


def tensor_digest(*tensors: Tensor) -> str:
    """Return the digest of the shapes and values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
