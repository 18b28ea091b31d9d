"""The depthwise unit against its integer model: bit-exact, under stalls, at full rate."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl import packing, reference
from adaqat_hw.rtl.integer_model import IntegerModel
from adaqat_hw.rtl.node_rtl import node_rtl
from adaqat_hw.rtl.packing import IntArray, limits, pack_words, unpack_words
from adaqat_hw.rtl.verilate import Stall
from adaqat_hw.rtl.vvau import vvau, vvau_rtl, vvau_weight_words
from adaqat_hw.schema import (
    HardwareGraph,
    HardwareNode,
    HostInterface,
    IntType,
    Resources,
    Stream,
)

_STALLS = (None, Stall(1, 0.5, 0.0), Stall(2, 0.0, 0.5), Stall(3, 0.4, 0.6))
_PIXELS = 7


@dataclass(frozen=True)
class Case:
    channels: int
    kernel: tuple[int, int]
    pe: int
    simd: int
    weight: IntType
    act: IntType
    extra: int = 0  # accumulator bits beyond the narrowest
    dsp: bool = False

    def __str__(self) -> str:
        w, a = (f"{t.bits}{'s' if t.signed else 'u'}" for t in (self.weight, self.act))
        size = "x".join(map(str, self.kernel))
        kind = "-dsp" if self.dsp else ""
        return f"c{self.channels}-k{size}-pe{self.pe}-simd{self.simd}-w{w}-a{a}+{self.extra}{kind}"

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def beats(self) -> int:
        """Output beats per pixel."""
        return self.channels // self.pe

    @property
    def output(self) -> IntType:
        host = [w * a * self.taps for w in limits(self.weight) for a in limits(self.act)]
        low, high = min([0, *host]), max([0, *host])
        bits = max(high.bit_length(), (-low - 1).bit_length() if low else 0) + (low < 0)
        return IntType(bits=max(bits, 1) + self.extra, signed=low < 0)

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
        """Feature maps of which the windows are _PIXELS pixels: random and extreme values."""
        low, high = limits(self.act)
        shape = (3, self.kernel[0], self.kernel[1] + _PIXELS - 1, self.channels)
        maps = np.random.default_rng(self.channels).integers(low, high + 1, shape)
        maps[1], maps[2] = low, high
        return maps


def _int(bits: int, signed: bool) -> IntType:
    return IntType(bits=bits, signed=signed)


def _sweep(seed: int, count: int) -> list[Case]:
    """Configurations of all widths 1..8, all signs, kernels and foldings."""
    draw = random.Random(seed)
    pairs = [(w, a) for w in range(1, 9) for a in range(1, 9)]
    draw.shuffle(pairs)
    found = []
    for index in range(count):
        w, a = pairs[index % len(pairs)]
        kernel = draw.choice([(3, 3), (3, 3), (2, 2), (1, 4), (5, 1), (3, 2), (1, 1)])
        taps = kernel[0] * kernel[1]
        pe = draw.choice((1, 2, 3, 4))
        found.append(
            Case(
                pe * draw.choice((1, 2, 3)),
                kernel,
                pe,
                draw.choice([n for n in range(1, taps + 1) if taps % n == 0]),
                _int(w, index % 4 != 3),
                _int(a, index % 4 == 1),
                draw.choice((0, 0, 3)),
                index % 5 == 4,
            )
        )
    return found


QUICK = [
    Case(1, (1, 1), 1, 1, _int(4, True), _int(4, False)),  # one step, one product
    Case(4, (3, 3), 4, 9, _int(4, True), _int(4, False)),  # fully unfolded
    Case(6, (3, 3), 1, 1, _int(4, True), _int(4, False)),  # fully folded
    Case(6, (3, 3), 2, 3, _int(3, True), _int(5, False)),
    Case(6, (3, 3), 3, 9, _int(8, True), _int(8, True), 6),
    Case(4, (3, 3), 2, 3, _int(1, True), _int(1, True)),  # values 0 and -1
    Case(4, (3, 3), 2, 3, _int(1, False), _int(1, False)),
    Case(4, (5, 5), 2, 25, _int(7, False), _int(8, True)),  # three registers in the adder tree
    Case(6, (3, 3), 2, 3, _int(8, True), _int(8, False), 4, True),
    Case(6, (3, 3), 3, 9, _int(5, False), _int(7, True), 0, True),
    *_sweep(3, 30),
]
LARGE = _sweep(5, 192)


@pytest.fixture(scope="module")
def make_devices(device: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    folder = tmp_path_factory.mktemp("weights")

    def make(cases: list[Case]) -> list[Any]:
        found = []
        for number, case in enumerate(cases):
            name = f"vvau{number}.hex"
            words = vvau_weight_words(
                case.weights(), case.pe, case.simd, case.weight.bits, signed=case.weight.signed
            )
            width = case.pe * case.simd * case.weight.bits
            path = packing.write_hex(folder / name, words, width)
            found.append(
                device(
                    "adq_vvau",
                    {
                        "PE": case.pe,
                        "SIMD": case.simd,
                        "CHANNELS": case.channels,
                        "KERNEL": case.taps,
                        "WEIGHT_WIDTH": case.weight.bits,
                        "WEIGHT_SIGNED": int(case.weight.signed),
                        "ACT_WIDTH": case.act.bits,
                        "ACT_SIGNED": int(case.act.signed),
                        "ACCU_WIDTH": case.output.bits,
                        "USE_DSP": int(case.dsp),
                        "INIT_FILE": name,
                    },
                    {"in0": packing.padded_width(case.pe * case.simd, case.act.bits)},
                    packing.padded_width(case.pe, case.output.bits),
                    {name: path},
                )
            )
        return found

    return make


@pytest.fixture(scope="module")
def bench(make_bench: Any, make_devices: Callable[..., Any]) -> Any:
    return make_bench(make_devices(QUICK))


def _node(case: Case, **changes: Any) -> HardwareNode:
    steps = case.channels // case.pe * case.taps // case.simd
    shape_in, shape_out = (1, _PIXELS, steps), (1, _PIXELS, case.channels // case.pe)
    fields: dict[str, Any] = {
        "name": "VVAU_0",
        "op": "VVAU",
        "backend": "hls",
        "layer": "dw",
        "generator": "adaqat",
        "impl": "dsp" if case.dsp else "lut",
        "inputs": (
            Stream(name="x", dtype=case.act, folded_shape=(*shape_in, case.pe * case.simd)),
        ),
        "outputs": (Stream(name="y", dtype=case.output, folded_shape=(*shape_out, case.pe)),),
        "attributes": {
            "Channels": case.channels,
            "Kernel": case.kernel,
            "PE": case.pe,
            "SIMD": case.simd,
            "weight_bits": case.weight.bits,
            "weight_signed": int(case.weight.signed),
        },
        "parameters": {"weights": "VVAU_0__weights"},
        "cycles": 1,
        "estimate": Resources(),
    }
    return HardwareNode(**(fields | changes))


def _golden(case: Case) -> tuple[IntArray, IntArray]:
    """Windows as the sliding window generator sends them, and the sums."""
    windows = reference.sliding_window(
        case.maps(), case.kernel, dtype=case.act, depthwise_simd=case.pe
    )
    sums = vvau(
        windows,
        case.weights(),
        case.pe,
        input_type=case.act,
        weight_type=case.weight,
        output_type=case.output,
    )
    return windows, sums


def _check(bench: Any, index: int, case: Case) -> None:
    windows, golden = _golden(case)
    words = pack_words(windows.reshape(-1, case.pe * case.simd), case.act)
    pixels = golden.size // case.channels
    for stall in _STALLS:
        run = bench.run(index, words, pixels * case.beats, stall=stall)
        got = unpack_words(run.words, case.pe, case.output).reshape(golden.shape)
        np.testing.assert_array_equal(got, golden, err_msg=f"{case} {stall}")
        if stall is None:
            assert run.interval(case.beats) == len(words) / pixels, f"{case}: bubbles"
            assert run.latency == case.latency, str(case)


def test_reference_is_a_depthwise_convolution() -> None:
    """Against the definition, written as loops."""
    case = QUICK[3]
    maps, weights = case.maps(), case.weights()
    _, got = _golden(case)
    for pixel in range(_PIXELS):
        for channel in range(case.channels):
            window = maps[:, :, pixel : pixel + case.kernel[1], channel].reshape(len(maps), -1)
            np.testing.assert_array_equal(got[:, 0, pixel, channel], window @ weights[channel])


def test_weight_words_are_in_finns_order() -> None:
    """Memory words of FINN's own generate_params for these weights, PE 2, SIMD 3."""
    weights = np.arange(4 * 9).reshape(4, 9)
    words = vvau_weight_words(weights, 2, 3, 8)
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
        vvau_weight_words(np.zeros((4, 9), dtype=np.int64), pe, simd, 4)


