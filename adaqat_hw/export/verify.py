"""Verify an exported file: bits read back equal the plan, and it computes what PyTorch does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.change_batchsize import ChangeBatchSize
from qonnx.transformation.infer_shapes import InferShapes

from adaqat_hw.errors import ExportMismatch
from adaqat_hw.export.inspect import NodeBits, QuantNode, free_bits, join_bits, read_graph_bits
from adaqat_hw.schema import BitWidthPlan, LayerBits

Array = np.ndarray[Any, Any]
# Two logits closer than this, relative to the largest one, are a tie that rounding may decide.
TIE = 1e-5
# More decisions than this share cannot all be lost to rounding; a few always can on few samples.
MOST_TIES = 0.02
_FEW_TIES = 3
_REPORT = "this is a fault of the export, please report it"
_MEMORY_BYTES = 256 * 2**20
_LARGEST_BATCH = 256
_COMPARED = (
    *("weight_bits", "act_bits", "weight_signed", "weight_narrow", "act_signed"),
    *("second_act_bits", "second_act_signed"),
)


def check_bits(model: onnx.ModelProto, plan: BitWidthPlan, source: str) -> tuple[LayerBits, ...]:
    """Return the widths read from the Quant nodes, in graph order, after comparing to ``plan``.

    Raises:
        ExportMismatch: a layer's width, sign or narrowness differs, naming the first such layer.
    """
    nodes = {bits.node: bits for bits in read_graph_bits(model, source)}
    planned = {row.layer: row for row in plan.layers}
    if set(nodes) != set(planned):
        raise ExportMismatch(
            f"{source!r} has the layers {sorted(nodes)!r}, the plan {sorted(planned)!r}; export "
            "the network that the plan was learned on."
        )
    rows = tuple(_row(bits, planned[name]) for name, bits in nodes.items())
    for row in rows:
        _compare(row, planned[row.layer])
    _check_joins(model, plan, source)
    return rows


def _row(bits: NodeBits, planned: LayerBits) -> LayerBits:
    act = _present(bits.act, bits.node, "activations")
    if bits.product:
        second = _present(bits.second, bits.node, "second activations")
        return LayerBits(
            layer=bits.node,
            act_bits=act.bits,
            act_signed=act.signed,
            act=planned.act,
            second_act_bits=second.bits,
            second_act_signed=second.signed,
            second_act=planned.second_act or "",
        )
    weight = _present(bits.weight, bits.node, "weights")
    return LayerBits(
        layer=bits.node,
        weight_bits=weight.bits,
        act_bits=act.bits,
        weight_signed=weight.signed,
        weight_narrow=weight.narrow,
        act_signed=act.signed,
        act=planned.act,
    )


def _present(quant: QuantNode | None, layer: str, tensors: str) -> QuantNode:
    if quant is None:
        raise ExportMismatch(
            f"The {tensors} of layer {layer!r} have no Quant node in the graph; {_REPORT}."
        )
    if quant.zero_point:
        raise ExportMismatch(
            f"The {tensors} of layer {layer!r} have a zero point other than 0 in the graph, which "
            "the hardware cannot compute; use a symmetric quantizer."
        )
    return quant


def _compare(exported: LayerBits, planned: LayerBits) -> None:
    for field in _COMPARED:
        have, want = getattr(exported, field), getattr(planned, field)
        if have != want:
            raise ExportMismatch(
                f"Layer {exported.layer!r} has {field} = {have!r} in the exported graph and "
                f"{want!r} in the plan; {_REPORT}."
            )


def _check_joins(model: onnx.ModelProto, plan: BitWidthPlan, source: str) -> None:
    adds, others = sorted(join_bits(model, source)), sorted(free_bits(model, source))
    planned = sorted((row.bits, row.signed) for row in plan.joins)
    # A join that a layer reads as well is listed with that layer, so the plan may name fewer.
    if Counter(planned) - Counter([*adds, *others]):
        rest = f" and other quantizers that no layer reads {others!r}" if others else ""
        raise ExportMismatch(
            f"The residual adds of the exported graph have (bits, signed) {adds!r}{rest}, the "
            f"plan's joins {planned!r}; {_REPORT}."
        )


@dataclass(frozen=True)
class Agreement:
    """PyTorch against QONNX execution on ``samples`` inputs.

    ``mismatches`` counts samples whose most likely class differs though PyTorch's logits are no
    tie; ``ties`` those that differ on a tie, or by no more than rounding explains. Where the
    output is no vector of class logits, ``argmax_agreement`` is None and values are compared:
    ``mismatches`` counts samples that differ by more than float arithmetic does, ``ties`` those of
    them where rounding explains it.
    """

    samples: int
    max_abs_error: float
    argmax_agreement: float | None
    mismatches: int
    ties: int


def compare_logits(expected: Array, logits: Array, noise: Array | None = None) -> Agreement:
    """Compare logits (n, classes) of PyTorch with those of the graph.

    ``noise`` (n,) is how far float noise moves a logit of each sample
    (:func:`adaqat_hw.export.rounding.rounding_noise`): two logits closer than twice that are a
    tie as well.
    """
    first, second = expected.argmax(axis=1), logits.argmax(axis=1)
    rows = np.arange(len(expected))
    gap = expected[rows, first] - expected[rows, second]
    differs = first != second
    close = TIE * np.maximum(1.0, np.abs(expected).max(axis=1))
    tied = differs & (gap <= (close if noise is None else np.maximum(close, 2 * noise)))
    return Agreement(
        samples=len(expected),
        max_abs_error=float(np.abs(expected - logits).max()),
        argmax_agreement=float(1.0 - differs.mean()),
        mismatches=int((differs & ~tied).sum()),
        ties=int(tied.sum()),
    )


def compare_values(expected: Array, outputs: Array, noise: Array) -> Agreement:
    """Compare outputs (n, ...) of PyTorch that are no class logits with those of the graph.

    ``noise`` (n,) as in :func:`compare_logits`: a sample may differ by twice that.
    """
    rows = len(expected)
    error = np.abs(expected - outputs).reshape(rows, -1).max(axis=1)
    size = np.abs(expected).reshape(rows, -1).max(axis=1)
    with np.errstate(invalid="ignore"):
        differs = ~(error <= TIE * np.maximum(1.0, size))
        tied = differs & (error <= 2 * noise)
    return Agreement(
        samples=rows,
        max_abs_error=float(error.max()),
        argmax_agreement=None,
        mismatches=int((differs & ~tied).sum()),
        ties=int(tied.sum()),
    )


def require_agreement(agreement: Agreement) -> None:
    """Raise ExportMismatch when the graph decides differently from PyTorch."""
    values = agreement.argmax_agreement is None
    verb = "puts out something else than" if values else "decides differently from"
    if agreement.mismatches or not np.isfinite(agreement.max_abs_error):
        raise ExportMismatch(
            f"The exported graph {verb} PyTorch on {agreement.mismatches} of "
            f"{agreement.samples} test samples (largest {'error' if values else 'logit error'} "
            f"{agreement.max_abs_error:.3g}); {_REPORT}."
        )
    if agreement.ties > max(_FEW_TIES, MOST_TIES * agreement.samples):
        raise ExportMismatch(
            f"The exported graph {verb} PyTorch on {agreement.ties} of "
            f"{agreement.samples} test samples where rounding may decide; that is more than "
            f"{MOST_TIES:.0%} and no chance: train the network further, or report it."
        )


def run_graph(
    path: str,
    x: Array,
    *,
    batch: int | None = None,
    tick: Callable[[int], None] | None = None,
) -> Array:
    """Execute a QONNX file on inputs (n, ...) and return its first output (n, ...).

    Runs whole batches where the graph can be rewritten for them, else sample by sample.

    Args:
        path: the file.
        x: inputs, float32 or int64 as the graph's, without regard to its own batch size of 1.
        batch: samples per execution; None takes as many as fit into about 256 MiB.
        tick: called with the number of samples done.
    """
    if batch is None:
        batch = _batch_for_memory(ModelWrapper(path))
    outputs: list[Array] = []
    models: dict[int, ModelWrapper] = {}
    done = 0
    while done < len(x):
        size = min(batch, len(x) - done)
        if size not in models:
            models[size] = _rebatched(path, size)
        if models[size] is None:
            batch = 1
            continue
        outputs.append(_execute(models[size], x[done : done + size]))
        done += size
        if tick is not None:
            tick(done)
    return np.concatenate(outputs)


def _batch_for_memory(model: ModelWrapper) -> int:
    """Return how many samples fit: execution keeps every tensor of the graph."""
    elements = 0
    for name in model.get_all_tensor_names():
        if model.get_initializer(name) is None:
            elements += math.prod(model.get_tensor_shape(name) or ())
    return max(1, min(_LARGEST_BATCH, _MEMORY_BYTES // (4 * max(1, elements))))


def _rebatched(path: str, size: int) -> Any:
    """Return the graph for ``size`` samples, or None when its shapes do not follow."""
    model = ModelWrapper(path)
    if size == 1:
        return model
    outputs = [tuple(model.get_tensor_shape(o.name)) for o in model.graph.output]
    try:
        model = model.transform(ChangeBatchSize(size)).transform(InferShapes())
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, AssertionError):
        return None
    for output, before in zip(model.graph.output, outputs, strict=True):
        if tuple(model.get_tensor_shape(output.name) or ()) != (size, *before[1:]):
            return None
    return model if model.check_all_tensor_shapes_specified() else None


def _execute(model: ModelWrapper, x: Array) -> Array:
    entry = model.graph.input[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    result = execute_onnx(model, {entry.name: x.astype(dtype)})
    return np.asarray(result[model.graph.output[0].name])
