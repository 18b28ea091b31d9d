"""The hardware side: integer reference models, stitching, simulation and synthesis of RTL.

Needs no torch and no FINN. Verilator and Yosys run as child processes.
"""

from adaqat_hw.rtl.cells import CellCount, count_cells
from adaqat_hw.rtl.finn_patches import FINN_PATCHES, FinnPatch, patch_file, patch_text
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.rtl.packing import (
    hex_lines,
    mvau_weight_words,
    pack_words,
    padded_width,
    unpack_words,
    write_hex,
)
from adaqat_hw.rtl.stitch import RtlUnit, StitchedDesign, stitch
from adaqat_hw.rtl.synthesize import (
    SynthesisJob,
    SynthesisResult,
    synthesize,
    synthesize_many,
    yosys_version,
)
from adaqat_hw.rtl.verilate import Simulator, Stall, StreamRun

__all__ = [
    "FINN_PATCHES",
    "CellCount",
    "FinnPatch",
    "IntegerModel",
    "RtlUnit",
    "Simulator",
    "Stall",
    "StitchedDesign",
    "StreamRun",
    "SynthesisJob",
    "SynthesisResult",
    "count_cells",
    "hex_lines",
    "mvau_weight_words",
    "pack_words",
    "padded_width",
    "patch_file",
    "patch_text",
    "stitch",
    "synthesize",
    "synthesize_many",
    "unpack_words",
    "write_hex",
    "yosys_version",
]
