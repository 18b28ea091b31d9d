"""Streamline: move scales and biases into thresholds, also through residual networks.

FINN's own Streamline (arXiv 1709.04060) stops at a fork and at a join. Here it alternates with
the moves past forks, past additions and past pooling, until nothing changes any more.
"""

from __future__ import annotations

from flows.flow_state import FlowError, FlowState
from flows.graph_types import Model, Transformation

# Each round lets scales pass one more join; far more than the residual blocks of any network.
_MAX_ROUNDS = 100


def streamline(state: FlowState) -> None:
    """Streamline ``state.model`` and lower its convolutions to matrix products (NHWC)."""
    from finn.transformation.streamline import absorb, reorder
    from qonnx.transformation.general import RemoveUnusedTensors
    from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul

    model = _apply(state.model, (*_tidying(),))
    scales = _scale_moves()
    model = _fixed_point(model, scales)
    if any(n.op_type == "Conv" for n in model.graph.node):
        model = _apply(model, (LowerConvsToMatMul(), *_tidying()))
    model = _fixed_point(
        model,
        (
            reorder.MakeMaxPoolNHWC(),
            absorb.AbsorbTransposeIntoMultiThreshold(),
            reorder.MoveTransposePastFork(),
            reorder.MoveTransposePastJoinAdd(),
            reorder.MoveTransposePastScalarMul(),
            absorb.AbsorbConsecutiveTransposes(),
        ),
    )
    model = _pool_globally(model)
    model = _fixed_point(model, scales)
    state.model = _apply(
        model, (absorb.AbsorbScalarMulAddIntoTopK(), RemoveUnusedTensors(), *_tidying())
    )


def _scale_moves() -> tuple[Transformation, ...]:
    """Return FINN's streamlining in its order, and the moves past forks and joins."""
    from finn.transformation.streamline import absorb, collapse_repeated, reorder, sign_to_thres
    from qonnx.transformation.batchnorm_to_affine import BatchNormToAffine
    from qonnx.transformation.general import ConvertDivToMul, ConvertSubToAdd

    from flows.streamline_transforms import MoveScalarAddPastMaxPool

    return (
        ConvertSubToAdd(),
        ConvertDivToMul(),
        BatchNormToAffine(),
        sign_to_thres.ConvertSignToThres(),
        reorder.MoveMulPastMaxPool(),
        absorb.AbsorbScalarBiasIntoMultiThreshold(),
        reorder.MoveScalesPastIm2Col(),
        reorder.MoveScalarLinearPastInvariants(),
        reorder.MoveAddPastMul(),
        reorder.MoveScalarAddPastMatMul(),
        reorder.MoveAddPastConv(),
        reorder.MoveScalarMulPastMatMul(),
        reorder.MoveScalarMulPastConv(),
        reorder.MoveAddPastMul(),
        collapse_repeated.CollapseRepeatedAdd(),
        collapse_repeated.CollapseRepeatedMul(),
        reorder.MoveMulPastMaxPool(),
        MoveScalarAddPastMaxPool(),
        absorb.AbsorbAddIntoMultiThreshold(),
        absorb.FactorOutMulSignMagnitude(),
        absorb.AbsorbMulIntoMultiThreshold(),
        absorb.Absorb1BitMulIntoMatMul(),
        absorb.Absorb1BitMulIntoConv(),
        reorder.MoveLinearPastFork(),
        reorder.MoveLinearPastEltwiseAdd(),
    )


def _pool_globally(model: Model) -> Model:
    """Turn global average pools into sums (a hardware layer) and a scale, in NHWC."""
    from finn.transformation.fpgadataflow.convert_to_hw.global_acc_pool import (
        InferGlobalAccPoolLayer,
    )
    from finn.transformation.streamline import absorb, reorder

    if not any(n.op_type == "GlobalAveragePool" for n in model.graph.node):
        return model
    model = _apply(model, (InferGlobalAccPoolLayer(), *_tidying()))
    return _fixed_point(
        model,
        (
            absorb.AbsorbConsecutiveTransposes(),
            reorder.MoveTransposePastScalarMul(),
            absorb.AbsorbTransposeIntoMultiThreshold(),
            absorb.AbsorbTransposeIntoFlatten(),
        ),
    )


def _inference() -> tuple[Transformation, ...]:
    from qonnx.transformation.infer_data_layouts import InferDataLayouts
    from qonnx.transformation.infer_datatypes import InferDataTypes
    from qonnx.transformation.infer_shapes import InferShapes
    from qonnx.transformation.remove import RemoveIdentityOps

    return (RemoveIdentityOps(), InferShapes(), InferDataTypes(), InferDataLayouts())


def _tidying() -> tuple[Transformation, ...]:
    from qonnx.transformation.general import (
        GiveReadableTensorNames,
        GiveUniqueNodeNames,
        SortGraph,
    )

    return (SortGraph(), GiveUniqueNodeNames(), GiveReadableTensorNames(), *_inference())


def _apply(model: Model, transformations: tuple[Transformation, ...]) -> Model:
    # Copying and cleaning up after each, qonnx's default, takes most of the time.
    for transformation in transformations:
        model = model.transform(transformation, make_deepcopy=False, cleanup=False)
    return model.cleanup()


def _fixed_point(model: Model, transformations: tuple[Transformation, ...]) -> Model:
    """Apply transformations one after another, tidying after each change, to a fixed point."""
    for _ in range(_MAX_ROUNDS):
        start = _form(model)
        for transformation in transformations:
            before = _form(model)
            model = model.transform(transformation, make_deepcopy=False, cleanup=False)
            if _form(model) != before:
                model = _apply(model, _inference())
        if _form(model) == start:
            return _apply(model, _tidying())
    raise FlowError(f"streamlining still changed the graph after {_MAX_ROUNDS} rounds")


def _form(model: Model) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node]
