"""The depthwise unit against its reference: bit-exact, under stalls, at full rate."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl import packing
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.rtl.ops import ValueRange, node_rtl
from adaqat_hw.rtl.ops.sliding_window import windows
from adaqat_hw.rtl.ops.vvau import depthwise, weight_words
from adaqat_hw.rtl.packing import IntArray, limits, pack_words
from adaqat_hw.schema import HardwareGraph, HardwareNode, HostInterface, IntType, Stream
from adaqat_hw.schema.operators import SLIDING_WINDOW, VVAU, WIDTH_CONVERTER
from tests.rtl.bench import Device
from tests.rtl.operator_suite import (
    Case,
    OperatorSuite,
    Sample,
    changed,
    holds,
    int_type,
    make_node,
    type_name,
)

PIXELS = 7


@dataclass(frozen=True)
class Shape:
    channels: int
    kernel: tuple[int, int]
    pe: int
    simd: int
    weight: IntType
    act: IntType
    extra: int = 0  # accumulator bits beyond the narrowest
    dsp: bool = False

    def __str__(self) -> str:
        size = "x".join(map(str, self.kernel))
        kind = "-dsp" if self.dsp else ""
        return (
            f"c{self.channels}-k{size}-pe{self.pe}-simd{self.simd}-w{type_name(self.weight)}"
            f"-a{type_name(self.act)}+{self.extra}{kind}"
        )

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def output(self) -> IntType:
        ends = [w * a * self.taps for w in limits(self.weight) for a in limits(self.act)]
        narrow = holds(min([0, *ends]), max([0, *ends]))
        return int_type(narrow.bits + self.extra, narrow.signed)

    @property
    def latency(self) -> int:
        """The formula of hw/rtl/vvau/README.md."""

        def stages(n: int) -> int:
            return max(1, -(-(n - 1).bit_length() // 2))

        bits = 1 if self.dsp else stages(min(self.weight.bits, self.act.bits))
        return self.taps // self.simd + stages(self.simd) + bits + 1

    def weights(self) -> IntArray:
        """Channels of all minima, all maxima and random weights."""
        low, high = limits(self.weight)
        matrix = np.random.default_rng(self.taps).integers(
            low, high + 1, (self.channels, self.taps)
        )
        matrix[0] = low
        matrix[1:2] = high
        return matrix

    def maps(self) -> IntArray:
        """Feature maps of which the windows are PIXELS pixels: random and extreme values."""
        low, high = limits(self.act)
        shape = (3, self.kernel[0], self.kernel[1] + PIXELS - 1, self.channels)
        maps = np.random.default_rng(self.channels).integers(low, high + 1, shape)
        maps[1], maps[2] = low, high
        return maps

    def golden(self) -> tuple[IntArray, IntArray]:
        """Windows as the sliding window generator sends them, and the sums."""
        lowered = windows(self.maps(), self.kernel, dtype=self.act, depthwise_simd=self.pe)
        types = {"input_type": self.act, "weight_type": self.weight, "output_type": self.output}
        return lowered, depthwise(lowered, self.weights(), self.pe, **types)

    def case(self) -> Case:
        lowered, sums = self.golden()
        name = f"{self}.hex"
        words = weight_words(
            self.weights(), self.pe, self.simd, self.weight.bits, signed=self.weight.signed
        )
        text = packing.hex_lines(words, self.pe * self.simd * self.weight.bits)
        device = Device(
            "adq_vvau",
            {
                "PE": self.pe,
                "SIMD": self.simd,
                "CHANNELS": self.channels,
                "KERNEL": self.taps,
                "WEIGHT_WIDTH": self.weight.bits,
                "WEIGHT_SIGNED": int(self.weight.signed),
                "ACT_WIDTH": self.act.bits,
                "ACT_SIGNED": int(self.act.signed),
                "ACCU_WIDTH": self.output.bits,
                "USE_DSP": int(self.dsp),
                "INIT_FILE": name,
            },
            {"in0": packing.padded_width(self.pe * self.simd, self.act.bits)},
            packing.padded_width(self.pe, self.output.bits),
            {name: text},
        )
        return Case(
            name=str(self),
            device=device,
            words=pack_words(lowered.reshape(-1, self.pe * self.simd), self.act),
            golden=sums,
            elements=self.pe,
            dtype=self.output,
            outputs=self.channels // self.pe,
            interval=self.channels // self.pe * self.taps // self.simd,
            latency=self.latency,
        )

    def node(self) -> HardwareNode:
        steps = self.channels // self.pe * self.taps // self.simd
        x = Stream(name="x", dtype=self.act, folded_shape=(1, PIXELS, steps, self.pe * self.simd))
        folds = self.channels // self.pe
        y = Stream(name="y", dtype=self.output, folded_shape=(1, PIXELS, folds, self.pe))
        return make_node(
            VVAU.name, [x], [y], name="VVAU_0", layer="dw", impl="dsp" if self.dsp else "lut",
            parameters={"weights": "VVAU_0__weights"},
            Channels=self.channels, Kernel=self.kernel, PE=self.pe, SIMD=self.simd,
            weight_bits=self.weight.bits, weight_signed=int(self.weight.signed),
        )  # fmt: skip

    def sample(self) -> Sample:
        return Sample(self.node(), {"VVAU_0__weights": self.weights()})


def _sweep(seed: int, count: int) -> list[Shape]:
    """Configurations of all widths 1..8, all signs, kernels and foldings."""
    draw = random.Random(seed)
    pairs = [(w, a) for w in range(1, 9) for a in range(1, 9)]
    draw.shuffle(pairs)
    shapes = []
    for index in range(count):
        w, a = pairs[index % len(pairs)]
        kernel = draw.choice([(3, 3), (3, 3), (2, 2), (1, 4), (5, 1), (3, 2), (1, 1)])
        taps = kernel[0] * kernel[1]
        pe = draw.choice((1, 2, 3, 4))
        shapes.append(
            Shape(
                pe * draw.choice((1, 2, 3)),
                kernel,
                pe,
                draw.choice([n for n in range(1, taps + 1) if taps % n == 0]),
                int_type(w, index % 4 != 3),
                int_type(a, index % 4 == 1),
                draw.choice((0, 0, 3)),
                index % 5 == 4,
            )
        )
    return shapes


CORNERS = [
    Shape(1, (1, 1), 1, 1, int_type(4, True), int_type(4, False)),  # one step, one product
    Shape(4, (3, 3), 4, 9, int_type(4, True), int_type(4, False)),  # fully unfolded
    Shape(6, (3, 3), 1, 1, int_type(4, True), int_type(4, False)),  # fully folded
    Shape(6, (3, 3), 2, 3, int_type(3, True), int_type(5, False)),
    Shape(6, (3, 3), 3, 9, int_type(8, True), int_type(8, True), 6),
    Shape(4, (3, 3), 2, 3, int_type(1, True), int_type(1, True)),  # values 0 and -1
    Shape(4, (3, 3), 2, 3, int_type(1, False), int_type(1, False)),
    Shape(4, (5, 5), 2, 25, int_type(7, False), int_type(8, True)),  # three registers in the tree
    Shape(6, (3, 3), 2, 3, int_type(8, True), int_type(8, False), 4, True),
    Shape(6, (3, 3), 3, 9, int_type(5, False), int_type(7, True), 0, True),
]
QUICK = [*CORNERS, *_sweep(3, 30)]
LARGE = _sweep(5, 192)
USUAL = CORNERS[3]
NODE = USUAL.node()


class TestVvau(OperatorSuite):
    operator = VVAU
    cases = tuple(shape.case() for shape in QUICK)
    samples = tuple(shape.sample() for shape in CORNERS)
    refused = (
        (changed(NODE, attributes={"binaryXnorMode": 1}), "multiplies by XNOR"),
        (
            changed(NODE, attributes={"Kernel": (3, 2)}),
            r"its Channels and kernel size are \(6, 6\)",
        ),
        (changed(NODE, attributes={"Kernel": 3}), "'Kernel' of node 'VVAU_0' is 3; it must be"),
        (changed(NODE, attributes={"PE": 0}), "'PE' of node 'VVAU_0' is 0"),
        (changed(NODE, attributes={"PE": 3}), "does not match PE . SIMD 9 of node 'VVAU_0'"),
        (changed(NODE, attributes={"SIMD": 2}), "SIMD 2 does not divide a kernel of 9"),
        (changed(NODE, attributes={"weight_bits": 2}), "cannot be packed"),
        (changed(NODE, parameters={"thresholds": "t"}), "thresholds inside its VVAU"),
        (
            changed(NODE, parameters={"weights": "none"}),
            "Parameter 'none' of node 'VVAU_0' is missing",
        ),
        (changed(NODE, inputs=()), "0 inputs and 1 outputs"),
    )

    @staticmethod
    def refused_parameters(node: HardwareNode) -> dict[str, IntArray]:
        del node
        return {"VVAU_0__weights": USUAL.weights()}

    def extreme_frames(self, sample: Sample, values: ValueRange) -> list[IntArray]:
        """Each weight of a channel meets the input that leads to an end."""
        weights, pe = sample.parameters["VVAU_0__weights"], sample.node.pe
        channels, taps = weights.shape
        # (C // PE, taps, PE), as the sliding window sends it
        signs = (weights < 0).reshape(channels // pe, pe, taps).transpose(0, 2, 1).reshape(-1)
        low, high = np.full(signs.shape, values.low), np.full(signs.shape, values.high)
        rows = [np.where(signs, low, high), np.where(signs, high, low)]
        return [np.stack([np.tile(row, (PIXELS, 1)) for row in rows])]

    @pytest.mark.slow
    @pytest.mark.rtl
    def test_large_sweep(self, make_bench: Any) -> None:
        cases = [shape.case() for shape in LARGE]
        bench = make_bench([case.device for case in cases])
        bench.cases = cases
        for index in range(len(cases)):
            self.test_rtl_is_the_reference_under_stalls_and_never_idles(bench, index)

    @pytest.mark.rtl
    def test_one_wrong_weight_shows(self, bench: Any) -> None:
        index = QUICK.index(USUAL)
        case, (lowered, golden) = bench.cases[index], USUAL.golden()
        got = case.unpack(bench.run(index, case.words, golden.size // USUAL.pe).words)
        weights = USUAL.weights()
        weights[5, 8] ^= 1
        types = {"input_type": USUAL.act, "weight_type": USUAL.weight}
        wrong = depthwise(lowered, weights, USUAL.pe, **types, output_type=int_type(40, True))
        differs = (got != wrong).reshape(-1, USUAL.channels).any(axis=0)
        assert differs.tolist() == [False] * 5 + [True]


def test_reference_is_a_depthwise_convolution() -> None:
    """Against the definition, written as loops."""
    maps, weights = USUAL.maps(), USUAL.weights()
    _, got = USUAL.golden()
    for pixel in range(PIXELS):
        for channel in range(USUAL.channels):
            window = maps[:, :, pixel : pixel + USUAL.kernel[1], channel].reshape(len(maps), -1)
            np.testing.assert_array_equal(got[:, 0, pixel, channel], window @ weights[channel])


def test_weight_words_are_in_finns_order() -> None:
    """Memory words of FINN's own generate_params for these weights, PE 2, SIMD 3."""
    weights = np.arange(4 * 9).reshape(4, 9)
    words = weight_words(weights, 2, 3, 8)
    assert [f"{word:012x}" for word in words[:3]] == [
        "0b0a09020100",
        "0e0d0c050403",
        "11100f080706",
    ]
    assert f"{words[3]:012x}" == "1d1c1b141312"


