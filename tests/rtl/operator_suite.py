"""OperatorSuite: what is tested of every operator; a subclass names the sweep.

The RTL gives what the integer reference gives, bit for bit, under stalls and at full rate, and no
output leaves the range that the operator's interval arithmetic gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from adaqat_hw import families
from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.ops import ValueRange, node_rtl, operator_module
from adaqat_hw.rtl.packing import (
    IntArray,
    limits,
    pack_words,
    require_range,
    unpack_words,
)
from adaqat_hw.rtl.sources import SourceIndex
from adaqat_hw.rtl.synthesize import synthesize
from adaqat_hw.rtl.verilate import Stall
from adaqat_hw.schema import HardwareNode, IntType, Resources, Stream
from adaqat_hw.schema.operators import Operator
from tests.rtl.bench import Device

STALLS = (
    None,
    Stall(1, 0.5, 0.0),
    Stall(2, 0.0, 0.5),
    Stall(3, 0.4, 0.6),
    Stall(4, 0.0, 0.9),  # back-pressure nearly always
    Stall(5, 0.9, 0.0),  # a source that starves it
)


def int_type(bits: int, signed: bool) -> IntType:
    return IntType(bits=bits, signed=signed)


def holds(low: int, high: int) -> IntType:
    """The narrowest type that holds both."""
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + (low < 0)
    return IntType(bits=max(bits, 1), signed=low < 0)


def extreme_and_random(seed: int, shape: tuple[int, ...], dtype: IntType) -> IntArray:
    """Random rows, the first of all minima, the second of all maxima."""
    low, high = limits(dtype)
    values = np.random.default_rng(seed).integers(low, high + 1, shape)
    values[0], values[1] = low, high
    return values


def type_name(dtype: IntType) -> str:
    return f"{dtype.bits}{'us'[dtype.signed]}"


def make_node(
    op: str, inputs: Iterable[Stream], outputs: Iterable[Stream], **attributes: Any
) -> HardwareNode:
    fields = {
        key: attributes.pop(key)
        for key in ("name", "backend", "generator", "impl", "layer", "parameters")
        if key in attributes
    }
    defaults = {"name": "n", "backend": "hls", "generator": "adaqat", "layer": None}
    return HardwareNode(
        **(defaults | fields), op=op, inputs=tuple(inputs), outputs=tuple(outputs),
        attributes=attributes, cycles=1, estimate=Resources(),
    )  # fmt: skip


def make_stream(name: str, elements: int, beats: int, dtype: IntType) -> Stream:
    return Stream(name=name, dtype=dtype, folded_shape=(1, beats, elements))


def finn_node(
    record: Operator, inputs: Iterable[Stream], outputs: Iterable[Stream], **attributes: Any
) -> HardwareNode:
    """A node whose RTL FINN generates."""
    return make_node(record.name, inputs, outputs, generator="finn", backend="rtl", **attributes)


def image(name: str, height: int, width: int) -> Stream:
    """Feature maps of four channels, two at a time."""
    dtype = int_type(4, True)
    return Stream(name=name, dtype=dtype, folded_shape=(1, height, width, 2, 2))


def changed(node: HardwareNode, **changes: Any) -> HardwareNode:
    attributes = {**node.attributes, **changes.pop("attributes", {})}
    return node.model_copy(update={"attributes": attributes, **changes})


@dataclass(frozen=True)
class Case:
    """One device of the bench, what it is sent, what must come back and how fast."""

    name: str
    device: Device
    words: Sequence[int]
    golden: IntArray
    elements: int
    dtype: IntType
    outputs: int = 1  # beats per frame
    interval: int | None = None  # cycles per frame, None: not at full rate
    latency: int | None = None

    def unpack(self, words: Sequence[int]) -> IntArray:
        if self.golden.dtype == object:
            return np.array(words, dtype=object)
        return unpack_words(words, self.elements, self.dtype).reshape(self.golden.shape)


@dataclass(frozen=True)
class Sample:
    """A node with its parameters."""

    node: HardwareNode
    parameters: dict[str, IntArray] = field(default_factory=dict)

    def __str__(self) -> str:
        values = (f"{k}{v}" for k, v in self.node.attributes.items())
        return "-".join([self.node.op, type_name(self.node.inputs[0].dtype), *values])


class OperatorSuite:
    """Tests of one operator.

    ``cases`` are devices in one simulation, ``samples`` nodes: those with RTL of this project, one
    input and one output are simulated too. ``refused`` are nodes that have no RTL and what is said.
    """

    operator: ClassVar[Operator]
    cases: ClassVar[Sequence[Case]] = ()
    samples: ClassVar[Sequence[Sample]] = ()
    refused: ClassVar[Sequence[tuple[HardwareNode, str]]] = ()
    more_sources: ClassVar[str] = ""  # modules of the test's own

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case_index" in metafunc.fixturenames:
            names = [case.name for case in self.cases]
            names += [f"node-{sample}" for sample in self.simulated()]
            metafunc.parametrize("case_index", range(len(names)), ids=names)
        if "sample" in metafunc.fixturenames:
            metafunc.parametrize("sample", self.samples, ids=list(map(str, self.samples)))
        if "refused_node" in metafunc.fixturenames:
            metafunc.parametrize(("refused_node", "message"), [*self.refused, *self.unknown()])

    @classmethod
    def unknown(cls) -> list[tuple[HardwareNode, str]]:
        """Return the first sample from whoever has no RTL of this operator."""
        node = cls.samples[0].node
        others = {"finn": "for which FINN has no RTL", "adaqat": "for which hw/rtl has no module"}
        return [
            (
                node.model_copy(update={"generator": generator}),
                f"^Node {node.name!r} has the operator '{cls.operator.name}', {said}; there is one",
            )
            for generator, said in others.items()
            if generator not in cls.operator.generators
        ]

    @classmethod
    def simulated(cls) -> list[Sample]:
        return [
            sample
            for sample in cls.samples
            if sample.node.generator == "adaqat"
            and len(sample.node.inputs) == len(sample.node.outputs) == 1
        ]

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, make_bench: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """All cases in one model."""
        folder: Path = tmp_path_factory.mktemp("sources")
        files = [folder / "more.sv"] if cls.more_sources else []
        for file in files:
            file.write_text(cls.more_sources, encoding="utf-8")
        built = [*cls.cases]
        for index, sample in enumerate(cls.simulated()):
            case, text = _node_case(sample, f"node{index}")
            files.append(folder / f"node{index}.sv")
            files[-1].write_text(text, encoding="utf-8")
            built.append(case)
        if not built:
            pytest.skip("FINN generates the RTL of this operator")
        bench = make_bench([case.device for case in built], files)
        bench.cases = built
        return bench

    @pytest.mark.rtl
    def test_rtl_is_the_reference_under_stalls_and_never_idles(
        self, bench: Any, case_index: int
    ) -> None:
        case = bench.cases[case_index]
        expected = case.golden.size // case.elements
        for stall in STALLS:
            run = bench.run(case_index, case.words, expected, stall=stall)
            np.testing.assert_array_equal(
                case.unpack(run.words), case.golden, err_msg=f"{case.name} {stall}"
            )
            if stall is None and case.interval is not None:
                assert run.interval(case.outputs) == case.interval, "bubbles"
                assert run.latency == case.latency

    @pytest.mark.rtl
    def test_wrong_inputs_show(self, bench: Any) -> None:
        """The comparison above must be able to fail."""
        case = bench.cases[0]
        run = bench.run(0, self.wrong(case), case.golden.size // case.elements)
        assert not np.array_equal(case.unpack(run.words), case.golden)

    @staticmethod
    def wrong(case: Case) -> list[int]:
        """Return words other than those of the case that must give another output."""
        return [word ^ 1 for word in case.words]

    def test_ranges_hold_every_output_and_are_reached(self, sample: Sample) -> None:
        node, rng = sample.node, np.random.default_rng(5)
        for whole in (True, False, False):
            ranges = []
            for stream in node.inputs:
                ends = limits(stream.dtype)
                inner = sorted(int(v) for v in rng.integers(ends[0], ends[1] + 1, 2))
                ranges.append(ValueRange(*(ends if whole else inner)))
            inputs = [self.frames(sample, k, ranges[k], rng) for k in range(len(ranges))]
            output = operator_module(self.operator).reference(node, sample.parameters, *inputs)
            found = operator_module(self.operator).ranges(node, sample.parameters, *ranges)
            assert found.low <= output.min()
            assert output.max() <= found.high
            assert (output.min(), output.max()) == (found.low, found.high), "wider than needed"
            assert found.fits(node.outputs[0].dtype)

    def frames(
        self, sample: Sample, port: int, values: ValueRange, rng: np.random.Generator
    ) -> IntArray:
        """Return frames of an input: all minima, all maxima, what reaches the ends, random."""
        shape = tensor_shape(sample.node.inputs[port])
        x = rng.integers(values.low, values.high + 1, (6, *shape))
        x[0], x[1] = values.low, values.high
        return np.concatenate([x, *self.extreme_frames(sample, values)])

    def extreme_frames(self, sample: Sample, values: ValueRange) -> list[IntArray]:
        """Return more frames (n, ...), where the output's ends need others than the inputs'."""
        del sample, values
        return []

    def test_what_has_no_rtl_is_refused(self, refused_node: HardwareNode, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            node_rtl(refused_node, "top", self.refused_parameters(refused_node), {})

    @staticmethod
    def refused_parameters(node: HardwareNode) -> dict[str, IntArray]:
        del node
        return {}


def tensor_shape(stream: Stream) -> tuple[int, ...]:
    """Shape of a frame of a stream without its folding, as FINN has it."""
    *middle, folds, elements = stream.folded_shape
    return (*middle[1:], folds * elements) if middle else (folds * elements,)


def check_yosys(
    sample: Sample, family: str, cache: Path, *, lut_memory: bool = False
) -> Resources:  # fmt: skip
    """Synthesize a small node: logic of known cells, no DSP block, no block RAM."""
    written = node_rtl(sample.node, "top", sample.parameters, {})
    top = cache / "top.sv"
    top.write_text(written.text, encoding="utf-8")
    index = SourceIndex((hw_dir() / "rtl").glob("*/*.sv"))
    sources = [path for core in written.cores for path in index.needed_by(core)]
    done = synthesize([*sources, top], "top", family=families.load(family), dsp=False, cache=cache)
    assert (done.unknown, done.notes) == ({}, ())
    assert done.resources.ff is not None
    assert 5 < done.resources.ff < 150
    assert (done.resources.dsp, done.resources.bram_18k) == (0, 0)
    assert (done.lut_memory > 0) == lut_memory
    return done.resources


def _node_case(sample: Sample, module: str) -> tuple[Case, str]:
    """Return the device that is a node's own module, its frames, and its Verilog."""
    node = sample.node
    rtl = node_rtl(node, module, sample.parameters, {})
    source, target = node.inputs[0], node.outputs[0]
    x = extreme_and_random(1, (7, *tensor_shape(source)), source.dtype)
    golden = operator_module(node.operator).reference(
        node, sample.parameters, require_range(x, source.dtype, "Frames")
    )
    device = Device(module, {}, {"in0": source.width}, target.width, rtl.texts)
    case = Case(
        name=f"node-{sample}",
        device=device,
        words=pack_words(x.reshape(-1, source.elements), source.dtype),
        golden=golden,
        elements=target.elements,
        dtype=target.dtype,
        outputs=target.beats,
    )
    return case, re.sub(r"^//.*\n", "", rtl.text)
