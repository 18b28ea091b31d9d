"""Legal foldings, the cost model, and the search: optimal, monotone, never illegal."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw import boards, families
from adaqat_hw.cost.fold_problem import COUNTED, fold_problem
from adaqat_hw.cost.fold_solve import cheapest, cost_of, fastest, interval_of, smallest
from adaqat_hw.cost.folding import candidates, cycles, divisors, edges
from adaqat_hw.cost.hardware_cost import (
    HardwareCostModel,
    cost_model_path,
    fit_cost_model,
    load_cost_model,
)
from adaqat_hw.cost.hardware_features import dsp_blocks, features_of
from adaqat_hw.errors import ConfigError, NotMeasured
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.memory_map import map_ram, map_rom
from adaqat_hw.rtl.ops._weighted import tree_bits
from adaqat_hw.schema import sha256_file

BOTH = ("lut", "dsp")
FAMILY = families.load("xc7")
WEIGHTS = np.array([1 / 53200, 1 / 106400, 1 / 220, 1 / 280])
NO_LIMIT = np.full(4, np.inf)


@pytest.fixture(scope="module")
def problem(small_graph, made_up_model):
    impls = {n.name: BOTH for n in small_graph.nodes if n.op == "MVAU"}
    return fold_problem(small_graph, made_up_model, FAMILY, impls)


@pytest.fixture(scope="module")
def few(problem):
    """The same problem with every other candidate, so that all foldings can be tried."""
    nodes = []
    for node in problem.nodes:
        k = list(range(0, len(node.candidates), 5 if len(node.candidates) > 12 else 1))
        nodes.append(
            replace(
                node,
                candidates=tuple(node.candidates[i] for i in k),
                costs=node.costs[k],
                errors=node.errors[k],
                kinds=tuple(node.kinds[i] for i in k),
            )
        )
    return replace(problem, nodes=tuple(nodes))


@pytest.fixture(scope="module")
def every(few):
    """Every legal folding of ``few``: interval and cost, one row each."""
    rows = []
    for choice in itertools.product(*(range(len(n.candidates)) for n in few.nodes)):
        total, _ = cost_of(few, choice)
        if np.isfinite(total).all():
            rows.append([interval_of(few, choice), *total])
    return np.array(rows)


def best_of(every, interval, capacity=NO_LIMIT, weights=WEIGHTS):
    """Return the smallest weighted cost within interval and capacity, infinite for none."""
    legal = (every[:, 1:] <= capacity + 1e-9).all(axis=1)
    if interval is not None:
        legal &= every[:, 0] <= interval
    return float((every[legal, 1:] @ weights).min(initial=math.inf))


@settings(deadline=None)
@given(st.integers(1, 5000))
def test_divisors_are_all_divisors_in_order(number):
    assert divisors(number) == tuple(d for d in range(1, number + 1) if number % d == 0)


def test_every_candidate_is_legal_and_none_is_missing(small_graph):
    of = {"MVAU": ("MH", "MW"), "Thresholding": ("NumChannels",), "Pool": ("Channels",)}
    for node in small_graph.nodes:
        found = candidates(node, BOTH if node.op == "MVAU" else ())
        names = of.get(node.op, ("IFMChannels",))
        wanted = math.prod(len(divisors(node.attributes[name])) for name in names)
        assert len(found) == wanted * (2 if node.op == "MVAU" else 1)
        assert len({(*sorted(c.folds.items()), c.impl) for c in found}) == len(found)
        for c in found:
            total = {"PE": names[0], "SIMD": names[-1]}
            assert all(node.attributes[total[k]] % v == 0 for k, v in c.folds.items())
            assert c.cycles == cycles(node, math.prod(c.folds.values()))
        assert [c.cycles for c in found] == sorted((c.cycles for c in found), reverse=True)


def test_cycles_of_windows_are_those_of_finn(small_graph):
    # FINN 1.6.1, 3x3 over 18x18x3 and a 2x2 pool of stride 2 over 16x16x8, at SIMD 1 and folded.
    window, pool = small_graph.nodes[0], small_graph.nodes[3]
    big = {**pool.attributes, "IFMDim": (16, 16), "OFMDim": (8, 8), "IFMChannels": 8}
    assert cycles(window.model_copy(update={"cycles": 7029}), 3) == 2343
    deep = pool.model_copy(update={"cycles": 2768, "attributes": big})
    assert [cycles(deep, simd) for simd in (1, 2, 8)] == [2768, 1352, 290]


def test_a_folded_node_is_refused(small_graph):
    node = small_graph.nodes[1]
    folded = node.model_copy(update={"attributes": {**node.attributes, "SIMD": 3}})
    with pytest.raises(ConfigError, match=r"SIMD of node 'MVAU_hls_0' is 3"):
        candidates(folded, BOTH)


def test_an_unknown_operator_is_refused(small_graph, made_up_model):
    node = small_graph.nodes[2].model_copy(update={"op": "Softmax"})
    with pytest.raises(NotMeasured, match="'Softmax'"):
        candidates(node)
    strange = small_graph.model_copy(update={"nodes": (node,)})
    with pytest.raises(NotMeasured, match=r"no measurement of Softmax"):
        fold_problem(strange, made_up_model, FAMILY, {})


def test_edges_name_both_ends_and_tie_a_pool_to_its_window(small_graph):
    found = {e.stream: e for e in edges(small_graph)}
    assert (found["in"].source, found["out"].target) == (None, None)
    assert [name for name, e in found.items() if e.equal] == ["quads"]


@pytest.mark.parametrize("interval", [1152, 400, 318, 200, 160, None])
def test_the_cheapest_folding_is_the_best_of_all(few, every, interval):
    found = cheapest(few, interval, WEIGHTS, NO_LIMIT)
    best = best_of(every, interval)
    if found is None:
        assert best == math.inf
        return
    assert found.total @ WEIGHTS == pytest.approx(best, rel=1e-6)
    assert found.interval == interval_of(few, found.choice)
    assert interval is None or found.interval <= interval


@pytest.mark.parametrize("limits", [(900, 4000, 0, 9), (700, 4000, 9, 9), (520, 900, 3, 0)])
def test_the_fastest_folding_is_the_fastest_of_all(few, every, limits):
    capacity = np.array(limits, dtype=float)
    found = fastest(few, WEIGHTS, capacity)
    legal = [i for i in few.intervals() if best_of(every, i, capacity) < math.inf]
    assert (found.interval if found else None) == (min(legal) if legal else None)
    if found:
        assert (found.total <= capacity).all()
        share = best_of(every, found.interval, capacity)
        assert found.total @ WEIGHTS == pytest.approx(share, rel=1e-6)


def test_the_cost_falls_as_the_interval_grows(problem):
    shares = [cheapest(problem, i, WEIGHTS, NO_LIMIT).total @ WEIGHTS for i in problem.intervals()]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_more_room_is_never_slower(problem):
    full = cheapest(problem, problem.intervals()[0], WEIGHTS, NO_LIMIT).total
    found = [fastest(problem, WEIGHTS, full * fill) for fill in (0.6, 0.8, 1.0)]
    intervals = [math.inf if f is None else f.interval for f in found]
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[-1] == problem.intervals()[0]


def test_dsp_blocks_are_taken_where_luts_are_short_and_only_there(problem):
    interval = problem.intervals()[0]
    free = cheapest(problem, interval, np.array([1.0, 0, 0, 0]), NO_LIMIT)
    none = cheapest(problem, interval, np.array([1.0, 0, 0, 0]), np.array([np.inf, np.inf, 0, 99]))
    assert free.total[2] > 0 == none.total[2]
    assert free.total[0] < none.total[0]


def test_soft_limits_tell_what_is_lacking(problem):
    least = smallest(problem, "lut")
    capacity = np.array([least.total[0] - 7, 1e6, 1e6, 1e6])
    assert cheapest(problem, None, WEIGHTS, capacity) is None
    over = cheapest(problem, None, WEIGHTS, capacity, soft=True)
    assert over.excess == pytest.approx([7, 0, 0, 0], abs=1e-6)


def test_an_impossible_interval_has_no_folding(problem):
    assert cheapest(problem, problem.intervals()[0] - 1, WEIGHTS, NO_LIMIT) is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.1, 50), min_size=4, max_size=4))
def test_pruning_keeps_an_optimum_whatever_the_prices(few, every, prices):
    weights = np.array(prices)
    found = cheapest(few, 318, weights, NO_LIMIT)
    assert found.total @ weights == pytest.approx(best_of(every, 318, weights=weights), rel=1e-5)


def test_memories_lie_where_yosys_put_them():
    # Depth, width: as synthesized (Yosys 0.70, xc7).
    costs = FAMILY.memory
    in_blocks = {(1024, 24): 2, (4608, 12): 3, (294, 192): 6, (288, 128): 4, (1536, 48): 4}
    assert {shape: map_rom(*shape, costs).bram_18k for shape in in_blocks} == in_blocks
    for shape in ((640, 12), (1280, 4), (128, 432), (224, 252)):
        assert map_rom(*shape, costs).bram_18k == 0
        assert map_rom(*shape, costs).logic_bits == math.prod(shape)
    assert tuple(map_ram(*shape, costs).bram_18k for shape in ((512, 6), (72, 64), (32, 72))) == (
        1, 2, 0,
    )  # fmt: skip
    assert map_rom(1, 64, costs) == map_ram(1, 8, costs) == map_rom(0, 0, costs)


def test_dsp_blocks_follow_the_packing():
    # Multiplications per block at equal widths and narrow weights, from FINN's mvu.sv.
    lanes = {"xc7": (8, 5, 4, 3, 2, 2), "xcup": (9, 5, 4, 3, 2, 2)}
    for name, row in lanes.items():
        family = families.load(name)
        for bits, packed in zip((2, 3, 4, 5, 6, 8), row, strict=True):
            facts = {"weight_bits": bits, "in_bits": bits, "narrow": 1, "PE": packed, "SIMD": 3}
            assert dsp_blocks("MVAU/dsp", facts, family) == 3
            assert dsp_blocks("MVAU/dsp", facts | {"PE": packed + 1}, family) == 6
    assert dsp_blocks("MVAU/lut", {}, FAMILY) == 0


def test_tree_bits_counts_exact_widths():
    assert [tree_bits(n, 3) for n in (1, 2, 3, 4, 5)] == [0, 4, 4 + 5, 13, 4 * 2 + 5 + 6]


def test_a_fit_finds_the_coefficients_in_spite_of_an_outlier():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(30):
        bits, elements = int(rng.integers(1, 16)), int(rng.integers(1, 16))
        lut = 3 * bits * elements + 40
        rows.append({
            "kind": "FMPadding", "op": "FMPadding", "in_bits": bits, "in_elements": elements,
            "out_bits": bits, "out_elements": elements, "attributes": {},
            "lut": lut, "ff": 2 * lut, "dsp": 0, "bram_18k": 0,
        })  # fmt: skip
    rows[7]["lut"] *= 4
    model = fit_cost_model(rows, FAMILY, **PROVENANCE)
    lut = next(fit for fit in model.fits if fit.resource == "lut")
    assert lut.coefficients == pytest.approx({"width": 3.0, "one": 40.0}, rel=0.02)
    assert (lut.n, model.samples) == (30, 30)
    assert 0.01 < lut.loo_mape < 0.05 < lut.loo_rms
    facts = {"in_bits": 4, "in_elements": 5}
    cost, error = model.predict("FMPadding", facts, FAMILY)
    assert cost.lut == pytest.approx(100, abs=2)
    assert error.lut == pytest.approx(100 * lut.loo_rms, abs=2)
    assert (cost.dsp, cost.bram_18k, error.dsp) == (0, 0, 0)


PROVENANCE = {
    "tool": "yosys", "tool_version": "0", "date": "2026-01-01",
    "rows_file": "rows", "rows_sha256": "",
}  # fmt: skip


def test_too_few_rows_are_refused():
    row = {"kind": "Pool", "op": "Pool", "attributes": {"KernelSize": (2, 2)}}
    with pytest.raises(ConfigError, match=r"2 measured rows of 'Pool'; at least 3"):
        fit_cost_model([row] * 2, FAMILY, **PROVENANCE)


def test_what_was_not_measured_is_said(made_up_model):
    with pytest.raises(NotMeasured, match=r"'xc7' has no measurement of 'VVAU', only of MVAU/lut"):
        made_up_model.predict("VVAU", {}, FAMILY)
    with pytest.raises(
        NotMeasured,
        match=r"^There is no measured cost model of the family 'ecp5', so no folding can be "
        r"searched for it; there is one of xc7\.$",
    ):
        load_cost_model(families.load("ecp5"))
    with pytest.raises(NotMeasured, match=r"no cost model for nodes of kind 'Softmax'"):
        features_of("Softmax", {}, FAMILY)


def test_every_shipped_model_is_named_by_its_family():
    named = {cost_model_path(f) for f in families.every() if f.cost_model is not None}
    assert named == set((hw_dir() / "cost").glob("yosys-*.json"))


@pytest.mark.parametrize("path", sorted((hw_dir() / "cost").glob("yosys-*.json")))
def test_the_shipped_models_are_those_of_the_shipped_rows(path):
    model = HardwareCostModel.read(path)
    rows = path.with_name(model.rows_file)
    assert sha256_file(rows) == model.rows_sha256
    kinds = [json.loads(line)["kind"] for line in rows.read_text().splitlines()]
    assert len(kinds) == model.samples
    assert {kind: kinds.count(kind) for kind in model.kinds()} == {
        fit.kind: fit.n for fit in model.fits
    }
    assert cost_model_path(families.load(model.family)) == path
    mvau = next(f for f in model.fits if (f.kind, f.resource) == ("MVAU/lut", "lut"))
    assert mvau.n >= 30
    assert mvau.loo_mape < 0.15
    assert all(fit.loo_mape == 0 for fit in model.fits if fit.resource == "dsp")


def test_columns_are_the_boards_resources():
    board = boards.load("pynq-z2")
    assert all(getattr(board, name) > 0 for name in COUNTED)
