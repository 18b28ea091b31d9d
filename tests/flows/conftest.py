"""Tiny QONNX networks written node by node, so that the flow is tested without training code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adaqat_hw import tools
from adaqat_hw.resources import flows_dir
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

    def linear(self, inputs: int, outputs: int, name: str, bits: int = 4) -> None:
        scales = self.rng.uniform(0.03, 0.07, size=(1, outputs)).astype(np.float32)
        self.tensor = self.node(
            "MatMul", self.tensor, self.weights((inputs, outputs), bits, scales), name=name
        )

    def conv(self, inputs: int, outputs: int, name: str, bits: int = 4, pad: int = 1) -> None:
        scales = self.rng.uniform(0.03, 0.07, size=(outputs, 1, 1, 1)).astype(np.float32)
        weights = self.weights((outputs, inputs, 3, 3), bits, scales)
        self.tensor = self.node(
            "Conv", self.tensor, weights, name=name, kernel_shape=[3, 3], pads=[pad] * 4,
            strides=[1, 1], group=1, dilations=[1, 1],
        )  # fmt: skip

    def relu(self, bits: int = 4) -> None:
        relu = self.node("Relu", self.tensor)
        self.tensor = self.quant(relu, 0.0917, bits, signed=0)

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
    w.input_quant(bits=4)
    w.conv(2, 4, "conv1")
    w.relu()
    w.max_pool()
    w.flatten()
    w.linear(16, 10, "fc", bits=3)
    return w.model()


def _residual() -> onnx.ModelProto:
    w = QonnxWriter((1, 16))
    w.input_quant()
    w.linear(16, 16, "fc1")
    w.relu()
    before = w.tensor
    w.linear(16, 16, "fc2")
    w.relu()
    w.tensor = w.node("Add", w.tensor, before, name="skip")
    w.linear(16, 10, "fc3")
    return w.model()


@pytest.fixture(scope="session")
def networks() -> dict[str, Callable[[], onnx.ModelProto]]:
    return {"mlp": _mlp, "cnn": _cnn, "residual": _residual}


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
            "board": "test", "part": "xczu3eg-sbva484-1-e", "dsp_block": "DSP48E2",
            "clock_ns": 5.0, "goal": "rtl", "golden": str(golden),
            "golden_sha256": sha256_file(golden),
        }  # fmt: skip
        return BuildRequest(**(facts | changes))

    return make


@pytest.fixture
def flow_module() -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of flows/, which is no package, and forget it again."""
    folder = str(flows_dir())
    before = set(sys.modules)
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(folder):
            del sys.modules[name]


@pytest.fixture(scope="session")
def finn() -> Path:
    """The interpreter of the FINN environment, or a skip with the reason."""
    python = tools.finn_environment() / "bin" / "python"
    if not os.access(python, os.X_OK):
        pytest.skip(f"no FINN environment in {tools.finn_environment()}: adaqat-hw env create")
    return python
