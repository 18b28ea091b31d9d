"""The layers of hw/rtl against their integer models: bit-exact, under stalls, at full rate."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from adaqat_hw.rtl import packing, reference
from adaqat_hw.rtl.packing import IntArray, limits, pack_words, unpack_words
from adaqat_hw.rtl.verilate import Stall
from adaqat_hw.schema import IntType

pytestmark = pytest.mark.rtl

_STALLS = (None, Stall(1, 0.5, 0.0), Stall(2, 0.0, 0.5), Stall(3, 0.4, 0.6))


def _dot_type(mw: int, weight: IntType, act: IntType) -> IntType:
    """The narrowest type that holds every dot product of the two types."""
    ends = [w * a * mw for w in limits(weight) for a in limits(act)]
    low, high = min([0, *ends]), max([0, *ends])
    bits = max(high.bit_length(), (-low - 1).bit_length() if low else 0) + (low < 0)
    return IntType(bits=max(bits, 1), signed=low < 0)


@dataclass(frozen=True)
class Mvau:
    mw: int
    mh: int
    simd: int
    pe: int
    weight: IntType
    act: IntType
    extra: int = 0  # accumulator bits beyond the narrowest
    buffers: int = 1

    def __str__(self) -> str:
        sign = {True: "s", False: "u"}
        return (
            f"{self.mw}x{self.mh}-simd{self.simd}-pe{self.pe}-w{self.weight.bits}"
            f"{sign[self.weight.signed]}-a{self.act.bits}{sign[self.act.signed]}-b{self.buffers}"
        )

    @property
    def output(self) -> IntType:
        narrow = _dot_type(self.mw, self.weight, self.act)
        return IntType(bits=narrow.bits + self.extra, signed=narrow.signed)

    @property
    def steps(self) -> int:
        return self.mw // self.simd * self.mh // self.pe

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


def _mvau(w: int, a: int, ws: bool, acs: bool, *shape: int, **more: int) -> Mvau:
    mw, mh, simd, pe = shape
    return Mvau(mw, mh, simd, pe, IntType(bits=w, signed=ws), IntType(bits=a, signed=acs), **more)


def _sweep(seed: int, count: int) -> list[Mvau]:
    """Configurations that cover all pairs of widths 1..8 and all sign combinations."""
    draw = random.Random(seed)
    pairs = [(w, a) for w in range(1, 9) for a in range(1, 9)]
    draw.shuffle(pairs)
    found = []
    for index in range(count):
        w, a = pairs[index % len(pairs)]
        simd, pe, sf, nf = (draw.choice((1, 2, 3, 4)) for _ in range(4))
        signs = index % 4
        found.append(
            _mvau(
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
    return found


_CORNERS = [
    _mvau(4, 4, True, False, 1, 1, 1, 1),  # one step, one product
    _mvau(4, 4, True, False, 1, 5, 1, 1),  # SF 1: a buffer of one beat
    _mvau(4, 4, True, False, 7, 1, 1, 1),  # NF 1: no buffer
    _mvau(3, 5, True, True, 8, 4, 8, 4),  # fully unfolded
    _mvau(2, 8, True, False, 48, 4, 16, 2),  # two registers in the adder tree
    _mvau(8, 8, True, True, 34, 4, 17, 2, extra=8),  # odd tree, wide accumulator
    _mvau(8, 8, False, False, 9, 2, 9, 1),
    _mvau(1, 1, True, True, 9, 6, 3, 2),  # values 0 and -1
    _mvau(1, 1, False, False, 9, 6, 3, 2),
    _mvau(1, 8, True, False, 6, 6, 3, 3),
    _mvau(8, 1, True, True, 6, 6, 3, 3),
    _mvau(4, 4, True, False, 12, 6, 4, 2, buffers=2),
    _mvau(4, 4, True, False, 3, 6, 3, 2, buffers=2),
]
QUICK = _CORNERS + _sweep(7, 64)
LARGE = _sweep(11, 256)
POOLS = [
    (pe, bits, signed, k)
    for pe, bits, signed in ((1, 1, False), (1, 4, True), (3, 2, False), (4, 8, True), (5, 7, True))
    for k in (1, 2, 4, 9)
]
STREAMS = [(1, 5), (2, 8), (7, 33), (16, 100)]


@pytest.fixture(scope="session")
def mvau_device(device: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mvau], Any]:
    folder = tmp_path_factory.mktemp("weights")

    def make(case: Mvau) -> Any:
        words = packing.mvau_weight_words(
            case.weights(), case.pe, case.simd, case.weight.bits, signed=case.weight.signed
        )
        name = f"{case}-{case.extra}.hex"
        path = packing.write_hex(folder / name, words, case.pe * case.simd * case.weight.bits)
        return device(
            module="adq_mvau_lut",
            parameters={
                "PE": case.pe,
                "SIMD": case.simd,
                "MW": case.mw,
                "MH": case.mh,
                "WEIGHT_WIDTH": case.weight.bits,
                "WEIGHT_SIGNED": int(case.weight.signed),
                "ACT_WIDTH": case.act.bits,
                "ACT_SIGNED": int(case.act.signed),
                "ACCU_WIDTH": case.output.bits,
                "ACCU_SIGNED": int(case.output.signed),
                "BUFFER_VECTORS": case.buffers,
                "INIT_FILE": name,
            },
            inputs={"in0": packing.padded_width(case.simd, case.act.bits)},
            output=packing.padded_width(case.pe, case.output.bits),
            files={name: path},
        )

    return make


@pytest.fixture(scope="session")
def bench(make_bench: Any, device: Any, mvau_device: Callable[[Mvau], Any]) -> Any:
    """All quick configurations in one model: MVAUs, pools, weight streams."""
    devices = [mvau_device(case) for case in QUICK]
    for pe, bits, signed, k in POOLS:
        width = packing.padded_width(pe, bits)
        parameters = {"PE": pe, "WIDTH": bits, "SIGNED": int(signed), "K": k}
        devices.append(device("adq_maxpool", parameters, {"in0": width}, width))
    folder = next(iter(devices[0].files.values())).parent
    for depth, width in STREAMS:
        name = f"stream{depth}.hex"
        path = packing.write_hex(folder / name, _stream_words(depth, width), width)
        parameters = {"DEPTH": depth, "WIDTH": width, "INIT_FILE": name}
        output = packing.padded_width(1, width)
        devices.append(device("adq_weight_stream", parameters, {}, output, {name: path}))
    return make_bench(devices)


def _stream_words(depth: int, width: int) -> list[int]:
    draw = random.Random(depth)
    return [draw.getrandbits(width) for _ in range(depth)]


def _check_mvau(bench: Any, index: int, case: Mvau) -> None:
    frames = case.frames()
    words = pack_words(frames.reshape(-1, case.simd), case.act)
    golden = reference.mvau(
        frames,
        case.weights(),
        input_type=case.act,
        weight_type=case.weight,
        output_type=case.output,
    )
    beats = case.mh // case.pe
    for stall in _STALLS:
        run = bench.run(index, words, len(frames) * beats, stall=stall)
        got = unpack_words(run.words, case.pe, case.output).reshape(len(frames), case.mh)
        np.testing.assert_array_equal(got, golden, err_msg=f"{case} {stall}")
        if stall is None:
            assert run.interval(beats) == case.steps, f"{case}: bubbles between vectors"
            assert run.latency == _mvau_latency(case), str(case)


def _mvau_latency(case: Mvau) -> int:
    """The formula of hw/rtl/mvau_lut/README.md."""

    def stages(n: int) -> int:
        return max(1, -(-(n - 1).bit_length() // 2))

    bits = min(case.weight.bits, case.act.bits)
    buffer = int(case.mh // case.pe > 1)
    return case.mw // case.simd + buffer + stages(case.simd) + stages(bits) + 1


@pytest.mark.parametrize("index", range(len(QUICK)), ids=[str(case) for case in QUICK])
def test_mvau_lut_is_bit_exact_and_never_idles(bench: Any, index: int) -> None:
    _check_mvau(bench, index, QUICK[index])


@pytest.mark.slow
def test_mvau_lut_large_sweep(make_bench: Any, mvau_device: Callable[[Mvau], Any]) -> None:
    bench = make_bench([mvau_device(case) for case in LARGE])
    for index, case in enumerate(LARGE):
        _check_mvau(bench, index, case)


def test_a_second_buffer_hides_a_slow_producer(bench: Any) -> None:
    """With two vectors buffered, input at the average rate costs no throughput."""
    index = len(_CORNERS) - 2
    case = QUICK[index]
    assert case.buffers == 2
    frames = np.tile(case.frames(), (10, 1))
    words = pack_words(frames.reshape(-1, case.simd), case.act)
    beats = case.mh // case.pe
    run = bench.run(index, words, len(frames) * beats, stall=Stall(5, 0.5, 0.0))
    assert run.interval(beats) == pytest.approx(case.steps, rel=0.02)


@pytest.mark.parametrize("offset", range(len(POOLS)), ids=[str(pool) for pool in POOLS])
def test_maxpool_is_bit_exact_and_never_idles(bench: Any, offset: int) -> None:
    pe, bits, signed, k = POOLS[offset]
    index = len(QUICK) + offset
    dtype = IntType(bits=bits, signed=signed)
    low, high = limits(dtype)
    values = np.random.default_rng(offset).integers(low, high + 1, (20, k * pe))
    values[1], values[2] = low, high
    golden = reference.max_pool(values, k, pe, dtype=dtype)
    words = pack_words(values.reshape(-1, pe), dtype)
    for stall in _STALLS:
        run = bench.run(index, words, len(values), stall=stall)
        np.testing.assert_array_equal(unpack_words(run.words, pe, dtype), golden)
        if stall is None:
            assert run.interval(1) == k
            assert run.latency == k


@pytest.mark.parametrize("offset", range(len(STREAMS)), ids=[str(each) for each in STREAMS])
def test_weight_stream_repeats_its_file(bench: Any, offset: int) -> None:
    depth, width = STREAMS[offset]
    index = len(QUICK) + len(POOLS) + offset
    count = 3 * depth + 1
    expected = (_stream_words(depth, width) * 4)[:count]
    for stall in _STALLS:
        run = bench.run(index, [0], count, stall=stall)
        assert list(run.words) == expected
        if stall is None:
            assert run.interval(1) == 1


def test_one_wrong_weight_shows(bench: Any) -> None:
    """The comparison of this file must be able to fail."""
    case = QUICK[-1]
    weights = case.weights()
    low, high = limits(case.weight)
    weights[0, 0] = high if weights[0, 0] == low else low
    frames = np.full((1, case.mw), limits(case.act)[1])
    words = pack_words(frames.reshape(-1, case.simd), case.act)
    run = bench.run(len(QUICK) - 1, words, case.mh // case.pe)
    got = unpack_words(run.words, case.pe, case.output).reshape(1, case.mh)
    wide = IntType(bits=40, signed=True)
    wrong = reference.mvau(
        frames, weights, input_type=case.act, weight_type=case.weight, output_type=wide
    )
    assert not np.array_equal(got, wrong)
