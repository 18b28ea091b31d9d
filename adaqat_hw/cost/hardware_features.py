"""Facts and features of hardware nodes, measured or not yet built, by the kind of their model.

A node is described by plain numbers (its *facts*), so that a measured row and a candidate that
nobody has built yet go through the same functions, those of :mod:`adaqat_hw.rtl.ops`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaqat_hw.cost.folding import Candidate
from adaqat_hw.errors import NotMeasured
from adaqat_hw.rtl.ops import Facts, Features, HardwareOperator, operator_module
from adaqat_hw.schema import Family, HardwareNode, IntType, Resources, Stream
from adaqat_hw.schema.operators import OPERATORS, find_operator, operator


def kind_of(node: HardwareNode) -> str:
    """Return the name under which nodes of this sort share a cost model: ``MVAU/lut``, ..."""
    return cost_kind(node.op, node.impl)


def cost_kind(op: str, impl: str | None) -> str:
    """Return the cost model's name of an operator, built in ``impl`` where there is a choice."""
    name = operator(op).name
    return f"{name}/{impl}" if impl else name


def node_facts(node: HardwareNode, *, narrow: bool = True) -> Facts:
    """Return the facts of a node as it stands.

    Args:
        node: a node of a hardware graph.
        narrow: for an MVAU, whether its weights leave out the most negative value, which lets a
            DSP block hold one more.

    Raises:
        ConfigError: an attribute that the cost depends on is missing.
    """
    return operator_module(node.operator).facts(node, narrow=narrow)


def facts_of_row(row: Mapping[str, Any]) -> Facts:
    """Return the facts of a measured row; raises as :func:`node_facts`."""

    def stream(name: str, side: str, bits: str) -> Stream:
        dtype = IntType(bits=int(row.get(bits, 1)), signed=False)
        return Stream(name=name, dtype=dtype, folded_shape=(1, int(row.get(f"{side}_elements", 1))))

    inputs = [stream("in0", "in", "in_bits")]
    if "in1_bits" in row:
        inputs.append(stream("in1", "in", "in1_bits"))
    attributes = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row["attributes"].items()
    }
    node = HardwareNode(
        name=f"measured {row['kind']}",
        op=row["op"],
        backend="rtl",
        layer=None,
        generator=operator(row["op"]).generators[0],
        inputs=tuple(inputs),
        outputs=(stream("out0", "out", "out_bits"),) * int(row.get("outputs", 1)),
        attributes=attributes,
        cycles=0,
        estimate=Resources(),
    )
    return node_facts(node, narrow=bool(row.get("narrow", 1)))


def fold_facts(facts: Facts, candidate: Candidate) -> Facts:
    """Return the facts of a node after it took ``candidate``'s folding."""
    streams = {"in_elements": candidate.in_elements, "out_elements": candidate.out_elements}
    return facts | candidate.folds | streams


def features_of(kind: str, facts: Facts, family: Family) -> Features:
    """Return the features of a node of ``kind``; ``bram_18k`` is a count, not a feature.

    Raises:
        NotMeasured: there are no features for such nodes.
    """
    module, impl = _of_kind(kind)
    return module.features(facts, impl, family)


def dsp_blocks(kind: str, facts: Facts, family: Family) -> int:
    """Return the DSP blocks of a node; raises as :func:`features_of`."""
    module, impl = _of_kind(kind)
    return module.dsp_blocks(facts, impl, family)


def _of_kind(kind: str) -> tuple[HardwareOperator, str | None]:
    name, _, impl = kind.partition("/")
    record = find_operator(name)
    if record is None or kind not in record.kinds():
        known = sorted(each for record in OPERATORS for each in record.kinds())
        raise NotMeasured(
            f"There is no cost model for nodes of kind {kind!r}; there is one for "
            f"{', '.join(known)}."
        )
    return operator_module(record), impl or None
