"""NetworkSpec: the shapes of a network, all that BitOPs need."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from adaqat_hw.schema._base import Record

LayerKind = Literal["conv", "depthwise", "linear", "matmul"]


class LayerSpec(Record):
    """One multiply-accumulate layer.

    ``name`` is the module path in the network, the name of its ONNX node and of its row
    in every report. ``macs`` counts multiply-accumulates for one input sample, ``weights``
    the elements of its weight tensor. Shapes carry no batch dimension.
    ``act`` names the activation quantizer whose output this layer multiplies.

    A layer of kind ``matmul`` multiplies two activations (attention): ``act`` feeds its left
    operand, ``second_act`` its right one, and it has no weights.
    """

    name: str
    kind: LayerKind
    macs: int = Field(gt=0)
    weights: int = Field(ge=0)
    in_channels: int = Field(gt=0)
    out_channels: int = Field(gt=0)
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    groups: int = 1
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    act: str = ""
    second_act: str | None = None

    @model_validator(mode="after")
    def _operands(self) -> Self:
        product = self.kind == "matmul"
        if product != (self.weights == 0) or product != (self.second_act is not None):
            raise ValueError(
                f"layer {self.name!r} of kind {self.kind!r} has {self.weights} weights and "
                f"second_act {self.second_act!r}; a matmul has no weights and a second_act, every "
                "other kind has weights and none"
            )
        return self


class NetworkSpec(Record):
    """All multiply-accumulate layers of a network in execution order.

    ``num_classes`` is None where its output is no vector of class logits.
    """

    name: str
    input_shape: tuple[int, ...]
    num_classes: int | None
    layers: tuple[LayerSpec, ...]
