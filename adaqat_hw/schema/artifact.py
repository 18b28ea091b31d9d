"""QonnxArtifact: an exported network with the evidence that it is right."""

from __future__ import annotations

from adaqat_hw.schema._base import Record
from adaqat_hw.schema.plan import LayerBits


class InputQuant(Record):
    """The network's input quantizer: value = scale * integer."""

    bits: int
    signed: bool
    scale: float


class QonnxArtifact(Record):
    """A QONNX file and what was verified about it.

    Paths are relative to the folder that holds this record. ``bits_in_graph`` is read back
    from the Quant nodes of the written file. ``golden`` is an .npz with ``inputs``
    (n, ...) float32, ``logits`` (n, classes) float32 from PyTorch and ``labels`` (n,) int64.
    ``max_abs_error`` and ``argmax_agreement`` compare PyTorch with QONNX execution on
    ``samples`` test inputs.
    """

    file: str
    sha256: str
    network: str
    plan_digest: str
    input_shape: tuple[int, ...]
    num_classes: int
    input_quant: InputQuant | None
    bits_in_graph: tuple[LayerBits, ...]
    golden: str | None
    golden_sha256: str | None
    samples: int
    max_abs_error: float | None
    argmax_agreement: float | None
    tool_versions: dict[str, str]
