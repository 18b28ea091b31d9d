from __future__ import annotations

import pytest
import torch
from torch import nn

from adaqat_hw.schema import TrainConfig
from adaqat_hw.train.compute import Compute

CPU = torch.device("cpu")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))


def test_float32_is_the_network_itself(net):
    compute, x = Compute(net, net, TrainConfig(), CPU), torch.randn(2, 3, 8, 8)
    assert torch.equal(compute.training(x), net(x))
    assert torch.equal(compute.probe(x), net(x))
    assert net[0].weight.is_contiguous()


def test_bfloat16_gives_float32_logits_near_the_exact_ones_and_float32_gradients(net):
    x = torch.randn(2, 3, 8, 8)
    exact = net(x)
    compute = Compute(net, net, TrainConfig(precision="bfloat16"), CPU)
    logits = compute.training(x)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, exact)
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)
    logits.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in net.parameters())
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_inputs_that_are_no_images_pass(net):
    flat = nn.Linear(6, 2)
    compute = Compute(flat, flat, TrainConfig(precision="bfloat16"), CPU)
    assert compute.probe(torch.randn(3, 6)).shape == (3, 2)


def test_the_shared_network_is_what_training_runs(net):
    shared = nn.Sequential(net, nn.Softmax(dim=1))
    compute, x = Compute(net, shared, TrainConfig(), CPU), torch.randn(2, 3, 8, 8)
    assert torch.equal(compute.training(x), shared(x))
    assert torch.equal(compute.probe(x), net(x))


@pytest.fixture
def calls(monkeypatch):
    """Record compilations, beginnings of iterations and passes, in order; compile nothing."""
    events = []

    def compiled(net, mode):
        events.append(f"compile {mode}")

        def forward(x):
            events.append("pass")
            return buffer if len(x) == 2 else net(x)

        return forward

    buffer = torch.zeros(2, 4)
    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: events.append("begin"))
    return events, buffer


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_every_pass_of_a_graph_begins_an_iteration_and_measured_outputs_are_copies(
    net, calls, mode
):
    events, buffer = calls
    compute = Compute(net, net, TrainConfig(compile=True, compile_mode=mode), CPU)
    x = torch.randn(2, 3, 8, 8)
    probe = compute.probe(x)
    assert torch.equal(probe, buffer)
    assert probe.data_ptr() != buffer.data_ptr()
    # The loss is learned from before the next pass.
    assert compute.training(x).data_ptr() == buffer.data_ptr()
    assert events == [f"compile {mode}", "begin", "pass", "begin", "pass"]


@pytest.mark.parametrize("mode", [None, "default", "max-autotune-no-cudagraphs"])
def test_without_graphs_nothing_is_copied(net, calls, mode):
    events, buffer = calls
    compute = Compute(net, net, TrainConfig(compile=True, compile_mode=mode), CPU)
    assert compute.probe(torch.randn(2, 3, 8, 8)).data_ptr() == buffer.data_ptr()
    assert events == [f"compile {mode}", "pass"]
