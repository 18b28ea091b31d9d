"""The MVAU against its reference: bit-exact, under stalls, at full rate; its memory of weights."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaqat_hw.rtl import packing
from adaqat_hw.rtl.ops import ValueRange
from adaqat_hw.rtl.ops.mvau import matmul
from adaqat_hw.rtl.packing import IntArray, limits, pack_words, unpack_words
from adaqat_hw.rtl.verilate import Stall
from adaqat_hw.schema import HardwareNode, IntType
from adaqat_hw.schema.operators import MVAU
from tests.rtl.bench import Device
from tests.rtl.operator_suite import (
    Case,
    OperatorSuite,
    Sample,
    changed,
    holds,
    int_type,
    make_node,
    make_stream,
    type_name,
)

U4, S4, S32 = int_type(4, False), int_type(4, True), int_type(32, True)


@dataclass(frozen=True)
class Shape:
    mw: int
    mh: int
    simd: int
    pe: int
    weight: IntType
    act: IntType
    extra: int = 0  # accumulator bits beyond the narrowest
    buffers: int = 1

    def __str__(self) -> str:
        return (
            f"{self.mw}x{self.mh}-simd{self.simd}-pe{self.pe}-w{type_name(self.weight)}"
            f"-a{type_name(self.act)}-b{self.buffers}"
        )

    @property
    def output(self) -> IntType:
        """The narrowest type that holds every dot product of the two types, and some bits."""
        ends = [w * a * self.mw for w in limits(self.weight) for a in limits(self.act)]
        narrow = holds(min([0, *ends]), max([0, *ends]))
        return int_type(narrow.bits + self.extra, narrow.signed)

    @property
    def latency(self) -> int:
        """The formula of hw/rtl/mvau_lut/README.md."""

        def stages(n: int) -> int:
            return max(1, -(-(n - 1).bit_length() // 2))

        bits = min(self.weight.bits, self.act.bits)
        buffer = int(self.mh // self.pe > 1)
        return self.mw // self.simd + buffer + stages(self.simd) + stages(bits) + 1

    def weights(self) -> IntArray:
        """Rows of all minima, all maxima and random weights, by turns."""
        rng = np.random.default_rng(self.mw * 1000 + self.mh)
        low, high = limits(self.weight)
        matrix = rng.integers(low, high + 1, (self.mw, self.mh))
        matrix[:, 0] = low
        if self.mh > 1:
            matrix[:, 1] = high
        return matrix

    def frames(self) -> IntArray:
        rng = np.random.default_rng(self.mw + self.mh)
        low, high = limits(self.act)
        frames = rng.integers(low, high + 1, (9, self.mw))
        frames[1], frames[2] = low, high
        return frames

    def words(self, frames: IntArray) -> list[int]:
        return pack_words(frames.reshape(-1, self.simd), self.act)

    def case(self) -> Case:
        words = packing.mvau_weight_words(
            self.weights(), self.pe, self.simd, self.weight.bits, signed=self.weight.signed
        )
        name = f"{self}-{self.extra}.hex"
        text = packing.hex_lines(words, self.pe * self.simd * self.weight.bits)
        device = Device(
            module="adq_mvau_lut",
            parameters={
                "PE": self.pe,
                "SIMD": self.simd,
                "MW": self.mw,
                "MH": self.mh,
                "WEIGHT_WIDTH": self.weight.bits,
                "WEIGHT_SIGNED": int(self.weight.signed),
                "ACT_WIDTH": self.act.bits,
                "ACT_SIGNED": int(self.act.signed),
                "ACCU_WIDTH": self.output.bits,
                "ACCU_SIGNED": int(self.output.signed),
                "BUFFER_VECTORS": self.buffers,
                "INIT_FILE": name,
            },
            inputs={"in0": packing.padded_width(self.simd, self.act.bits)},
            output=packing.padded_width(self.pe, self.output.bits),
            files={name: text},
        )
        types = {"input_type": self.act, "weight_type": self.weight, "output_type": self.output}
        return Case(
            name=str(self),
            device=device,
            words=self.words(self.frames()),
            golden=matmul(self.frames(), self.weights(), **types),
            elements=self.pe,
            dtype=self.output,
            outputs=self.mh // self.pe,
            interval=self.mw // self.simd * self.mh // self.pe,
            latency=self.latency,
        )

    def sample(self) -> Sample:
        node = make_node(
            MVAU.name,
            [make_stream("x", self.simd, self.mw // self.simd, self.act)],
            [make_stream("y", self.pe, self.mh // self.pe, self.output)],
            impl="lut",
            PE=self.pe,
            SIMD=self.simd,
            MW=self.mw,
            MH=self.mh,
            weight_bits=self.weight.bits,
            weight_signed=int(self.weight.signed),
        )
        return Sample(node, {"n__weights": self.weights()})


def _shape(w: int, a: int, ws: bool, acs: bool, *shape: int, **more: int) -> Shape:
    mw, mh, simd, pe = shape
    return Shape(mw, mh, simd, pe, int_type(w, ws), int_type(a, acs), **more)


def _sweep(seed: int, count: int) -> list[Shape]:
    """Configurations that cover all pairs of widths 1..8 and all sign combinations."""
    draw = random.Random(seed)
    pairs = [(w, a) for w in range(1, 9) for a in range(1, 9)]
    draw.shuffle(pairs)
    shapes = []
    for index in range(count):
        w, a = pairs[index % len(pairs)]
        simd, pe, sf, nf = (draw.choice((1, 2, 3, 4)) for _ in range(4))
        signs = index % 4
        shapes.append(
            _shape(
                w,
                a,
                signs != 3,
                signs == 1,
                simd * sf,
                pe * nf,
                simd,
                pe,
                extra=draw.choice((0, 0, 3)),
                buffers=draw.choice((1, 1, 2)),
            )
        )
    return shapes


CORNERS = [
    _shape(4, 4, True, False, 1, 1, 1, 1),  # one step, one product
    _shape(4, 4, True, False, 1, 5, 1, 1),  # SF 1: a buffer of one beat
    _shape(4, 4, True, False, 7, 1, 1, 1),  # NF 1: no buffer
    _shape(3, 5, True, True, 8, 4, 8, 4),  # fully unfolded
    _shape(2, 8, True, False, 48, 4, 16, 2),  # two registers in the adder tree
    _shape(8, 8, True, True, 34, 4, 17, 2, extra=8),  # odd tree, wide accumulator
    _shape(8, 8, False, False, 9, 2, 9, 1),
    _shape(1, 1, True, True, 9, 6, 3, 2),  # values 0 and -1
    _shape(1, 1, False, False, 9, 6, 3, 2),
    _shape(1, 8, True, False, 6, 6, 3, 3),
    _shape(8, 1, True, True, 6, 6, 3, 3),
    _shape(4, 4, True, False, 12, 6, 4, 2, buffers=2),
    _shape(4, 4, True, False, 3, 6, 3, 2, buffers=2),
]
QUICK = CORNERS + _sweep(7, 64)
LARGE = _sweep(11, 256)
NODE = CORNERS[0].sample().node
DSP = {"generator": "finn", "impl": "dsp", "backend": "rtl"}


class TestMvau(OperatorSuite):
    operator = MVAU
    cases = tuple(shape.case() for shape in QUICK)
    samples = tuple(shape.sample() for shape in CORNERS)
    refused = (
        (changed(NODE, attributes={"pumpedCompute": 1}, **DSP), "wants a double-speed clock"),
        (changed(NODE, **DSP), "'n' from FINN names no top module"),
        (changed(NODE, attributes={"weight_bits": 33}), r"are 33, 1; allowed .* 1\.\.32 bits"),
        (changed(NODE, attributes={"weight_signed": 2}), "'weight_signed' of node 'n' are 4, 2"),
        (changed(NODE, attributes={"SIMD": 3}), "cannot be packed: SIMD 3 does not divide MW 1"),
    )

    @staticmethod
    def refused_parameters(node: HardwareNode) -> dict[str, IntArray]:
        del node
        return CORNERS[0].sample().parameters

    def extreme_frames(self, sample: Sample, values: ValueRange) -> list[IntArray]:
        """One frame per output and end: each weight meets the input that leads there."""
        weights = sample.parameters["n__weights"].T
        return [
            np.where(weights < 0, values.low, values.high),
            np.where(weights < 0, values.high, values.low),
        ]

    @pytest.mark.rtl
    def test_a_second_buffer_hides_a_slow_producer(self, bench: Any) -> None:
        """With two vectors buffered, input at the average rate costs no throughput."""
        index = len(CORNERS) - 2
        shape = QUICK[index]
        assert shape.buffers == 2
        frames = np.tile(shape.frames(), (10, 1))
        beats = shape.mh // shape.pe
        run = bench.run(
            index, shape.words(frames), len(frames) * beats, stall=Stall(5, 0.5, 0.0)
        )  # fmt: skip
        steps = shape.mw // shape.simd * shape.mh // shape.pe
        assert run.interval(beats) == pytest.approx(steps, rel=0.02)

    @pytest.mark.rtl
    def test_one_wrong_weight_shows(self, bench: Any) -> None:
        shape = QUICK[-1]
        weights = shape.weights()
        low, high = limits(shape.weight)
        weights[0, 0] = high if weights[0, 0] == low else low
        frames = np.full((1, shape.mw), limits(shape.act)[1])
        run = bench.run(len(QUICK) - 1, shape.words(frames), shape.mh // shape.pe)
        got = unpack_words(run.words, shape.pe, shape.output).reshape(1, shape.mh)
        types = {"input_type": shape.act, "weight_type": shape.weight}
        wrong = matmul(frames, weights, **types, output_type=int_type(40, True))
        assert not np.array_equal(got, wrong)

    @pytest.mark.slow
    @pytest.mark.rtl
    def test_large_sweep(self, make_bench: Any) -> None:
        cases = [shape.case() for shape in LARGE]
        bench = make_bench([case.device for case in cases])
        bench.cases = cases
        for index in range(len(cases)):
            self.test_rtl_is_the_reference_under_stalls_and_never_idles(bench, index)


# --- the memory of weights of an MVAU in DSP blocks


def _stream_words(depth: int, width: int) -> list[int]:
    draw = random.Random(depth)
    return [draw.getrandbits(width) for _ in range(depth)]


@pytest.mark.rtl
def test_a_weight_stream_repeats_its_file(make_bench: Any) -> None:
    streams = [(1, 5), (2, 8), (7, 33), (16, 100)]
    devices = []
    for depth, width in streams:
        name = f"stream{depth}.hex"
        text = packing.hex_lines(_stream_words(depth, width), width)
        parameters = {"DEPTH": depth, "WIDTH": width, "INIT_FILE": name}
        output = packing.padded_width(1, width)
        devices.append(Device("adq_weight_stream", parameters, {}, output, {name: text}))
    bench = make_bench(devices)
    for index, (depth, width) in enumerate(streams):
        count = 3 * depth + 1
        expected = (_stream_words(depth, width) * 4)[:count]
        for stall in (None, Stall(1, 0.5, 0.0), Stall(2, 0.0, 0.5), Stall(3, 0.4, 0.6)):
            run = bench.run(index, [0], count, stall=stall)
            assert list(run.words) == expected
            if stall is None:
                assert run.interval(1) == 1


# --- the reference


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 6), st.integers(1, 4))
def test_matmul_is_a_sum_of_products(seed: int, n: int, mw: int, mh: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.integers(0, 16, (n, mw)), rng.integers(-8, 8, (mw, mh))
    y = matmul(x, w, input_type=U4, weight_type=S4, output_type=S32)
    for i in range(n):
        for row in range(mh):
            assert y[i, row] == sum(int(x[i, k]) * int(w[k, row]) for k in range(mw))


def test_matmul_is_exact_where_doubles_are_not() -> None:
    wide = int_type(40, True)
    x, w = np.array([[2**39 - 1, 1]]), np.array([[2**20 + 1], [1]])
    y = matmul(x, w, input_type=wide, weight_type=wide, output_type=int_type(63, True))
    assert int(y[0, 0]) == (2**39 - 1) * (2**20 + 1) + 1


def test_matmul_refuses_what_does_not_fit() -> None:
    x, w = np.full((1, 4), 15), np.full((4, 1), 7)
    with pytest.raises(ValueError, match=r"MVAU output holds 420, outside -128..127"):
        matmul(x, w, input_type=U4, weight_type=S4, output_type=int_type(8, True))
    with pytest.raises(ValueError, match="MVAU weights holds 7"):
        matmul(x, w, input_type=U4, weight_type=int_type(3, True), output_type=S32)
    with pytest.raises(ValueError, match="must equal MW"):
        matmul(x, w[:3], input_type=U4, weight_type=S4, output_type=S32)
