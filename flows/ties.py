"""Tell a rounding tie from a wrong build, for golden frames whose logits differ.

FINN turns a quantizer into thresholds, which round a value exactly between two levels up; the
quantizer rounds it to even. A value that float noise moves across such a point does the same. A
frame that differs for this reason alone agrees with the QONNX file once every activation is
moved by a ten-thousandth of a level, up or down; a wrong build does not.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_state import FlowError
from network import constant_of

NUDGE = 1e-4


def nudged_logits(model: Any, inputs: NDArray[np.float32], direction: int) -> NDArray[np.float64]:
    """Execute the QONNX file with every inner activation moved towards the next level.

    Args:
        model: ModelWrapper of the file, with one input.
        inputs: (n, ...) float frames.
        direction: 1 for up, -1 for down, 0 for the file as it is.

    Returns:
        (n, classes) logits.
    """
    from qonnx.core.onnx_exec import execute_onnx

    moved = _nudged(model, direction * NUDGE)
    source, target = moved.graph.input[0].name, moved.graph.output[0].name
    rows = [execute_onnx(moved, {source: frame[np.newaxis]})[target] for frame in inputs]
    return np.concatenate([np.asarray(r, dtype=np.float64).reshape(1, -1) for r in rows])


def _nudged(model: Any, levels: float) -> Any:
    from onnx import TensorProto, helper
    from qonnx.transformation.infer_shapes import InferShapes

    moved = deepcopy(model).transform(InferShapes())
    entry = moved.graph.input[0].name
    for node in [n for n in moved.graph.node if n.op_type in ("Quant", "IntQuant")]:
        tensor = node.input[0]
        if tensor == entry or constant_of(moved, tensor) is not None:
            continue
        scale, shape = constant_of(moved, node.input[1]), moved.get_tensor_shape(tensor)
        if scale is None or shape is None:
            raise FlowError(f"the scale or the shape of quantizer {node.name!r} is unknown")
        offset, output = f"{node.output[0]}_nudge", f"{node.output[0]}_nudged"
        moved.graph.value_info.append(
            helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        )
        moved.set_initializer(offset, (scale * levels).astype(np.float32))
        add = helper.make_node("Add", [tensor, offset], [output], name=f"{output}_add")
        node.input[0] = output
        moved.graph.node.insert(list(moved.graph.node).index(node), add)
    return moved
