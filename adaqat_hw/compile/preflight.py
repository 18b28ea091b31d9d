"""Judge a QONNX file before FINN starts: every layer that nothing can build, all at once."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from adaqat_hw.compile._pool_checks import (
    SOFTWARE,
    check_average_pool,
    check_global,
    check_max_pool,
    check_pad,
    check_slice,
    check_top_k,
    check_trunc,
)
from adaqat_hw.compile._tracing import (
    MOVES,
    SUPPORTED,
    named_elsewhere,
    origin_of,
    scale_of,
    weight_shape,
)
from adaqat_hw.qonnx_graph import AFFINE_OPS, MAC_OPS, QUANT_OPS, Node, QonnxGraph

MAX_ACT_BITS = 8
MAX_WEIGHT_BITS = 16
_LARGEST = 2**20  # elements; larger weights are left to their node
_DECLARED = re.compile(r"BIPOLAR|BINARY|TERNARY|U?INT[1-8]")
_NO_ACTIVATION = "this activation function has no RTL; use ReLU with a quantizer after it"
_REASONS = {
    **dict.fromkeys(("Sigmoid", "Tanh", "Gelu", "Erf", "HardSwish", "LeakyRelu"), _NO_ACTIVATION),
    **dict.fromkeys(("Elu", "HardSigmoid", "Softplus"), _NO_ACTIVATION),
    **dict.fromkeys(("LogSoftmax", "ArgMax"), SOFTWARE),
    "Concat": "a concatenation has no RTL yet",
    "Resize": "an upsampling has no RTL yet",
    "ConvTranspose": "a transposed convolution has no RTL yet",
}
_SAFE_NAME = re.compile(r"[A-Za-z0-9_./:\-\[\]() ]{1,200}")


@dataclass(frozen=True)
class Problem:
    """One reason why a network cannot be built; ``layer`` names the node or tensor."""

    layer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.reason}"


def find_problems(model: onnx.ModelProto, source: str = "the network") -> list[Problem]:
    """List everything about a QONNX graph that nothing can build; empty when all is well.

    It is judged as it is built, after constant folding; ``model`` stays as it is, and ``source``
    names it in errors.

    Raises:
        ConfigError: a node or tensor that cannot be read.
    """
    graph = QonnxGraph(model, source).folded(_LARGEST)
    problems = _interface(graph)
    for index, node in enumerate(graph.nodes):
        check = _CHECKS.get(node.op, _check_operator)
        if not graph.is_constant(node):
            place = _place(node, index)
            problems += [Problem(place, reason) for reason in check(graph, node)]
    return list(dict.fromkeys([*problems, *_names(graph)]))


def _interface(graph: QonnxGraph) -> list[Problem]:
    problems = []
    names = [x.name for x in graph.inputs]
    if len(names) != 1:
        problems.append(Problem("inputs", f"there are {len(names)} {names!r}; one is possible"))
    outputs = list(graph.outputs)
    if len(outputs) != 1:
        problems.append(
            Problem("outputs", f"there are {len(outputs)} {outputs!r}; one is possible")
        )
    for value in graph.inputs:
        shape = value.type.tensor_type.shape.dim
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in shape]
        where = f"input {value.name!r}"
        if not dims or any(not isinstance(d, int) or d < 1 for d in dims):
            problems.append(
                Problem(
                    where, f"its shape {dims!r} is dynamic; export with fixed sizes and batch 1"
                )
            )
        elif dims[0] != 1:
            problems.append(Problem(where, f"its shape {dims!r} has a batch; export with batch 1"))
        if len(graph.inputs) == 1 and (fault := _input_fault(graph, value.name)) is not None:
            problems.append(Problem(where, fault))
    if not any(n.op in MAC_OPS for n in graph.nodes):
        problems.append(Problem("network", "it has no convolution and no linear layer"))
    return problems


def _input_fault(graph: QonnxGraph, tensor: str) -> str | None:
    """Return why the host cannot make integers of the input; it may scale and shift before."""
    if _is_declared(graph, tensor):
        return None
    while True:
        readers = graph.consumers(tensor)
        if len(readers) == 1 and (readers[0].op in MOVES or _is_host_work(graph, readers[0])):
            tensor = readers[0].outputs[0]
            continue
        break
    if len(readers) == 1 and readers[0].op in QUANT_OPS:
        return None
    operators = ", ".join(sorted({n.op for n in readers})) or "nothing"
    return f"it goes into {operators} instead of one quantizer; quantize the network's input"


def _is_declared(graph: QonnxGraph, tensor: str) -> bool:
    """Tell whether a tensor is an input that the file itself declares to be small integers."""
    return _DECLARED.fullmatch(graph.declared.get(tensor, "")) is not None


def _is_host_work(graph: QonnxGraph, node: Node) -> bool:
    affine = graph.affine(node)
    if affine is None or affine[1] is None or not np.all(np.isfinite(affine[1])):
        return False
    return node.op in ("Add", "Sub") or not np.any(affine[1] == 0)


def _check_operator(graph: QonnxGraph, node: Node) -> list[str]:
    if node.op in SUPPORTED:
        return []
    return [_REASONS.get(node.op, f"the operator {node.op!r} has no RTL")]


def _check_elementwise(graph: QonnxGraph, node: Node) -> list[str]:
    if any(name in graph.constant for name in node.inputs):
        return []
    if node.op != "Add":
        return [f"{node.op} of two tensors has no RTL"]
    if any(named_elsewhere(graph, name) for name in node.inputs):
        return []
    left, right = (scale_of(graph, name) for name in node.inputs)
    if left is None or right is None:
        return ["an addition needs a quantizer on both sides, the same for both"]
    if not np.array_equal(left, right):
        return [
            f"its two sides have different scales ({_short(left)} and {_short(right)}); put one "
            "shared quantizer on both sides of the addition"
        ]
    return []


def _check_quant(graph: QonnxGraph, node: Node) -> list[str]:
    if len(node.inputs) != 4:
        return [f"a quantizer has 4 inputs and this one {len(node.inputs)}"]
    of_weights = node.inputs[0] in graph.constant
    tensors = "weights" if of_weights else "activations"
    reasons = []
    quant = graph.quantizer(node)
    scale, zero, bits = quant.scale, quant.zero_point, quant.bits
    if scale is None or bits is None or zero is None:
        return ["its scale, zero point or width is computed at run time; freeze them for export"]
    if np.any(zero != 0):
        reasons.append(f"its zero point is {_short(zero)}; only 0 is possible")
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        reasons.append(f"its scale is {_short(scale)}; it must be positive")
    if bits.size != 1:
        return [*reasons, f"it has {bits.size} widths; one is possible"]
    width = float(bits.reshape(-1)[0])
    limit = MAX_WEIGHT_BITS if of_weights else MAX_ACT_BITS
    if not math.isfinite(width) or width != int(width) or width < 1:
        return [*reasons, f"its width is {width:g} bits; it must be a whole number of bits"]
    if width > limit:
        reasons.append(f"its {tensors} have {width:g} bits; at most {limit} are possible")
    if width == 1 and quant.signed:
        reasons.append(f"its {tensors} have 1 bit with a sign; use 2 bits or more")
    if not of_weights and quant.rounding != "ROUND":
        reasons.append(f"it rounds by {quant.rounding!r}; only 'ROUND' is possible")
    return reasons


def _check_bipolar(graph: QonnxGraph, node: Node) -> list[str]:
    if len(node.inputs) != 2:
        return [f"a quantizer to -1 and +1 has 2 inputs and this one {len(node.inputs)}"]
    scale = graph.quantizer(node).scale
    if scale is None:
        return ["its scale is computed at run time; freeze it for export"]
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        return [f"its scale is {_short(scale)}; it must be positive"]
    if scale.size != 1 and node.inputs[0] not in graph.constant:
        return [f"its activations have {scale.size} scales; one is possible"]
    return []


def _check_softmax(graph: QonnxGraph, node: Node) -> list[str]:
    """At the end it is left to the host, which needs no other order of the classes."""
    if node.outputs[0] not in graph.outputs or graph.consumers(node.outputs[0]):
        return [SOFTWARE]
    return [] if node.attributes.get("axis", -1) in (1, -1) else [SOFTWARE]


def _check_mac(graph: QonnxGraph, node: Node) -> list[str]:
    reasons = []
    data, weights = node.inputs[0], node.inputs[1]
    if weights not in graph.constant:
        return ["its weights are not constant"]
    if data in graph.constant:
        return ["its first input is constant; the weights must be the second"]
    if not _is_quant(graph.source_of(weights, ("Transpose", "Reshape", "Identity"))):
        reasons.append("its weights are not quantized")
    origin, tensor, added = origin_of(graph, data)
    # What an unsupported operator puts out is that operator's problem, named there; so is a sum.
    summed = origin is not None and _is_sum(graph, origin)
    of_input = origin is None and (_is_declared(graph, tensor) or tensor in graph.constant)
    if not _is_quant(origin) and not summed and not of_input and not named_elsewhere(graph, tensor):
        reasons.append("its input is not quantized; put a quantizer before it")
    attributes = node.attributes
    if added and _is_padded(node):
        reasons.append(
            f"the constant that {added[0]!r} adds to its input cannot pass its padding; use no "
            "padding, or no addition between the quantizer and this convolution"
        )
    if node.op == "Conv":
        groups = int(attributes.get("group", 1))
        kernel = list(attributes.get("kernel_shape", ()))
        shape = weight_shape(graph, weights)
        if groups != 1 and shape is not None and (shape[1] != 1 or shape[0] != groups):
            reasons.append(
                f"a grouped convolution (groups={groups}, weights {shape!r}) has no RTL; use "
                "groups=1, or as many groups as input and output channels (depthwise)"
            )
        if len(kernel) not in (0, 2):
            reasons.append(f"a convolution with the kernel {kernel!r} has no RTL; use 2-D")
    if node.op == "Gemm":
        odd = {k: attributes[k] for k in ("alpha", "beta") if attributes.get(k, 1.0) != 1.0}
        if odd or attributes.get("transA", 0):
            reasons.append("Gemm must have alpha = beta = 1 and transA = 0")
    return reasons


def _is_padded(node: Node) -> bool:
    attributes = node.attributes
    named = str(attributes.get("auto_pad", "NOTSET"))
    return any(attributes.get("pads", ())) or named.startswith("SAME")


def _check_relu(graph: QonnxGraph, node: Node) -> list[str]:
    readers = graph.consumers(node.outputs[0])
    if readers and all(n.op in QUANT_OPS for n in readers):
        return []
    return ["no quantizer follows this ReLU directly; put one right after it"]


_CHECKS: dict[str, Callable[[QonnxGraph, Node], list[str]]] = {
    **dict.fromkeys(MAC_OPS, _check_mac),
    **dict.fromkeys(QUANT_OPS, _check_quant),
    "BipolarQuant": _check_bipolar,
    "Softmax": _check_softmax,
    **dict.fromkeys(AFFINE_OPS, _check_elementwise),
    "Relu": _check_relu,
    "MaxPool": check_max_pool,
    "GlobalAveragePool": check_global,
    "ReduceMean": check_global,
    "AveragePool": check_average_pool,
    "Trunc": check_trunc,
    "Pad": check_pad,
    "Slice": check_slice,
    "TopK": check_top_k,
}


def _names(graph: QonnxGraph) -> list[Problem]:
    """Layer names become rows of reports and comments in Verilog: plain text, each once."""
    problems = []
    names = [n.name for n in graph.nodes if n.op in MAC_OPS and n.name]
    for name in dict.fromkeys(names):
        if not _SAFE_NAME.fullmatch(name) or ".." in name:
            problems.append(
                Problem(
                    f"layer {name[:60]!r}",
                    "its name may hold letters, digits, spaces and _./:-[]() only, at most 200",
                )
            )
        if names.count(name) > 1:
            problems.append(Problem(f"layer {name!r}", "several layers have this name"))
    return problems


def _place(node: Node, index: int) -> str:
    return f"{node.op} {node.name!r}" if node.name else f"{node.op} (node {index})"


def _is_sum(graph: QonnxGraph, node: Node) -> bool:
    """Tell whether an addition joins two tensors; it is checked as an addition."""
    return node.op == "Add" and not any(name in graph.constant for name in node.inputs)


def _is_quant(node: Node | None) -> bool:
    return node is not None and node.op in QUANT_OPS


def _short(values: NDArray[Any]) -> str:
    flat = values.reshape(-1)
    return f"{flat[0]:g}" if flat.size == 1 else f"between {flat.min():g} and {flat.max():g}"
