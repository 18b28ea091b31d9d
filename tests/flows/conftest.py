"""Tiny QONNX networks written node by node, so that the flow is tested without training code."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw import families, tools
from adaqat_hw.schema import BuildRequest, sha256_file


class QonnxWriter:
    """Appends quantized layers to a graph."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.values: dict[str, np.ndarray] = {}
        self.shape = shape
        self.tensor = "x"

    def constant(self, value: Any) -> str:
        name = f"c{len(self.values)}"
        self.values[name] = np.asarray(value, dtype=np.float32)
        return name

    def node(
        self, op: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        out = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, list(inputs), [out], name=name, domain=domain, **attributes)
        )
        return out

    def quant(self, tensor: str, scale: Any, bits: float, *, signed: int, narrow: int = 0) -> str:
        parts = [self.constant(scale), self.constant(0.0), self.constant(bits)]
        return self.node(
            "Quant", tensor, *parts, domain="qonnx.custom_op.general",
            signed=signed, narrow=narrow, rounding_mode="ROUND",
        )  # fmt: skip

    def input_quant(self, bits: int = 4, signed: int = 1, scale: float = 0.125) -> None:
        self.tensor = self.quant(self.tensor, scale, bits, signed=signed)

    def weights(self, shape: tuple[int, ...], bits: int, scales: Any) -> str:
        high = 2 ** (bits - 1) - 1
        integers = self.rng.integers(-high, high, size=shape, endpoint=True)
        self.last_integers = integers
        return self.quant(self.constant(integers * scales), scales, bits, signed=1, narrow=1)

    def linear(
        self, inputs: int, outputs: int, name: str, bits: int = 4, *, one_scale: bool = False
    ) -> None:
        count = 1 if one_scale else outputs
        scales = self.rng.uniform(0.03, 0.07, size=(1, count)).astype(np.float32)
        self.tensor = self.node(
            "MatMul", self.tensor, self.weights((inputs, outputs), bits, scales), name=name
        )

    def conv(
        self, inputs: int, outputs: int, name: str, bits: int = 4, *, kernel: int = 3,
        stride: int = 1, groups: int = 1,
    ) -> None:  # fmt: skip
        scales = self.rng.uniform(0.03, 0.07, size=(outputs, 1, 1, 1)).astype(np.float32)
        weights = self.weights((outputs, inputs // groups, kernel, kernel), bits, scales)
        self.tensor = self.node(
            "Conv", self.tensor, weights, name=name, kernel_shape=[kernel] * 2,
            pads=[kernel // 2] * 4, strides=[stride] * 2, group=groups, dilations=[1, 1],
        )  # fmt: skip

    def add(self, left: str, right: str, name: str) -> None:
        self.tensor = self.node("Add", left, right, name=name)

    def global_pool(self) -> None:
        self.tensor = self.node("GlobalAveragePool", self.tensor)
        self.flatten()

    def relu(self, bits: int = 4, scale: float = 0.0917) -> None:
        relu = self.node("Relu", self.tensor)
        self.tensor = self.quant(relu, scale, bits, signed=0)

    def max_pool(self) -> None:
        self.tensor = self.node(
            "MaxPool", self.tensor, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4
        )

    def flatten(self) -> None:
        self.tensor = self.node("Flatten", self.tensor, axis=1)

    def model(self, outputs: int = 10) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.tensor, TensorProto.FLOAT, (1, outputs))],
            [numpy_helper.from_array(v, k) for k, v in self.values.items()],
        )
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture(scope="session")
def writer() -> type[QonnxWriter]:
    return QonnxWriter


def _mlp() -> onnx.ModelProto:
    w = QonnxWriter((1, 16))
    w.input_quant()
    w.linear(16, 8, "fc1")
    w.relu()
    w.linear(8, 10, "fc2")
    return w.model()


def _cnn() -> onnx.ModelProto:
    w = QonnxWriter((1, 2, 4, 4))
    w.input_quant(bits=3)
    w.conv(2, 4, "conv1")
    w.relu()
    w.max_pool()
    w.flatten()
    w.linear(16, 10, "fc", bits=3)
    return w.model()


def _skip() -> onnx.ModelProto:
    """A linear layer that reads a sum nobody quantizes."""
    w = QonnxWriter((1, 16))
    w.input_quant()
    w.linear(16, 16, "fc1")
    w.relu()
    before = w.tensor
    w.linear(16, 16, "fc2")
    w.relu()
    w.add(w.tensor, before, "skip")
    w.linear(16, 10, "fc3")
    return w.model()


def _residual() -> onnx.ModelProto:
    """An identity block and one with a 1x1 shortcut; every odd sum is a rounding tie."""
    w = QonnxWriter((1, 2, 4, 4))
    w.input_quant()
    w.conv(2, 4, "stem")
    w.relu(scale=0.25)
    before = w.tensor
    w.conv(4, 4, "conv1")
    w.add(w.quant(w.tensor, 0.25, 4, signed=1), w.quant(before, 0.25, 4, signed=1), "add1")
    w.relu(scale=0.5)
    before = w.tensor
    w.conv(4, 6, "conv2", stride=2)
    left, w.tensor = w.quant(w.tensor, 0.5, 3, signed=1), before
    w.conv(4, 6, "short", stride=2, kernel=1)
    w.add(left, w.quant(w.tensor, 0.5, 3, signed=1), "add2")
    w.relu(scale=1.0)
    w.global_pool()
    w.linear(6, 10, "fc")
    return w.model()


