"""NetworkSpec: the shapes of a network, all that BitOPs need."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adaqat_hw.schema._base import Record

LayerKind = Literal["conv", "depthwise", "linear"]


class LayerSpec(Record):
    """One multiply-accumulate layer.

    ``name`` is the module path in the network, the name of its ONNX node and of its row
    in every report. ``macs`` counts multiply-accumulates for one input sample, ``weights``
    the elements of its weight tensor. Shapes carry no batch dimension.
    ``act`` names the activation quantizer whose output this layer multiplies.
    """

    name: str
    kind: LayerKind
    macs: int = Field(gt=0)
    weights: int = Field(gt=0)
    in_channels: int = Field(gt=0)
    out_channels: int = Field(gt=0)
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    groups: int = 1
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    act: str = ""


class NetworkSpec(Record):
    """All multiply-accumulate layers of a network in execution order."""

    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    layers: tuple[LayerSpec, ...]
