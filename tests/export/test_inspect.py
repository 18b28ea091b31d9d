from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw.errors import ConfigError
from adaqat_hw.export.inspect import input_quant_of, read_bits
from tests.error_texts import raises_text

_DOMAIN = "qonnx.custom_op.general"


def _quant(name: str, source: str, bits: float, signed: int, narrow: int) -> onnx.NodeProto:
    return helper.make_node(
        "Quant",
        [source, f"{name}_s", "zero", f"{name}_b"],
        [name],
        name=name,
        domain=_DOMAIN,
        signed=signed,
        narrow=narrow,
        rounding_mode="ROUND",
    )


def _write(path: Path, *, weight_bits: float = 3, constant_bits: bool = True) -> Path:
    """Conv behind a quantized input, then pool, flatten, Gemm with a transposed weight."""
    nodes = [
        _quant("in_q", "x", 8, 1, 0),
        _quant("w_q", "w", weight_bits, 1, 1),
        helper.make_node("Conv", ["in_q", "w_q"], ["c"], name="c1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        _quant("a_q", "r", 4, 0, 0),
        helper.make_node("MaxPool", ["a_q"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("BipolarQuant", ["v", "v_q_s"], ["v_q"], name="v_q", domain=_DOMAIN),
        helper.make_node("Gemm", ["f", "v_q", "b"], ["g"], name="fc", transB=1),
        helper.make_node("MatMul", ["g", "u"], ["y"], name="plain"),
    ]
    values = {
        "w": np.ones((2, 1, 3, 3)),
        "v": np.ones((3, 2)),
        "u": np.ones((3, 2)),
        "b": np.zeros(3),
        "zero": np.zeros(()),
        "in_q_s": np.asarray(0.125),
        "in_q_b": np.asarray(8),
        "w_q_s": np.asarray([0.5, 0.25]).reshape(2, 1, 1, 1),
        "w_q_b": np.asarray(weight_bits),
        "a_q_s": np.asarray(0.25),
        "a_q_b": np.asarray(4),
        "v_q_s": np.asarray(1.0),
    }
    if not constant_bits:
        del values["w_q_b"]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])]
    if not constant_bits:
        inputs.append(helper.make_tensor_value_info("w_q_b", TensorProto.FLOAT, []))
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in values.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(_DOMAIN, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), str(path))
    return path


def test_bits_signs_and_narrowness_are_read_from_the_quant_nodes(tmp_path: Path) -> None:
    conv, gemm, plain = read_bits(_write(tmp_path / "m.onnx"))
    assert conv.node == "c1"
    assert conv.weight is not None
    assert conv.act is not None
    assert (conv.weight.bits, conv.weight.signed, conv.weight.narrow) == (3, True, True)
    assert conv.weight.scale == (0.25, 0.5)
    assert (conv.act.bits, conv.act.signed, conv.act.narrow) == (8, True, False)
    assert not conv.act.zero_point
    assert gemm.act is not None
    assert gemm.act.node == "a_q"
    assert (gemm.act.bits, gemm.act.signed) == (4, False)
    assert gemm.weight is not None
    assert gemm.weight.bits == 1
    assert plain.weight is None
    assert plain.act is None
    assert plain.weight_tensor == "u"


def test_the_input_quantizer_is_found(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx")
    quant = input_quant_of(onnx.load(str(path)), "m")
    assert quant is not None
    assert (quant.node, quant.bits, quant.signed, quant.scale) == ("in_q", 8, True, (0.125, 0.125))


def test_a_width_that_is_no_constant_integer_is_refused(tmp_path: Path) -> None:
    with raises_text(
        ConfigError,
        f"Quant node 'w_q' of '{tmp_path}/m.onnx' has bit-width 2.5; it must be one "
        "constant integer (fold the constants of the graph first).",
    ):
        read_bits(_write(tmp_path / "m.onnx", weight_bits=2.5))
    with raises_text(
        ConfigError,
        f"Quant node 'w_q' of '{tmp_path}/m.onnx' has bit-width None; it must be one "
        "constant integer (fold the constants of the graph first).",
    ):
        read_bits(_write(tmp_path / "m.onnx", constant_bits=False))