def test_reference_refuses_what_does_not_fit() -> None:
    case = QUICK[3]
    windows, golden = _golden(case)
    small = IntType(bits=2, signed=True)
    types = {"input_type": case.act, "weight_type": case.weight}
    assert golden.max() > 1
    with pytest.raises(ValueError, match="VVAU output holds"):
        vvau(windows, case.weights(), case.pe, **types, output_type=small)
    with pytest.raises(ValueError, match="do not match weights"):
        vvau(windows[..., 1:], case.weights(), case.pe, **types, output_type=case.output)
    with pytest.raises(ValueError, match="PE 5 does not divide 6 channels"):
        vvau(windows, case.weights(), 5, **types, output_type=case.output)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attributes": {"binaryXnorMode": 1}}, "multiplies by XNOR"),
        ({"attributes": {"Kernel": (3, 2)}}, r"its Channels and kernel size are \(6, 6\)"),
        ({"attributes": {"Kernel": 3}}, "'Kernel' of node 'VVAU_0' is 3, not a size"),
        ({"attributes": {"PE": 0}}, "'PE' of node 'VVAU_0' is 0"),
        ({"attributes": {"PE": 3}}, "does not match PE . SIMD 9 of node 'VVAU_0'"),
        ({"attributes": {"SIMD": 2}}, "SIMD 2 does not divide a kernel of 9"),
        ({"attributes": {"weight_bits": 2}}, "cannot be packed"),
        ({"parameters": {"thresholds": "t"}}, "thresholds inside a VVAU"),
        ({"parameters": {"weights": "none"}}, "Parameter 'none' of node 'VVAU_0' is missing"),
        ({"inputs": ()}, "0 inputs and 1 outputs"),
    ],
)
def test_a_node_that_cannot_be_built_is_refused(changes: dict[str, Any], said: str) -> None:
    case = QUICK[3]
    if "attributes" in changes:
        changes = {"attributes": {**_node(case).attributes, **changes["attributes"]}}
    with pytest.raises(ConfigError, match=said):
        vvau_rtl(_node(case, **changes), "node_dw", {"VVAU_0__weights": case.weights()})


