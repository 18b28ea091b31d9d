"""DuplicateStreams: several copies of a stream (hw/rtl/duplicate)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from adaqat_hw.rtl.ops._protocol import (
    Facts,
    Features,
    HardwareOperator,
    Parameters,
    Sample,
    ValueRange,
)
from adaqat_hw.rtl.ops._samples import sample_node, sizes
from adaqat_hw.rtl.packing import IntArray, require_range
from adaqat_hw.rtl.verilog_writer import (
    NodeRtl,
    expect,
    instance,
    node_module,
    require_ports,
    require_same_type,
    through,
)
from adaqat_hw.schema import Family, HardwareNode
from adaqat_hw.schema.operators import DUPLICATE


class _Duplicate(HardwareOperator):
    record = DUPLICATE

    def reference(self, node: HardwareNode, parameters: Parameters, *inputs: IntArray) -> IntArray:
        """Return the tensor that all outputs carry."""
        return require_range(inputs[0], node.outputs[0].dtype, f"{node.op} input")

    def ranges(
        self, node: HardwareNode, parameters: Parameters, *inputs: ValueRange
    ) -> ValueRange:  # fmt: skip
        return inputs[0]

    def verilog(
        self,
        node: HardwareNode,
        module: str,
        parameters: Parameters,
        data_files: Mapping[str, Path],
    ) -> NodeRtl:
        """Write one data bus with one handshake per output."""
        require_ports(node)
        count = node.output_count
        source = node.inputs[0]
        for target in node.outputs:
            expect(node, target.elements == source.elements, "its input", target)
            require_same_type(node, source.dtype, target.dtype)

        def joined(end: str) -> str:
            return "{" + ", ".join(f"out{k}_V_{end}" for k in reversed(range(count))) + "}"

        ports = {key: value for key, value in through(node).items() if not key.startswith("out")}
        ports |= {f"out_V_{end}": joined(end) for end in ("TVALID", "TREADY")}
        ports["out_V_TDATA"] = "data"
        values = {"PE": source.elements, "WIDTH": source.dtype.bits, "OUTPUTS": count}
        body = f"  logic [{source.width - 1}:0] data;\n\n"
        body += instance("adq_duplicate", "core", values, ports) + "\n"
        body += "".join(f"  assign out{k}_V_TDATA = data;\n" for k in range(count))
        return NodeRtl(module, node_module(node, module, body), ("adq_duplicate",))

    def features(self, facts: Facts, impl: str | None, family: Family) -> Features:
        width = facts["in_elements"] * facts["in_bits"]
        return {"width": width, "outputs": facts["outputs"], "bram_18k": 0}

    def samples(self, count: int, seed: int) -> Iterator[Sample]:
        for bits, pe, channels in sizes():
            size = (bits, pe, channels)
            yield (
                sample_node(
                    DUPLICATE, size, size, copies=2, NumOutputStreams=2, NumChannels=channels, PE=pe
                ),
                {},
            )


OPERATOR = _Duplicate()
