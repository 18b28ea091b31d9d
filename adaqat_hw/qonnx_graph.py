"""One view of a QONNX graph: nodes by tensor, attributes as Python values, constants, quantizers.

The graph is checked once, when the view is made; its readers trust it. FINN's environment imports
this module too: it knows numpy and onnx, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from adaqat_hw.errors import ConfigError

Array = NDArray[Any]

MAC_OPS = ("Conv", "MatMul", "Gemm")
QUANT_OPS = ("Quant", "IntQuant", "BipolarQuant")
AFFINE_OPS = ("Add", "Sub", "Mul", "Div")
# What exporters compute shapes and scales with; none makes a tensor larger than its inputs.
FOLDED_OPS = (
    *("Shape", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Identity", "Reshape", "Slice"),
    *("Transpose", *AFFINE_OPS, "Pow", "Sqrt", "Neg", "Floor"),
)
# How many inputs readers count on (least, most), and how many outputs.
_INPUTS = {**dict.fromkeys(MAC_OPS, (2, 99)), "Add": (2, 2), "Shape": (1, 99)}
_OUTPUTS = {"Constant": 1}


@dataclass(frozen=True, eq=False)
class Node:
    """One node; string attributes are text, tensors stay as ONNX holds them."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto


@dataclass(frozen=True)
class Quantizer:
    """The parameters of a quantizer; None for one that is absent or computed at run time.

    A BipolarQuant has a scale alone.
    """

    node: Node
    scale: Array | None
    zero_point: Array | None
    bits: Array | None
    signed: bool
    narrow: bool
    rounding: str


class QonnxGraph:
    """Look-ups in a QONNX graph; what depends on constants only counts as constant.

    Args:
        model: the model; it is read and never changed.
        source: what to call it in errors.

    Raises:
        ConfigError: a tensor or an attribute that does not decode, or a node with more or fewer
            inputs than its operator takes.

    Attributes:
        nodes: in the graph's order.
        inputs: the graph's inputs that are no constants.
        outputs: names of the graph's outputs.
        initializers: the values that the file holds.
        values: these and the tensors of Constant nodes.
        numbers: Constant nodes that hold a plain number, which only :mod:`adaqat_hw.export` reads.
        constant: the tensors that depend on constants only, computed or not.
        producer: the node that makes a tensor.
        readers: the nodes that read a tensor, once for each time.
        declared: datatypes that the file annotates tensors with (qonnx's ``finn_datatype``).
    """

    def __init__(self, model: onnx.ModelProto, source: str = "the graph") -> None:
        self.model, self.source = model, source
        proto = model.graph
        self.nodes = tuple(_node(x, source) for x in proto.node)
        self.initializers = {x.name: _array(x, x.name, source) for x in proto.initializer}
        self.values: dict[str, Array] = dict(self.initializers)
        self.numbers: dict[str, Array] = {}
        self.producer = {name: node for node in self.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        self.constant = {"", *self.values}
        for node in self.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
            if node.op == "Constant":
                self._read_constant(node)
            # The shape of a tensor is constant even where the tensor is not.
            if node.op == "Shape" or all(name in self.constant for name in node.inputs):
                self.constant.update(node.outputs)
        self.inputs = tuple(x for x in proto.input if x.name not in self.values)
        self.outputs = tuple(x.name for x in proto.output)
        self.declared = {
            note.tensor_name: pair.value
            for note in proto.quantization_annotation
            for pair in note.quant_parameter_tensor_names
            if pair.key == "finn_datatype"
        }

    def _read_constant(self, node: Node) -> None:
        tensor = node.outputs[0]
        if isinstance(value := node.attributes.get("value"), onnx.TensorProto):
            self.values[tensor] = _array(value, tensor, self.source)
        elif isinstance(number := node.attributes.get("value_float"), float):
            self.numbers[tensor] = np.asarray(number)

    def is_constant(self, node: Node) -> bool:
        """Tell whether a node computes with constants only (a weight quantizer is none)."""
        return node.op not in QUANT_OPS and all(name in self.constant for name in node.outputs)

    def consumers(self, tensor: str) -> list[Node]:
        """Return the nodes that read a tensor's values; its shape is not one of them."""
        return [node for node in self.readers.get(tensor, []) if node.op != "Shape"]

    def source_of(self, tensor: str, through: Sequence[str]) -> Node | None:
        """Follow first inputs up through operators; return the node where that ends."""
        node = self.producer.get(tensor)
        while node is not None and node.op in through and node.inputs:
            node = self.producer.get(node.inputs[0])
        return node

    def affine(self, node: Node) -> tuple[str, Array | None] | None:
        """Return what a constant affine (x + c, c - x, x * c, x / c) is of, and the constant.

        None for other nodes; the constant is None where it is computed by what is not folded.
        """
        if node.op not in AFFINE_OPS or len(node.inputs) != 2:
            return None
        fixed = [name in self.constant for name in node.inputs]
        if sum(fixed) != 1 or (node.op == "Div" and fixed[0]):
            return None
        side = fixed.index(True)
        return node.inputs[1 - side], self.values.get(node.inputs[side])

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor that the file writes down (0: unknown), or None."""
        for value in (*self.model.graph.value_info, *self.model.graph.input):
            if value.name == tensor:
                return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        return None

    def quantizer(self, node: Node, constants: Mapping[str, Array] | None = None) -> Quantizer:
        """Return the parameters of a Quant, IntQuant or BipolarQuant node.

        They are looked up in ``constants``, the graph's ``values`` where None.
        """
        known = self.values if constants is None else constants
        scale, zero, bits = (*(known.get(name) for name in node.inputs[1:4]), None, None, None)[:3]
        return Quantizer(
            node=node,
            scale=scale,
            zero_point=zero,
            bits=bits,
            signed=bool(node.attributes.get("signed", 1)),
            narrow=bool(node.attributes.get("narrow", 0)),
            rounding=str(node.attributes.get("rounding_mode", "ROUND")),
        )

    def computed(self, largest: int | None = None) -> dict[str, Array]:
        """Return the values of the nodes that depend on constants and fixed shapes only.

        Quantizers of weights are left, and so is what cannot be computed: it is judged like any
        node.

        Args:
            largest: elements of one tensor; nodes that read or would make more are left.
        """
        values, results = dict(self.initializers), {}
        shapes = _shapes(self.model) if any(node.op == "Shape" for node in self.nodes) else {}
        for node in self.nodes:
            value = self._compute(node, values, shapes, largest)
            if value is not None:
                values[node.outputs[0]] = results[node.outputs[0]] = value
        return results

    def folded(self, largest: int | None = None) -> QonnxGraph:
        """Return a view of a copy in which what is :meth:`computed` is an initializer."""
        results = self.computed(largest)
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        left = [n for n in copy.graph.node if not n.output or n.output[0] not in results]
        del copy.graph.node[:]
        copy.graph.node.extend(left)
        copy.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in results.items())
        return QonnxGraph(copy, self.source)

    def _compute(
        self,
        node: Node,
        values: Mapping[str, Array],
        shapes: Mapping[str, Array],
        largest: int | None,
    ) -> Array | None:
        if node.op not in (*FOLDED_OPS, "Constant") or len(node.outputs) != 1:
            return None
        if node.op == "Shape":
            known = values.get(node.inputs[0])
            shape = shapes.get(node.inputs[0]) if known is None else np.array(known.shape, np.int64)
            ends = (node.attributes.get("start"), node.attributes.get("end"))
            return None if shape is None else shape[slice(*ends)]
        if node.op == "Constant":
            return self.values.get(node.outputs[0])
        if not node.inputs or any(name not in values for name in node.inputs):
            return None
        arrays = [values[name] for name in node.inputs]
        if largest is not None and _largest(arrays) > largest:
            return None
        return _execute(node, arrays, self.model)


def attributes_of(node: onnx.NodeProto) -> Mapping[str, Any]:
    """Return a node's attributes by name, strings as text."""
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return MappingProxyType(
        {
            name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for name, value in values.items()
        }
    )


def _node(proto: onnx.NodeProto, source: str) -> Node:
    label = f"Node {(proto.name or proto.op_type)!r} of {source!r}"
    least, most = _INPUTS.get(proto.op_type, (0, len(proto.input)))
    outputs = _OUTPUTS.get(proto.op_type, 0)
    if not least <= len(proto.input) <= most or len(proto.output) < outputs:
        raise ConfigError(
            f"{label} has {len(proto.input)} inputs and {len(proto.output)} outputs, which its "
            f"operator {proto.op_type!r} does not take; export the network again."
        )
    try:
        attributes = attributes_of(proto)
    except ValueError as exc:
        raise ConfigError(
            f"{label} has an attribute that cannot be read ({exc}); export the network again."
        ) from exc
    return Node(
        proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), attributes, proto
    )