def test_a_node_names_its_module_its_weights_and_its_style() -> None:
    case = QUICK[3]
    rtl = node_rtl(_node(case), "node_dw", {"VVAU_0__weights": case.weights()}, {})
    assert rtl.cores == ("adq_vvau",)
    assert rtl.texts["node_dw_weights.hex"].count("\n") == 9
    for line in (".CHANNELS(6)", ".KERNEL(9)", ".ACCU_WIDTH(12)", ".USE_DSP(0)", '("auto")'):
        assert line in rtl.text
    large = Case(256, (3, 3), 1, 1, case.weight, case.act, 0, True)
    text = node_rtl(_node(large), "node_dw", {"VVAU_0__weights": large.weights()}, {}).text
    assert '.ROM_STYLE("block")' in text
    assert ".USE_DSP(1)" in text


def _graph(case: Case, lanes: int) -> HardwareGraph:
    """A depthwise window of ``lanes`` channels at a time, a width converter, the unit."""
    node = _node(case)
    height, width = case.kernel[0], case.kernel[1] + _PIXELS - 1
    x = Stream(
        name="in", dtype=case.act, folded_shape=(1, height, width, case.channels // lanes, lanes)
    )
    taps = Stream(
        name="w",
        dtype=case.act,
        folded_shape=(1, 1, _PIXELS, case.channels // lanes * case.taps, lanes),
    )
    window = {
        "IFMDim": (height, width),
        "IFMChannels": case.channels,
        "ConvKernelDim": case.kernel,
        "Stride": (1, 1),
        "Dilation": (1, 1),
        "depthwise": 1,
    }
    before = {"generator": "finn", "impl": None, "parameters": {}}
    swg = _node(
        case, name="swg", op="ConvolutionInputGenerator", inputs=(x,), outputs=(taps,),
        attributes=window, **before,
    )  # fmt: skip
    dwc = _node(
        case, name="dwc", op="StreamingDataWidthConverter", inputs=(taps,), outputs=node.inputs,
        attributes={}, **before,
    )  # fmt: skip
    y = node.outputs[0]
    host = HostInterface(
        input_scale=1.0,
        input_dtype=case.act,
        input_nchw=True,
        input_shape=(height, width, case.channels),
        output_shape=(1, _PIXELS, case.channels),
        output_dtype=case.output,
        output_scale=(1.0,),
        output_bias=(0.0,),
    )
    return HardwareGraph(
        network="dw", part="xc7z020clg400-1", clock_ns=5.0, nodes=(swg, dwc, node),
        input_stream=x, output_stream=y, host=host, parameters_file="p.npz",
        parameters_sha256="0", golden_file="g.npz", golden_sha256="0", cycles_estimated=1,
        fps_estimated=1.0,
    )  # fmt: skip


def test_integer_model_of_a_depthwise_layer() -> None:
    case = QUICK[3]
    parameters = {"VVAU_0__weights": case.weights()}
    outputs = IntegerModel(_graph(case, case.pe), parameters).run(case.maps())
    np.testing.assert_array_equal(outputs, _golden(case)[1])


def test_integer_model_refuses_a_window_of_other_lanes() -> None:
    case = QUICK[3]
    with pytest.raises(ConfigError, match=r"convolves 2 channels at a time, but .* sends 3"):
        IntegerModel(_graph(case, 3), {"VVAU_0__weights": case.weights()})


@pytest.mark.rtl
@pytest.mark.parametrize("index", range(len(QUICK)), ids=[str(case) for case in QUICK])
def test_vvau_is_bit_exact_and_never_idles(bench: Any, index: int) -> None:
    _check(bench, index, QUICK[index])


@pytest.mark.rtl
@pytest.mark.slow
def test_vvau_large_sweep(make_bench: Any, make_devices: Callable[..., Any]) -> None:
    bench = make_bench(make_devices(LARGE))
    for index, case in enumerate(LARGE):
        _check(bench, index, case)


@pytest.mark.rtl
def test_one_wrong_weight_shows(bench: Any) -> None:
    """The comparison of this file must be able to fail."""
    case = QUICK[3]
    windows, golden = _golden(case)
    words = pack_words(windows.reshape(-1, case.pe * case.simd), case.act)
    run = bench.run(3, words, golden.size // case.pe)
    got = unpack_words(run.words, case.pe, case.output).reshape(golden.shape)
    weights = case.weights()
    weights[5, 8] ^= 1
    wrong = vvau(
        windows,
        weights,
        case.pe,
        input_type=case.act,
        weight_type=case.weight,
        output_type=IntType(bits=40, signed=True),
    )
    differs = (got != wrong).reshape(-1, case.channels).any(axis=0)
    assert differs.tolist() == [False] * 5 + [True]
