"""A pass touches tensors of its own device only, and reads none of them on the host.

A CUDA graph can hold neither a tensor of the host nor a wait for a value. The device here is
PyTorch's 'meta', which has no values: whatever wants to read one raises.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adaqat_hw import nets
from adaqat_hw.quant import probing, quantize
from adaqat_hw.schema import NetworkConfig, QuantConfig

_META = torch.device("meta")


class _Devices(TorchDispatchMode):
    """Count the devices of all tensors that operators read."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor):
                self.seen[value.device.type] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("compiled", [False, True])
def test_training_and_probing_stay_on_the_device(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What torch.compile traces is written otherwise than what runs eagerly.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiled)
    config = NetworkConfig(name="resnet20")
    info = nets.info(config)
    names = {"name": info.name, "num_classes": info.num_classes}
    net = quantize(nets.build(config), QuantConfig(), input_shape=info.input_shape, **names)
    net.to(_META).train()
    x = torch.empty(4, *info.input_shape, device=_META)
    y = torch.empty(4, dtype=torch.int64, device=_META)
    F.cross_entropy(net(x), y).backward()  # constants of a width are worked out once, on the host
    with _Devices() as mode:
        F.cross_entropy(net(x), y).backward()
        with probing(net):
            F.cross_entropy(net(x), y)
    assert set(mode.seen) == {"meta"}
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
