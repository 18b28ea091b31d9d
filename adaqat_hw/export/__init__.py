"""Export to QONNX, with the bits read back and the graph executed against PyTorch."""

from adaqat_hw.export.inspect import NodeBits, QuantNode, read_bits
from adaqat_hw.export.network import export_qonnx
from adaqat_hw.export.stage import export

__all__ = ["NodeBits", "QuantNode", "export", "export_qonnx", "read_bits"]
