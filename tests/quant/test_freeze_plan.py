"""What a training to a budget freezes at: the learned plan or the uniform one, and what is said."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaqat_hw.cost import BitOpsCost
from adaqat_hw.cost.layer_widths import LayerWidths, Operand
from adaqat_hw.quant import bind, compare_losses, quantize
from adaqat_hw.quant.allocate import uniform_bits
from adaqat_hw.quant.freeze_plan import FreezeProposal, choose
from adaqat_hw.quant.widths import Width
from adaqat_hw.schema import AdaqatConfig, BudgetConfig, FreezeChoice, QuantConfig

COST = BitOpsCost([LayerWidths("l", 100, 1, Operand("weights"), Operand("acts"))], 1600)
LIVE = {"weights": 4, "acts": 4}
UNIFORM = {"weights": 4, "acts": 4}
LEARNED = {"weights": 5, "acts": 3}


def chosen(differences, learned=LEARNED, live=LIVE):
    return choose(FreezeProposal(live, learned, UNIFORM), COST, 7, differences)


def test_the_learned_plan_is_taken_where_it_is_better_beyond_two_standard_errors():
    choice = chosen([-0.3, -0.1, -0.3, -0.1])
    assert (choice.chosen, choice.bits, choice.batches, choice.step) == ("learned", LEARNED, 4, 7)
    assert choice.difference == pytest.approx(-0.2)
    assert choice.standard_error == pytest.approx((4 * 0.01 / 3 / 4) ** 0.5)
    assert (choice.learned_cost, choice.uniform_cost, choice.unit) == (1500, 1600, "BitOPs")
    assert choice.sentence == (
        "On 4 training batches the loss of the learned plan (1,500 BitOPs) minus that of the "
        "uniform plan weights 4, acts 4 (1,600 BitOPs) was -0.2000 with a standard error of "
        "0.0577: better beyond two of them, so the learned plan is taken."
    )


def test_the_input_of_the_uniform_plan_is_an_integer_of_its_own():
    """A 64-64-64-10 perceptron: what fits is W2A2 behind 3 bits."""
    layers = [
        LayerWidths("fc1", 4096, 4096, Operand("weights:fc1"), Operand("input")),
        LayerWidths("fc2", 4096, 4096, Operand("weights:fc2"), Operand("acts:relu1")),
        LayerWidths("fc3", 640, 640, Operand("weights:fc3"), Operand("acts:relu2")),
    ]
    names = ("weights:fc1", "weights:fc2", "weights:fc3", "acts:relu1", "acts:relu2")
    widths = [Width(name, 4.0, 2, 8, 0.1) for name in names]
    widths.append(Width("input", 4.0, 2, 5, 0.1))
    cost = BitOpsCost(layers, 43_520)
    plan = uniform_bits(widths, cost.value, 43_520, lambda name, bit: 1.0)
    assert plan == {**dict.fromkeys(names, 2), "input": 3}
    assert cost.value(plan) == 43_520
    # More than its own maximum it never gets.
    assert uniform_bits(widths, cost.value, 1e9, lambda name, bit: 1.0)["input"] == 5


@pytest.mark.parametrize("differences", [[-0.3, 0.1], [0.2, 0.3, 0.25], [0.0, 0.0]])
def test_else_the_uniform_plan_is(differences):
    choice = chosen(differences)
    assert (choice.chosen, choice.bits) == ("uniform", UNIFORM)
    assert choice.sentence.endswith("not better beyond two of them, so the uniform plan is taken.")


def test_one_batch_tells_nothing():
    choice = chosen([-5.0])
    assert (choice.chosen, choice.batches, choice.difference) == ("uniform", 1, None)
    assert choice.sentence == (
        "The uniform plan weights 4, acts 4 (1,600 BitOPs) is taken: 1 training batches are too "
        "few to tell whether the learned plan (1,500 BitOPs) is better."
    )


def test_without_a_comparison_the_learned_plan_is_taken_and_that_is_said():
    choice = chosen(None)
    assert (choice.chosen, choice.batches, choice.standard_error) == ("learned", 0, None)
    assert choice.sentence == (
        "The learned plan (1,500 BitOPs) is taken; it was not compared with the uniform plan "
        "weights 4, acts 4 (1,600 BitOPs)."
    )


def test_equal_plans_are_not_compared():
    choice = chosen([], learned=UNIFORM)
    assert (choice.chosen, choice.bits, choice.batches) == ("same", UNIFORM, 0)
    assert choice.sentence == (
        "The learned plan is the uniform plan weights 4, acts 4 (1,600 BitOPs), so nothing was "
        "compared."
    )


def test_widths_that_move_far_are_named():
    choice = chosen(None, live={"weights": 8, "acts": 4})
    assert choice.far == {"weights": (8, 5)}
    assert choice.sentence.endswith(
        "(1,600 BitOPs). No plan within one bit of the live widths meets the budget: weights 8 to "
        "5."
    )
    choice = chosen([0.1, 0.1], live={"weights": 6, "acts": 2})
    assert choice.far == {"weights": (6, 4), "acts": (2, 4)}
    assert choice.sentence.endswith(
        "so the uniform plan is taken; it lies more than one bit from the live widths: weights 6 "
        "to 4, acts 2 to 4."
    )


@pytest.fixture
def binding(residual, shape):
    network = quantize(residual, QuantConfig(), **shape).train()
    config = AdaqatConfig(granularity="layer", rule="gradient", budget=BudgetConfig(bitops=400_000))
    return bind(network, config)


def losses_on(binding, count, net=None):
    batches = [(torch.randn(8, 1, 8, 8), torch.randint(0, 3, (8,))) for _ in range(count)]
    net = binding.network if net is None else net
    return [lambda x=x, y=y: F.cross_entropy(net(x), y) for x, y in batches]


def test_the_comparison_leaves_no_trace(binding):
    measures = losses_on(binding, 3)
    first, second = (dict.fromkeys(binding.groups, bits) for bits in (3, 4))
    binding.network.eval()
    before = {k: v.clone() for k, v in binding.network.state_dict().items()}
    random = torch.get_rng_state()
    differences = compare_losses(binding, measures, (first, second))
    assert len(differences) == 3
    assert all(differences)
    assert torch.equal(random, torch.get_rng_state())
    after = binding.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not binding.network.training
    assert compare_losses(binding, measures, (second, first)) == [-x for x in differences]
    assert compare_losses(binding, measures, (first, first)) == [0.0, 0.0, 0.0]
    assert compare_losses(binding, [], (first, second)) == []


def test_both_plans_of_a_pair_draw_the_same_numbers_and_every_pair_others(binding):
    dropout = nn.Dropout(0.5)
    binding.network.add_module("dropout", dropout)
    seen = []

    def measure():
        seen.append(dropout(torch.ones(64)))
        return seen[-1].sum()

    bits = binding.controller.bits
    assert compare_losses(binding, [measure, measure], (bits, bits)) == [0.0, 0.0]
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[0], seen[2])


def test_the_mean_over_processes_is_what_counts(binding):
    plans = tuple(dict.fromkeys(binding.groups, bits) for bits in (3, 4))
    measures = losses_on(binding, 2)
    halved = compare_losses(binding, measures, plans, mean=lambda values: values / 2)
    assert halved == [x / 2 for x in compare_losses(binding, measures, plans)]


def test_a_binding_freezes_at_what_was_chosen_and_remembers_it(binding, residual, shape):
    proposal = binding.freeze_proposal()
    value = binding.controller.cost.value
    assert max(value(proposal.learned), value(proposal.uniform)) <= 400_000
    events = binding.freeze_all(5, [0.1, 0.2, 0.1])
    assert binding.controller.bits == proposal.uniform
    assert {f.reason for f in events.freezes} == {"budget"}
    assert binding.freeze_choice.chosen == "uniform"
    assert binding.freeze_proposal() is None
    state = json.loads(json.dumps(binding.state_dict()))
    network = quantize(residual, QuantConfig(), **shape)
    config = AdaqatConfig(granularity="layer", rule="gradient", budget=BudgetConfig(bitops=400_000))
    other = bind(network, config)
    assert other.freeze_choice is None
    other.load_state_dict(state)
    assert other.freeze_choice == binding.freeze_choice
    assert FreezeChoice.model_validate_json(other.freeze_choice.model_dump_json()).far


def test_without_a_budget_nothing_is_chosen(residual, shape):
    binding = bind(quantize(residual, QuantConfig(), **shape), AdaqatConfig())
    assert binding.freeze_proposal() is None
    assert {freeze.reason for freeze in binding.freeze_all(3).freezes} == {"schedule"}
    assert binding.freeze_choice is None
    assert binding.state_dict()["freeze_choice"] is None
