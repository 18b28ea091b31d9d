"""Simulator: an RTL top with one input and one output stream, built with Verilator.

The C++ side is hw/sim/stream_driver.cpp. Builds are content-addressed: same sources, flags,
driver and tools, nothing to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl._model_build import build_model, place_data, run_model

_STAGE = "simulate"
_UNITS = 4  # bytes per 32-bit unit in the driver's files
_TIMEOUT_STATUS, _VIOLATION_STATUS, _SURPLUS_STATUS = 3, 4, 5


@dataclass(frozen=True)
class Stall:
    """Random stalls: the probability per cycle that an idle stream stays idle.

    ``input_probability`` holds back the next input word, ``output_probability`` TREADY.
    """

    seed: int
    input_probability: float = 0.5
    output_probability: float = 0.5

    def __post_init__(self) -> None:
        for value in (self.input_probability, self.output_probability):
            if not 0 <= value < 1:
                raise ConfigError(
                    f"A stall probability is {value!r}; allowed is 0 up to, not including, 1."
                )
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"The stall seed is {self.seed!r}; allowed is 0..2**63-1.")


@dataclass(frozen=True)
class StreamRun:
    """What came out of one simulation.

    Cycles count from the first one without reset. ``out_cycles`` are the cycles in which the
    ``words`` were handed over, ``in_cycles_first`` the cycle of the first accepted input word
    (None: none was), ``cycles`` all that were simulated and ``accepted`` the input words that
    the device took.
    """

    words: tuple[int, ...]
    out_cycles: tuple[int, ...]
    in_cycles_first: int | None
    cycles: int
    accepted: int

    @property
    def latency(self) -> int | None:
        """Cycles from the first accepted input word to the first output word."""
        return self.latency_to(1)

    def latency_to(self, beats: int) -> int | None:
        """Return the cycles from the first accepted input word to output word ``beats``.

        None when no word was accepted or fewer words came.
        """
        if self.in_cycles_first is None or not 1 <= beats <= len(self.out_cycles):
            return None
        return self.out_cycles[beats - 1] - self.in_cycles_first

    def interval(self, beats: int) -> float | None:
        """Return the mean cycles between the last words of consecutive frames of ``beats``.

        The first frame, in which the pipeline fills, is left out: None below three frames.
        """
        ends = self.out_cycles[beats - 1 :: beats]
        if len(ends) < 3:
            return None
        return (ends[-1] - ends[1]) / (len(ends) - 2)


@dataclass(frozen=True)
class Simulator:
    """A built simulator; make one with :meth:`build`, then :meth:`run` it at will.

    ``digest`` identifies sources, flags, driver and tools; ``data_dir`` holds the memory
    files that the RTL reads when it starts.
    """

    executable: Path
    data_dir: Path
    input_width: int
    output_width: int
    digest: str

    @classmethod
    def build(
        cls,
        sources: Sequence[Path],
        top: str,
        *,
        work_dir: Path,
        include_dirs: Sequence[Path] = (),
        data_files: Mapping[str, Path] | None = None,
        defines: Sequence[str] = (),
        input_width: int,
        output_width: int,
        parameters: Mapping[str, int | str] | None = None,
    ) -> Simulator:
        """Verilate and compile ``top``, or find it built already.

        Args:
            sources: SystemVerilog and Verilog files, packages before their users.
            top: the top module.
            work_dir: folder for builds; one subfolder per digest.
            include_dirs: folders for `` `include`` and for modules by file name.
            data_files: files that ``$readmemh`` reads, by the name the RTL uses.
            defines: macros, ``NAME`` or ``NAME=VALUE``.
            input_width: bits of in0_V_TDATA.
            output_width: bits of out0_V_TDATA.
            parameters: parameters of the top.

        Raises:
            ConfigError: a file that does not exist or a width below 1.
            ToolNotFound: no Verilator, C++ compiler or make.
            StageFailed: Verilator or the compiler refused; the log is kept.
        """
        for width in (input_width, output_width):
            if width < 1:
                raise ConfigError(f"A stream width is {width!r} bits; at least 1 is needed.")
        data = dict(data_files or {})
        driver = hw_dir() / "sim" / "stream_driver.cpp"
        for path in (*sources, *data.values(), driver):
            if not path.is_file():
                raise ConfigError(f"The file {str(path)!r} that {top!r} needs does not exist.")
        work_dir = work_dir.resolve()
        executable, digest = build_model(
            sources,
            top,
            driver=driver,
            work_dir=work_dir,
            include_dirs=include_dirs,
            defines=defines,
            parameters=parameters or {},
            macros={"ADQ_IN_WIDTH": input_width, "ADQ_OUT_WIDTH": output_width},
        )
        return cls(executable, place_data(data, work_dir), input_width, output_width, digest)

    def run(
        self,
        words: Sequence[int],
        expected: int,
        *,
        max_cycles: int,
        stall: Stall | None = None,
        drain: int = 0,
        init_seed: int = 0,
    ) -> StreamRun:
        """Send ``words`` and return the ``expected`` words that come back.

        Args:
            words: input words, ``input_width`` bits each.
            expected: number of output words to wait for.
            max_cycles: give up after this many cycles.
            stall: random stalls, None for a stream that never waits.
            drain: cycles to go on after the last word; another word in them is a failure.
            init_seed: not 0 starts registers without initial value at random.

        Raises:
            ConfigError: a word that does not fit, or a negative number.
            StageFailed: too few or too many words, or the device broke the stream protocol.
        """
        if min(expected, max_cycles, drain, init_seed) < 0:
            raise ConfigError(
                f"expected {expected!r}, max_cycles {max_cycles!r}, drain {drain!r} and init_seed "
                f"{init_seed!r} must not be negative."
            )
        stalls = stall or Stall(0, 0.0, 0.0)
        size = (self.input_width + 31) // 32 * _UNITS
        for word in words:
            if word < 0 or word >> self.input_width:
                raise ConfigError(
                    f"Input word {word!r} does not fit the stream of {self.input_width} bits."
                )
        with tempfile.TemporaryDirectory(prefix="adaqat-sim-") as folder:
            source, sink = Path(folder) / "in.bin", Path(folder) / "out.bin"
            source.write_bytes(b"".join(word.to_bytes(size, "little") for word in words))
            numbers = (
                *(expected, max_cycles, drain, stalls.seed),
                int(stalls.input_probability * 2**32),
                int(stalls.output_probability * 2**32),
                init_seed,
            )
            status, summary = run_model(
                self.executable,
                [str(source), str(sink), *map(str, numbers)],
                self.data_dir,
                stage=_STAGE,
                statuses=(0, _TIMEOUT_STATUS, _VIOLATION_STATUS, _SURPLUS_STATUS),
            )
            raw = sink.read_bytes() if sink.is_file() else b""
        received, cycles = _parse_output(raw, self.output_width)
        if status == _VIOLATION_STATUS:
            raise StageFailed(
                _STAGE,
                f"the device broke the output stream's protocol in cycle {summary['cycles']}, "
                f"after {len(received)} of {expected} words: {summary['violation']}.",
            )
        if status == _SURPLUS_STATUS:
            raise StageFailed(
                _STAGE,
                f"the device sent more than the {expected} expected words, the next in cycle "
                f"{summary['cycles']}.",
            )
        if status == _TIMEOUT_STATUS:
            last = f"the last in cycle {cycles[-1]}" if cycles else "not one"
            raise StageFailed(
                _STAGE,
                f"{len(received)} of {expected} outputs came within {summary['cycles']} cycles "
                f"({last}; {summary['accepted']} of {len(words)} inputs were accepted): a "
                "deadlock, or max_cycles is too low.",
            )
        first = int(summary["first_accepted"])
        return StreamRun(
            words=received,
            out_cycles=cycles,
            in_cycles_first=first if first >= 0 else None,
            cycles=int(summary["cycles"]),
            accepted=int(summary["accepted"]),
        )


def _parse_output(raw: bytes, width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    size = (width + 31) // 32 * _UNITS
    table = np.frombuffer(raw, dtype=np.dtype([("cycle", "<u8"), ("word", f"V{size}")]))
    words = tuple(int.from_bytes(value.tobytes(), "little") for value in table["word"])
    return words, tuple(int(cycle) for cycle in table["cycle"])
