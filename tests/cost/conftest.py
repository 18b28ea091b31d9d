"""A small unfolded network and a made-up cost model, for tests of the folding search."""

from __future__ import annotations

import pytest

from adaqat_hw.cost.hardware_cost import HardwareCostModel, ResourceFit
from adaqat_hw.schema import HardwareGraph, HardwareNode, HostInterface, IntType, Resources, Stream

WIDTHS = {
    "MVAU/lut": {"lut": {"gates": 1.4, "accumulators": 0.6, "one": 5}, "ff": {"outputs": 2}},
    "MVAU/dsp": {"lut": {"macs": 3, "one": 40}, "ff": {"macs": 15, "one": 60}},
    "Thresholding": {"lut": {"compared": 0.3, "one": 30}, "ff": {"compared": 2.5}},
    "ConvolutionInputGenerator": {"lut": {"width": 2, "one": 150}, "ff": {"width": 3, "one": 60}},
    "Pool": {"lut": {"compared": 1.5, "one": 24}, "ff": {"compared": 2}},
    "StreamingFIFO": {"lut": {"width": 1, "one": 10}, "ff": {"width": 5}},
    "StreamingDataWidthConverter": {"lut": {"in": 1, "out": 1, "one": 20}, "ff": {"out": 2}},
}


def _stream(name, bits, channels, beats, signed=False):
    dtype = IntType(bits=bits, signed=signed)
    return Stream(name=name, dtype=dtype, folded_shape=(1, beats, channels, 1))


def _node(name, op, layer, source, target, cycles, impl=None, **attributes):
    return HardwareNode(
        name=name, op=op, backend="rtl", layer=layer, generator="finn", impl=impl,
        inputs=(source,), outputs=(target,), cycles=cycles, estimate=Resources(),
        attributes=attributes,
        parameters={"weights": f"{name}__weights"} if op == "MVAU" else {},
    )  # fmt: skip


def _graph():
    """3x3 window over 2 channels of 6x6, MVAU 18x4, thresholds, 2x2 pool, MVAU 16x3."""
    streams = [
        _stream("in", 4, 2, 36), _stream("window", 4, 18, 16), _stream("sums", 11, 4, 16, True),
        _stream("acts", 3, 4, 16), _stream("quads", 3, 16, 4), _stream("best", 3, 4, 4),
        _stream("out", 10, 3, 1, True),
    ]  # fmt: skip
    window = {"Stride": (1, 1), "ConvKernelDim": (3, 3), "IFMDim": (6, 6), "OFMDim": (4, 4)}
    pool = {"Stride": (2, 2), "ConvKernelDim": (2, 2), "IFMDim": (4, 4), "OFMDim": (2, 2)}
    chain = [
        ("Window_0", "ConvolutionInputGenerator", "conv", 318, {"IFMChannels": 2, **window}),
        ("MVAU_hls_0", "MVAU", "conv", 1152, {"MW": 18, "MH": 4, "weight_bits": 4}),
        ("Thresholding_0", "Thresholding", "conv", 64, {"NumChannels": 4}),
        (
            *("Window_1", "ConvolutionInputGenerator", "pool", 108),
            {"IFMChannels": 4, "depthwise": 1, **pool},
        ),
        ("Pool_0", "Pool", "pool", 64, {"Channels": 4, "KernelSize": (2, 2)}),
        ("MVAU_hls_1", "MVAU", "fc", 48, {"MW": 16, "MH": 3, "weight_bits": 8}),
    ]
    folds = {"MVAU": ("PE", "SIMD"), "ConvolutionInputGenerator": ("SIMD",)}
    nodes = tuple(
        _node(
            *(name, op, layer, streams[k], streams[k + 1], cycles),
            impl="lut" if op == "MVAU" else None,
            **attributes,
            **dict.fromkeys(folds.get(op, ("PE",)), 1),
        )
        for k, (name, op, layer, cycles, attributes) in enumerate(chain)
    )
    host = HostInterface(
        input_scale=1.0, input_dtype=streams[0].dtype, input_nchw=True, input_shape=(1, 6, 6, 2),
        output_shape=(1, 3), output_dtype=streams[-1].dtype, output_scale=(1.0,),
        output_bias=(0.0,),
    )  # fmt: skip
    return HardwareGraph(
        network="small", part="xc7z020clg400-1", clock_ns=10.0, nodes=nodes,
        input_stream=streams[0], output_stream=streams[-1], host=host,
        parameters_file="params.npz", parameters_sha256="", golden_file="golden.npz",
        golden_sha256="", cycles_estimated=1152, fps_estimated=86805.5,
    )  # fmt: skip


@pytest.fixture(scope="session")
def small_graph():
    """An unfolded network of six nodes with shapes small enough to try every folding."""
    return _graph()


@pytest.fixture(scope="session")
def made_up_model():
    """A cost model with round coefficients and 10 % error."""
    fits = [
        ResourceFit(
            kind=kind, resource=name, coefficients=rows.get(name, {}), n=9, loo_mape=0.08,
            loo_rms=0.0 if name in ("dsp", "bram_18k") else 0.1,
        )
        for kind, rows in WIDTHS.items()
        for name in ("lut", "ff", "dsp", "bram_18k")
    ]  # fmt: skip
    return HardwareCostModel(
        family="xc7", tool="yosys", tool_version="0", date="2026-01-01", rows_file="rows",
        rows_sha256="", samples=9, fits=tuple(fits),
    )  # fmt: skip
