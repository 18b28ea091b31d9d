"""Transformations of streamlining that FINN does not have."""

from __future__ import annotations

from qonnx.transformation.base import Transformation

from flows.graph_types import Model


class MoveScalarAddPastMaxPool(Transformation):  # type: ignore[misc]
    """Move the addition of one constant past a max pool: the largest stays the largest."""

    def apply(self, model: Model) -> tuple[Model, bool]:
        """Swap every such pair; tell whether there was one."""
        swapped = False
        for node in [n for n in model.graph.node if n.op_type == "Add"]:
            if model.is_fork_node(node) or model.is_join_node(node):
                continue
            pool = model.find_consumer(node.output[0])
            value = model.get_initializer(node.input[1])
            if pool is None or pool.op_type != "MaxPool" or value is None or value.size != 1:
                continue
            source, between, target = node.input[0], node.output[0], pool.output[0]
            pooled = model.get_tensor_shape(target)
            model.graph.node.remove(node)
            pool.input[0], pool.output[0] = source, between
            node.input[0], node.output[0] = between, target
            model.graph.node.insert(list(model.graph.node).index(pool) + 1, node)
            model.set_tensor_shape(between, pooled)
            swapped = True
        return model, swapped
