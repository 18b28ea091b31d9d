"""Look-ups in a QONNX graph that the checks before a build share."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

MAC_OPS = ("Conv", "MatMul", "Gemm")
QUANT = ("Quant", "IntQuant", "BipolarQuant")
AFFINE = ("Add", "Sub", "Mul", "Div")
# Operators that carry values on without computing with them.
MOVES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout")
PASS = (*MOVES, "MaxPool", "Pad", "GlobalAveragePool", "ReduceMean", "AveragePool", "Trunc")
SUPPORTED = {*MAC_OPS, *QUANT, *PASS, "BatchNormalization", "Relu", "Constant"}


class Graph:
    """Look-ups in an ONNX graph; what depends on constants only counts as constant."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.proto = graph
        self.values: dict[str, NDArray[Any]] = {
            x.name: numpy_helper.to_array(x) for x in graph.initializer
        }
        self.producer = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        self.constant = {"", *self.values}
        for node in graph.node:
            for name in node.input:
                if node.op_type != "Shape":  # it reads no values
                    self.consumers.setdefault(name, []).append(node)
            if node.op_type == "Constant":
                value = attributes_of(node).get("value")
                if isinstance(value, onnx.TensorProto):
                    self.values[node.output[0]] = numpy_helper.to_array(value)
            # The shape of a tensor is constant even where the tensor is not.
            if node.op_type == "Shape" or all(name in self.constant for name in node.input):
                self.constant.update(node.output)
        self.inputs = [x for x in graph.input if x.name not in self.values]
        self.declared = {
            note.tensor_name: pair.value
            for note in graph.quantization_annotation
            for pair in note.quant_parameter_tensor_names
            if pair.key == "finn_datatype"
        }

    def is_constant(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node computes with constants only (a weight quantizer is none)."""
        return node.op_type not in QUANT and all(name in self.constant for name in node.output)

    def scale(self, tensor: str) -> NDArray[Any] | None:
        """Return the scale of a tensor of integers times a scale, or None where it is none."""
        node = self.source(tensor, (*MOVES, "MaxPool"))
        if node is not None and node.op_type in QUANT and len(node.input) in (2, 4):
            value = self.values.get(node.input[1])
            return None if value is None else value.reshape(-1)
        if node is not None and node.op_type == "Add":
            left, right = (self.scale(name) for name in node.input)
            if left is not None and right is not None and np.array_equal(left, right):
                return left
        return None

    def blames(self, tensor: str) -> bool:
        """Tell whether what a tensor lacks is the fault of an operator that is named itself."""
        node = self.source(tensor, PASS)
        if node is None or self.affine(node) is not None:
            return False
        return node.op_type not in (*SUPPORTED, "Add")

    def affine(self, node: onnx.NodeProto) -> tuple[str, NDArray[Any] | None] | None:
        """Return what a constant affine (x + c, c - x, x * c, x / c) is of, and the constant.

        None for other nodes; the constant is None where it is computed by what is not folded.
        """
        if node.op_type not in AFFINE or len(node.input) != 2:
            return None
        fixed = [name in self.constant for name in node.input]
        if sum(fixed) != 1 or (node.op_type == "Div" and fixed[0]):
            return None
        side = fixed.index(True)
        return node.input[1 - side], self.values.get(node.input[side])

    def origin(self, tensor: str) -> tuple[onnx.NodeProto | None, str, tuple[str, ...]]:
        """Follow a tensor up through moves, pools and affines with one constant.

        Returns:
            The node where that ends (None at the network's input), the tensor that it makes, and
            the names of the additions on the way.
        """
        added: list[str] = []
        while (node := self.producer.get(tensor)) is not None:
            affine = self.affine(node)
            if node.op_type in PASS and node.input:
                tensor = node.input[0]
            elif affine is not None and affine[1] is not None and affine[1].size == 1:
                tensor = affine[0]
                if node.op_type in ("Add", "Sub"):
                    added.append(node.name or node.output[0])
            else:
                break
        return node, tensor, tuple(added)

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Return the fixed shape of a tensor that the file writes down, or None."""
        for value in (*self.proto.value_info, *self.proto.input):
            if value.name == tensor:
                return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        return None

    def weight_shape(self, tensor: str) -> tuple[int, ...] | None:
        """Return the shape of constant weights behind their quantizer, or None."""
        node = self.source(tensor, ("Transpose", "Reshape", "Identity", *QUANT))
        name = tensor
        while name in self.producer and self.producer[name].input:
            name = self.producer[name].input[0]
        value = self.values.get(name)
        return None if value is None or node is not None else tuple(value.shape)

    def source(self, tensor: str, through: tuple[str, ...]) -> onnx.NodeProto | None:
        """Follow first inputs up through operators; return the node where that ends."""
        node = self.producer.get(tensor)
        while node is not None and node.op_type in through and node.input:
            node = self.producer.get(node.input[0])
        return node


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def text_of(value: object) -> str:
    """Return a string attribute as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