@pytest.mark.parametrize(
    ("pe", "simd", "said"),
    [(3, 3, "PE 3 does not divide 4 channels"), (2, 2, "SIMD 2 does not divide a kernel of 9")],
)
def test_a_folding_that_does_not_divide_is_refused(pe: int, simd: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        weight_words(np.zeros((4, 9), dtype=np.int64), pe, simd, 4)


def test_reference_refuses_what_does_not_fit() -> None:
    lowered, golden = USUAL.golden()
    types = {"input_type": USUAL.act, "weight_type": USUAL.weight}
    assert golden.max() > 1
    with pytest.raises(ValueError, match="VVAU output holds"):
        depthwise(lowered, USUAL.weights(), USUAL.pe, **types, output_type=int_type(2, True))
    with pytest.raises(ValueError, match="do not match weights"):
        depthwise(lowered[..., 1:], USUAL.weights(), USUAL.pe, **types, output_type=USUAL.output)
    with pytest.raises(ValueError, match="PE 5 does not divide 6 channels"):
        depthwise(lowered, USUAL.weights(), 5, **types, output_type=USUAL.output)


def test_a_node_names_its_module_its_weights_and_its_style() -> None:
    rtl = node_rtl(NODE, "node_dw", {"VVAU_0__weights": USUAL.weights()}, {})
    assert rtl.cores == ("adq_vvau",)
    assert rtl.texts["node_dw_weights.hex"].count("\n") == 9
    for line in (".CHANNELS(6)", ".KERNEL(9)", ".ACCU_WIDTH(12)", ".USE_DSP(0)", '("auto")'):
        assert line in rtl.text
    large = Shape(256, (3, 3), 1, 1, USUAL.weight, USUAL.act, 0, True)
    text = node_rtl(large.node(), "node_dw", {"VVAU_0__weights": large.weights()}, {}).text
    assert '.ROM_STYLE("block")' in text
    assert ".USE_DSP(1)" in text


def _graph(shape: Shape, lanes: int) -> HardwareGraph:
    """A depthwise window of ``lanes`` channels at a time, a width converter, the unit."""
    node = shape.node()
    height, width = shape.kernel[0], shape.kernel[1] + PIXELS - 1
    folds = shape.channels // lanes
    x = Stream(name="in", dtype=shape.act, folded_shape=(1, height, width, folds, lanes))
    taps = Stream(
        name="w", dtype=shape.act, folded_shape=(1, 1, PIXELS, folds * shape.taps, lanes)
    )  # fmt: skip
    swg = make_node(
        SLIDING_WINDOW.name, [x], [taps], name="swg", generator="finn",
        IFMDim=(height, width), IFMChannels=shape.channels, ConvKernelDim=shape.kernel,
        Stride=(1, 1), Dilation=(1, 1), depthwise=1,
    )  # fmt: skip
    dwc = make_node(WIDTH_CONVERTER.name, [taps], node.inputs, name="dwc", generator="finn")
    host = HostInterface(
        input_scale=1.0,
        input_dtype=shape.act,
        input_nchw=True,
        input_shape=(height, width, shape.channels),
        output_shape=(1, PIXELS, shape.channels),
        output_dtype=shape.output,
        output_scale=(1.0,),
        output_bias=(0.0,),
    )
    return HardwareGraph(
        network="dw", part="xc7z020clg400-1", clock_ns=5.0, nodes=(swg, dwc, node),
        input_stream=x, output_stream=node.outputs[0], host=host, parameters_file="p.npz",
        parameters_sha256="0", golden_file="g.npz", golden_sha256="0", cycles_estimated=1,
        fps_estimated=1.0,
    )  # fmt: skip


def test_integer_model_of_a_depthwise_layer() -> None:
    parameters = {"VVAU_0__weights": USUAL.weights()}
    outputs = IntegerModel(_graph(USUAL, USUAL.pe), parameters).run(USUAL.maps())
    np.testing.assert_array_equal(outputs, USUAL.golden()[1])


def test_integer_model_refuses_a_window_of_other_lanes() -> None:
    with pytest.raises(ConfigError, match=r"takes 2 channels at a time, but .* sends 3"):
        IntegerModel(_graph(USUAL, 3), {"VVAU_0__weights": USUAL.weights()})
