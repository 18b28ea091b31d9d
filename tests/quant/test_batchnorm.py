from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from adaqat_hw.errors import ConfigError
from adaqat_hw.quant import probing, recalibrate_batch_norm


@pytest.fixture
def net():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def state(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def same(a, b):
    return all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("mode", [True, False])
def test_probing_uses_batch_statistics_and_leaves_no_trace(net, mode):
    net.train(mode)
    net[0].train(not mode)
    before, random, x = state(net), torch.get_rng_state(), torch.randn(16, 4) * 3 + 5
    torch.set_rng_state(random)
    with probing(net):
        normed = net[1](net[0](x))
        assert not net(x).requires_grad
    torch.testing.assert_close(normed.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert same(before, state(net))
    assert torch.equal(torch.get_rng_state(), random)
    assert (net[1].training, net[0].training) == (mode, not mode)
    assert net[1].track_running_stats


def test_probing_restores_after_an_exception(net):
    net.eval()
    random = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), probing(net):
        net(torch.randn(3, 5))
    assert not any(m.training for m in net.modules())
    assert net[1].track_running_stats
    assert torch.equal(torch.get_rng_state(), random)


def test_recalibration_takes_the_mean_over_the_batches(net):
    net.train()
    net[1].running_mean.fill_(100.0)
    batches = [torch.randn(32, 4) + k for k in range(3)]
    assert recalibrate_batch_norm(net, [(b, None) for b in batches]) == 3
    with torch.no_grad():
        outputs = [net[0](b) for b in batches]
    torch.testing.assert_close(
        net[1].running_mean, torch.stack([o.mean(0) for o in outputs]).mean(0)
    )
    torch.testing.assert_close(net[1].running_var, torch.stack([o.var(0) for o in outputs]).mean(0))
    assert net[1].momentum == 0.1
    assert all(m.training for m in net.modules())


def test_recalibration_without_batches_changes_nothing(net):
    net(torch.randn(8, 4))
    before = state(net)
    text = "Batch norm cannot be recalibrated on 0 batches; pass at least 1."
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        recalibrate_batch_norm(net, [])
    assert same(before, state(net))


def test_recalibration_that_fails_changes_nothing(net):
    net(torch.randn(8, 4))
    before = state(net)
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied"):
        recalibrate_batch_norm(net, [torch.randn(8, 4), torch.randn(8, 5)])
    assert same(before, state(net))
    assert net[1].momentum == 0.1
