"""Read the bit-widths of a QONNX graph back from its Quant nodes, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from adaqat_hw.errors import ConfigError
from adaqat_hw.qonnx_file import load_qonnx

MAC_OPS = ("Conv", "MatMul", "Gemm")
# Nodes that hand values on without mixing tensors; pooling keeps the quantizer it pools from.
_PASS = {
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Pad"),
    *(
        "Slice",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "ReduceMean",
        "Trunc",
    ),
}


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
    weight_transposed: bool
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
    graph = _Graph(model, source)
    return tuple(graph.node_bits(n) for n in model.graph.node if n.op_type in MAC_OPS)


def input_quant_of(model: onnx.ModelProto, source: str) -> QuantNode | None:
    """Return the quantizer that the graph's first input goes into, or None."""
    graph = _Graph(model, source)
    constants = {x.name for x in model.graph.initializer}
    tensor = next(x.name for x in model.graph.input if x.name not in constants)
    while True:
        readers = [n for n in model.graph.node if tensor in n.input]
        quants = [n for n in readers if n.op_type in ("Quant", "BipolarQuant")]
        if quants:
            return graph.quant(quants[0])
        if len(readers) != 1 or readers[0].op_type not in _PASS:
            return None
        tensor = readers[0].output[0]


def join_bits(model: onnx.ModelProto, source: str) -> list[tuple[int, bool]]:
    """Return (bits, signed) of the quantizers of each residual add, in graph order.

    Raises:
        ConfigError: the two addends of an add go through different quantizers.
    """
    graph = _Graph(model, source)
    found = []
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        addends = [graph.producers.get(x) for x in node.input]
        if any(a is None or a.op_type != "Quant" for a in addends):
            continue
        left, right = (graph.quant(a) for a in addends if a is not None)
        if (left.bits, left.signed, left.scale) != (right.bits, right.signed, right.scale):
            raise ConfigError(
                f"The addends of {node.name!r} in {source!r} are quantized differently "
                f"({left.bits} and {right.bits} bits, scales {left.scale[0]:.4g} and "
                f"{right.scale[0]:.4g}); both must go through one quantizer."
            )
        found.append((left.bits, left.signed))
    return found


class _Graph:
    """Lookups in one graph."""

    def __init__(self, model: onnx.ModelProto, source: str) -> None:
        self.source = source
        self.initializers = {x.name: x for x in model.graph.initializer}
        self.producers = {out: n for n in model.graph.node for out in n.output}

    def value(self, tensor: str) -> np.ndarray[Any, Any] | None:
        """Return a tensor that is an initializer or a Constant's output."""
        if tensor in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[tensor]))
        node = self.producers.get(tensor)
        if node is not None and node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    return np.asarray(numpy_helper.to_array(attribute.t))
                if attribute.name == "value_float":
                    return np.asarray(attribute.f)
        return None

    def node_bits(self, node: onnx.NodeProto) -> NodeBits:
        first, second = node.input[0], node.input[1]
        if node.op_type == "MatMul" and self._constant_below(first):
            first, second = second, first
        elif node.op_type == "MatMul" and not self._constant_below(second):
            left, right = self._activation(first), self._activation(second)
            return NodeBits(node.name, node.op_type, None, left, None, False, True, right)
        weight, tensor, transposed = self._weight(second)
        if node.op_type == "Gemm":
            transposed ^= any(a.name == "transB" and a.i for a in node.attribute)
        return NodeBits(
            node=node.name,
            op=node.op_type,
            weight=weight,
            act=self._activation(first),
            weight_tensor=tensor,
            weight_transposed=transposed,
        )

    def quant(self, node: onnx.NodeProto) -> QuantNode:
        scale = self.value(node.input[1])
        if scale is None:
            raise ConfigError(
                f"Quant node {node.name!r} of {self.source!r} computes its scale at run time; "
                "only constant scales can be read (fold the constants of the graph first)."
            )
        spread = (float(scale.min()), float(scale.max()))
        if node.op_type == "BipolarQuant":
            return QuantNode(node.name, 1, True, False, spread, False)
        bits = self.value(node.input[3])
        if bits is None or bits.size != 1 or float(bits.reshape(-1)[0]) % 1:
            shown = None if bits is None else bits.tolist()
            raise ConfigError(
                f"Quant node {node.name!r} of {self.source!r} has bit-width {shown!r}; it must be "
                "one constant integer (fold the constants of the graph first)."
            )
        zero = self.value(node.input[2])
        flags = {a.name: a.i for a in node.attribute}
        return QuantNode(
            node=node.name,
            bits=int(bits.reshape(-1)[0]),
            signed=bool(flags.get("signed", 1)),
            narrow=bool(flags.get("narrow", 0)),
            scale=spread,
            zero_point=zero is None or bool(np.any(zero)),
        )

    def _constant_below(self, tensor: str) -> bool:
        """Tell whether a tensor is constant: an initializer behind Quant and Transpose nodes."""
        while tensor not in self.initializers:
            node = self.producers.get(tensor)
            if node is None:
                return False
            if node.op_type == "Constant":
                return True
            if node.op_type not in ("Quant", "BipolarQuant", "Transpose", "Reshape"):
                return False
            tensor = node.input[0]
        return True

    def _weight(self, tensor: str) -> tuple[QuantNode | None, str | None, bool]:
        quant: QuantNode | None = None
        transposed = False
        while tensor not in self.initializers:
            node = self.producers.get(tensor)
            if node is None or node.op_type not in ("Quant", "BipolarQuant", "Transpose"):
                return quant, None, transposed
            if node.op_type == "Transpose":
                transposed = not transposed
            else:
                quant = self.quant(node)
            tensor = node.input[0]
        return quant, tensor, transposed

    def _activation(self, tensor: str) -> QuantNode | None:
        node = self.producers.get(tensor)
        while node is not None:
            if node.op_type in ("Quant", "BipolarQuant"):
                return self.quant(node)
            if node.op_type not in _PASS:
                return None
            node = self.producers.get(node.input[0])
        return None
