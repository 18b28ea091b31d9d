"""Read the bit-widths of a QONNX graph back from its Quant nodes, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from adaqat_hw.errors import ConfigError
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.qonnx_graph import MAC_OPS, Node, QonnxGraph

_QUANT = ("Quant", "BipolarQuant")
# Nodes that hand values on without mixing tensors; pooling keeps the quantizer it pools from, and
# quantization has let nearest upsampling pass alone.
_PASS = (
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Pad"),
    *("Resize", "Upsample"),
    *("Slice", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"),
    "Trunc",
)


@dataclass(frozen=True)
class QuantNode:
    """One Quant (or BipolarQuant) node.

    ``scale`` is the smallest and largest of its scales (equal for per-tensor scales).
    """

    node: str
    bits: int
    signed: bool
    narrow: bool
    scale: tuple[float, float]
    zero_point: bool


@dataclass(frozen=True)
class NodeBits:
    """What one multiply-accumulate node reads; None where no Quant node was found.

    A ``product`` multiplies two activations: ``act`` is of its left operand, ``second`` of its
    right one, and it has no weights.
    """

    node: str
    op: str
    weight: QuantNode | None
    act: QuantNode | None
    weight_tensor: str | None
    product: bool = False
    second: QuantNode | None = None


def read_bits(path: Path) -> tuple[NodeBits, ...]:
    """Return the widths of every Conv, MatMul and Gemm of a QONNX file, in graph order.

    Works on files of other tools; a node without quantizers is listed with None.

    Raises:
        ConfigError: the file cannot be read, or a Quant node's width is computed at run time.
    """
    return read_graph_bits(load_qonnx(path), str(path))


def read_graph_bits(model: onnx.ModelProto, source: str) -> tuple[NodeBits, ...]:
    """As :func:`read_bits`, for a model in memory; ``source`` names it in errors."""
    graph = QonnxGraph(model, source)
    return tuple(_node_bits(graph, node) for node in graph.nodes if node.op in MAC_OPS)


def input_quant_of(model: onnx.ModelProto, source: str) -> QuantNode | None:
    """Return the quantizer that the graph's first input goes into, or None."""
    graph = QonnxGraph(model, source)
    tensor = graph.inputs[0].name
    while True:
        readers = graph.readers.get(tensor, [])
        quants = [node for node in readers if node.op in _QUANT]
        if quants:
            return _quant(graph, quants[0])
        if len(readers) != 1 or readers[0].op not in _PASS:
            return None
        tensor = readers[0].outputs[0]


def join_bits(model: onnx.ModelProto, source: str) -> list[tuple[int, bool]]:
    """Return (bits, signed) of the quantizers of each residual add, in graph order.

    Raises:
        ConfigError: the two addends of an add go through different quantizers.
    """
    graph = QonnxGraph(model, source)
    joins = []
    for node in graph.nodes:
        if node.op != "Add":
            continue
        addends = [graph.producer.get(name) for name in node.inputs]
        if any(a is None or a.op != "Quant" for a in addends):
            continue
        left, right = (_quant(graph, a) for a in addends if a is not None)
        if (left.bits, left.signed, left.scale) != (right.bits, right.signed, right.scale):
            raise ConfigError(
                f"The addends of {node.name!r} in {source!r} are quantized differently "
                f"({left.bits} and {right.bits} bits, scales {left.scale[0]:.4g} and "
                f"{right.scale[0]:.4g}); both must go through one quantizer."
            )
        joins.append((left.bits, left.signed))
    return joins


def free_bits(model: onnx.ModelProto, source: str) -> list[tuple[int, bool]]:
    """Return (bits, signed) of the activation quantizers that neither a layer nor an add reads.

    What comes after them is float: a concatenation, a layer norm, or another quantizer.
    """
    graph = QonnxGraph(model, source)
    rows = [_node_bits(graph, node) for node in graph.nodes if node.op in MAC_OPS]
    read = {quant.node for row in rows for quant in (row.act, row.second) if quant is not None}
    for node in graph.nodes:
        if node.op == "Add":
            addends = [graph.producer.get(name) for name in node.inputs]
            if all(a is not None and a.op == "Quant" for a in addends):
                read.update(a.name for a in addends if a is not None)
    quants = [node for node in graph.nodes if node.op in _QUANT and node.name not in read]
    free = [_quant(graph, x) for x in quants if not _constant_below(graph, x.inputs[0])]
    return [(quant.bits, quant.signed) for quant in free]


def _node_bits(graph: QonnxGraph, node: Node) -> NodeBits:
    first, second = node.inputs[0], node.inputs[1]
    if node.op == "MatMul" and _constant_below(graph, first):
        first, second = second, first
    elif node.op == "MatMul" and not _constant_below(graph, second):
        left, right = _activation(graph, first), _activation(graph, second)
        return NodeBits(node.name, node.op, None, left, None, True, right)
    weight, tensor = _weight(graph, second)
    return NodeBits(
        node=node.name,
        op=node.op,
        weight=weight,
        act=_activation(graph, first),
        weight_tensor=tensor,
    )


def _quant(graph: QonnxGraph, node: Node) -> QuantNode:
    # Where nothing was folded, an exporter's scalars may still be plain numbers.
    quant = graph.quantizer(node, {**graph.numbers, **graph.values})
    if quant.scale is None:
        raise ConfigError(
            f"Quant node {node.name!r} of {graph.source!r} computes its scale at run time; "
            "only constant scales can be read (fold the constants of the graph first)."
        )
    spread = (float(quant.scale.min()), float(quant.scale.max()))
    if node.op == "BipolarQuant":
        return QuantNode(node.name, 1, True, False, spread, False)
    bits = quant.bits
    if bits is None or bits.size != 1 or float(bits.reshape(-1)[0]) % 1:
        shown = None if bits is None else bits.tolist()
        raise ConfigError(
            f"Quant node {node.name!r} of {graph.source!r} has bit-width {shown!r}; it must be "
            "one constant integer (fold the constants of the graph first)."
        )
    return QuantNode(
        node=node.name,
        bits=int(bits.reshape(-1)[0]),
        signed=quant.signed,
        narrow=quant.narrow,
        scale=spread,
        zero_point=quant.zero_point is None or bool(np.any(quant.zero_point)),
    )


def _constant_below(graph: QonnxGraph, tensor: str) -> bool:
    """Tell whether a tensor is constant: an initializer behind Quant and Transpose nodes."""
    while tensor not in graph.initializers:
        node = graph.producer.get(tensor)
        if node is None:
            return False
        if node.op == "Constant":
            return True
        if node.op not in (*_QUANT, "Transpose", "Reshape"):
            return False
        tensor = node.inputs[0]
    return True


def _weight(graph: QonnxGraph, tensor: str) -> tuple[QuantNode | None, str | None]:
    quant: QuantNode | None = None
    while tensor not in graph.initializers:
        node = graph.producer.get(tensor)
        if node is None or node.op not in (*_QUANT, "Transpose"):
            return quant, None
        if node.op != "Transpose":
            quant = _quant(graph, node)
        tensor = node.inputs[0]
    return quant, tensor


def _activation(graph: QonnxGraph, tensor: str) -> QuantNode | None:
    node = graph.source_of(tensor, _PASS)
    return _quant(graph, node) if node is not None and node.op in _QUANT else None
