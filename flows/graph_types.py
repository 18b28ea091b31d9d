"""Types of what the flow uses of qonnx and FINN, which ship none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto


class DataType(Protocol):
    """A qonnx data type, such as INT4, BIPOLAR or FLOAT32."""

    name: str

    def bitwidth(self) -> int:
        """Return the bits of one value."""

    def signed(self) -> bool:
        """Tell whether values may be negative."""

    def is_integer(self) -> bool:
        """Tell whether all values are integers."""

    def min(self) -> float:
        """Return the lowest value."""


class Transformation(Protocol):
    """A pass over a graph; FINN's and qonnx's own derive from qonnx's class of that name."""

    def apply(self, model: Any) -> tuple[Any, bool]:
        """Return the graph and whether it must be applied again."""


class Model(Protocol):
    """qonnx's ModelWrapper: an ONNX graph with data types, shapes and layouts of its tensors."""

    graph: GraphProto
    model: ModelProto

    def transform(
        self, transformation: Transformation, make_deepcopy: bool = True, cleanup: bool = True
    ) -> Model:
        """Apply a transformation until it changes nothing any more."""

    def cleanup(self) -> Model:
        """Remove unused tensors and repeated names."""

    def find_producer(self, tensor_name: str) -> NodeProto | None:
        """Return the node that puts a tensor out, None for inputs and constants."""

    def find_consumer(self, tensor_name: str) -> NodeProto | None:
        """Return the first node that reads a tensor."""

    def find_consumers(self, tensor_name: str) -> list[NodeProto]:
        """Return the nodes that read a tensor, one that reads it twice two times."""

    def is_fork_node(self, node: NodeProto) -> bool:
        """Tell whether several nodes read what a node puts out."""

    def is_join_node(self, node: NodeProto) -> bool:
        """Tell whether a node reads what several nodes put out."""

    def get_initializer(self, tensor_name: str) -> NDArray[Any] | None:
        """Return the value of a tensor that is an initializer."""

    def set_initializer(self, tensor_name: str, tensor_value: NDArray[Any]) -> None:
        """Make a tensor an initializer with this value."""

    def get_tensor_shape(self, tensor_name: str) -> list[int] | None:
        """Return the shape of a tensor, None where it is unknown."""

    def set_tensor_shape(self, tensor_name: str, tensor_shape: Sequence[int] | None) -> None:
        """Set the shape of a tensor."""

    def get_tensor_datatype(self, tensor_name: str) -> DataType:
        """Return the data type of a tensor, FLOAT32 where none is annotated."""

    def set_tensor_datatype(self, tensor_name: str, datatype: DataType | None) -> None:
        """Annotate a tensor with a data type."""

    def set_tensor_layout(self, tensor_name: str, data_layout: list[str]) -> None:
        """Annotate a tensor with a layout, such as NHWC."""

    def make_new_valueinfo_name(self) -> str:
        """Return a tensor name that is not taken."""


class CustomOp(Protocol):
    """FINN's and qonnx's view of one node: its attributes with their defaults."""

    def get_nodeattr_types(self) -> dict[str, tuple[Any, ...]]:
        """Return the type, whether it is required, and the default of every attribute."""

    def get_nodeattr(self, name: str) -> Any:
        """Return an attribute's value."""

    def set_nodeattr(self, name: str, value: object) -> None:
        """Set an attribute."""


class HardwareOp(CustomOp, Protocol):
    """FINN's view of a node of the hardware graph: its streams, estimates and RTL."""

    def get_input_datatype(self, ind: int = 0) -> DataType:
        """Return the data type of an input."""

    def get_output_datatype(self, ind: int = 0) -> DataType:
        """Return the data type of an output."""

    def get_folded_input_shape(self, ind: int = 0) -> Sequence[int]:
        """Return the shape of an input, its last dimension the values of one beat."""

    def get_folded_output_shape(self, ind: int = 0) -> Sequence[int]:
        """Return the shape of an output, its last dimension the values of one beat."""

    def get_normal_output_shape(self, ind: int = 0) -> Sequence[int]:
        """Return the shape of an output as the network has it."""

    def get_instream_width_padded(self, ind: int = 0) -> int:
        """Return the bits of an input stream, whole bytes."""

    def get_outstream_width_padded(self, ind: int = 0) -> int:
        """Return the bits of an output stream, whole bytes."""

    def get_exp_cycles(self) -> int:
        """Return the estimated clock cycles per frame."""

    def node_res_estimation(self, fpgapart: str) -> dict[str, float]:
        """Return the estimated resources by FINN's names."""

    def get_rtl_file_list(self, abspath: bool = False) -> list[str]:
        """Return the paths of the RTL files."""

    def get_verilog_top_module_name(self) -> str:
        """Return the name of the top module."""


def custom_op(node: NodeProto) -> CustomOp:
    """Return qonnx's view of a node.

    Raises:
        Exception: no operator of that name and domain is known to qonnx.
    """
    from qonnx.custom_op.registry import getCustomOp

    op: CustomOp = getCustomOp(node)
    return op


def hardware_op(node: NodeProto) -> HardwareOp:
    """Return FINN's view of a node of the hardware graph."""
    from qonnx.custom_op.registry import getCustomOp

    op: HardwareOp = getCustomOp(node)
    return op


def known_initializer(model: Model, tensor: str) -> NDArray[Any]:
    """Return the value of a tensor that is an initializer."""
    value = model.get_initializer(tensor)
    assert value is not None, f"{tensor!r} is no initializer"
    return np.asarray(value)


def known_shape(model: Model, tensor: str) -> tuple[int, ...]:
    """Return the shape of a tensor of a graph whose shapes were inferred."""
    shape = model.get_tensor_shape(tensor)
    assert shape is not None, f"the shape of {tensor!r} is unknown"
    return tuple(shape)