def _parameterless() -> onnx.ModelProto:
    """A shortcut of every second pixel, with a channel of zeros on both sides."""
    w = QonnxWriter((1, 2, 6, 6))
    w.input_quant()
    w.conv(2, 4, "stem")
    w.relu(scale=0.25)
    before = w.tensor
    w.conv(4, 6, "conv", stride=2)
    left = w.quant(w.tensor, 0.5, 4, signed=1)
    ends, steps, pads = np.int64([2**62, 2**62]), np.int64([2, 2]), np.int64([0, 1, 0, 0] * 2)
    w.values |= {"ends": ends, "steps": steps, "pads": pads}
    w.values |= {"starts": np.int64([0, 0]), "axes": np.int64([2, 3])}
    pixels = w.node("Slice", before, "starts", "ends", "axes", "steps", name="pixels")
    padded = w.node("Pad", pixels, "pads", name="channels")
    w.add(left, w.quant(padded, 0.5, 4, signed=1), "add")
    w.relu(scale=0.5)
    w.global_pool()
    w.linear(6, 10, "fc")
    return w.model()


def _depthwise() -> onnx.ModelProto:
    w = QonnxWriter((1, 2, 4, 4))
    w.input_quant()
    w.conv(2, 4, "stem")
    w.relu()
    w.conv(4, 4, "depth", bits=3, groups=4)
    w.relu()
    w.conv(4, 6, "point", kernel=1)
    w.relu()
    w.global_pool()
    w.linear(6, 10, "fc")
    return w.model()


def _average() -> onnx.ModelProto:
    """An average pool with a truncation of its sum."""
    w = QonnxWriter((1, 2, 4, 4))
    w.input_quant()
    w.conv(2, 4, "conv")
    w.relu(scale=0.125)
    mean = w.node("AveragePool", w.tensor, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    total = w.node("Mul", mean, w.constant(4.0))
    constants = [w.constant(x) for x in (0.125, 0.0, 6.0, 4.0)]
    w.tensor = w.node(
        "Trunc", total, *constants, domain="qonnx.custom_op.general", rounding_mode="FLOOR"
    )
    w.flatten()
    w.linear(16, 10, "fc")
    return w.model()


def _label() -> onnx.ModelProto:
    """The network itself puts out the index of the largest logit."""
    w = QonnxWriter((1, 16))
    w.input_quant()
    w.linear(16, 10, "fc", one_scale=True)
    w.values["k"] = np.array([1], dtype=np.int64)
    w.nodes.append(helper.make_node("TopK", [w.tensor, "k"], ["value", "index"], name="top"))
    w.tensor = "index"
    model = w.model(outputs=1)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def _clash() -> onnx.ModelProto:
    """Two additions whose sides have different scales."""
    w = QonnxWriter((1, 16))
    w.input_quant()
    for k in (1, 2):
        w.linear(16, 16, f"fc{k}")
        w.relu(scale=0.25)
        before = w.tensor
        w.linear(16, 16, f"wide{k}")
        w.relu(scale=0.3)
        w.add(w.tensor, before, f"skip{k}")
        w.relu()
    w.linear(16, 10, "fc")
    return w.model()


@pytest.fixture(scope="session")
def networks() -> dict[str, Callable[[], onnx.ModelProto]]:
    return {
        "mlp": _mlp, "cnn": _cnn, "skip": _skip, "residual": _residual,
        "parameterless": _parameterless, "depthwise": _depthwise,
        "average": _average, "label": _label, "clash": _clash,
    }  # fmt: skip


@pytest.fixture(scope="session")
def make_request(networks) -> Callable[..., BuildRequest]:
    """Write a network and its golden frames, and return the request for it."""

    def make(folder: Path, name: str, **changes: Any) -> BuildRequest:
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.infer_shapes import InferShapes

        model = networks[name]()
        path, golden = folder / f"{name}.onnx", folder / f"{name}.npz"
        onnx.save(model, path)
        wrapper = ModelWrapper(model).transform(InferShapes())
        shape = wrapper.get_tensor_shape("x")
        frames = np.random.default_rng(7).uniform(-1, 1, size=(12, *shape[1:])).astype(np.float32)
        out = model.graph.output[0].name
        logits = np.concatenate([execute_onnx(wrapper, {"x": f[None]})[out] for f in frames])
        np.savez(golden, inputs=frames, logits=logits, labels=logits.argmax(axis=1))
        facts: dict[str, Any] = {
            "model": str(path), "model_sha256": sha256_file(path), "network": name,
            "variant": "qonnx",
            "board": "test", "part": "xczu3eg-sbva484-1-e", "dsp": families.load("xcup").dsp,
            "clock_ns": 5.0, "goal": "rtl", "golden": str(golden),
            "golden_sha256": sha256_file(golden),
        }  # fmt: skip
        return BuildRequest(**(facts | changes))

    return make


@pytest.fixture
def flow_module() -> Callable[[str], ModuleType]:
    """Import a module of flows/."""
    return lambda name: importlib.import_module(f"flows.{name}")


@pytest.fixture(scope="session")
def finn() -> Path:
    """The interpreter of the FINN environment, or a skip with the reason."""
    python = tools.finn_environment() / "bin" / "python"
    if not os.access(python, os.X_OK):
        pytest.skip(f"no FINN environment in {tools.finn_environment()}: adaqat-hw env create")
    return python