def _array(tensor: onnx.TensorProto, name: str, source: str) -> Array:
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, NotImplementedError) as exc:
        raise ConfigError(
            f"Tensor {name!r} of {source!r} cannot be read ({exc}); export the network again."
        ) from exc


def _largest(arrays: Sequence[Array]) -> float:
    """Return the elements of the largest input, or of what they broadcast to: small constants
    can broadcast to a huge one."""
    most = max(float(a.size) for a in arrays)
    try:
        together = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:  # an operator whose inputs do not broadcast, like Concat
        return most
    return max(most, float(np.prod(together, dtype=float)))


def _execute(node: Node, arrays: Sequence[Array], model: onnx.ModelProto) -> Array | None:
    from onnx.reference import ReferenceEvaluator

    graph = onnx.helper.make_graph(
        [node.proto],
        "constant",
        [_info(n, a) for n, a in zip(node.inputs, arrays, strict=True)],
        [onnx.helper.make_empty_tensor_value_info(node.outputs[0])],
    )
    imports = [x for x in model.opset_import if x.domain in ("", "ai.onnx")]
    single = onnx.helper.make_model(graph, opset_imports=imports, ir_version=model.ir_version)
    try:
        feed = dict(zip(node.inputs, arrays, strict=True))
        outputs: Any = ReferenceEvaluator(single).run(None, feed)
        return np.asarray(outputs[0])
    except Exception:  # what cannot be computed is judged as it stands
        return None


def _info(name: str, array: Array) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)


def _shapes(model: onnx.ModelProto) -> dict[str, Array]:
    """Return the fixed shapes of tensors as arrays, of the inputs at least."""
    shapes = {}
    for value in (*model.graph.input, *model.graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if dims and all(d.HasField("dim_value") and d.dim_value > 0 for d in dims):
            shapes[value.name] = np.array([d.dim_value for d in dims], dtype=np.int64)
    return shapes
