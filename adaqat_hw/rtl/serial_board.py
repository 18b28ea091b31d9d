"""An accelerator behind a board's serial line: its sources, parameters and simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.resources import hw_dir
from adaqat_hw.rtl.board_clock import Clocking
from adaqat_hw.rtl.packing import IntArray
from adaqat_hw.rtl.serial_link import (
    ASK_IDENTITY,
    Identity,
    crc8,
    frame_bytes,
    frame_packet,
    parse_identity,
    result_values,
)
from adaqat_hw.rtl.stitch import StitchedDesign
from adaqat_hw.rtl.verilate import Simulator
from adaqat_hw.schema import Stream

_HOST = "serial_host"
_WAIT, _BREAK = 1 << 8, 1 << 9  # sim/serial_host.sv of the shell
_BITS = 10  # of a character
_HELD = 1000  # clocks that the board's own reset and the host's first wait take


@dataclass(frozen=True)
class BoardDesign:
    """A stitched accelerator inside a board top.

    ``accelerator`` must have been stitched under the name ``accelerator``; ``shell`` is the folder
    of ``hw`` that has ``top``; ``build`` is the digest of 12 hex digits that the device tells a
    host.
    """

    accelerator: StitchedDesign
    shell: str
    top: str
    source: Stream
    sink: Stream
    clocking: Clocking
    build: str

    @property
    def sources(self) -> tuple[Path, ...]:
        """All sources of the board top."""
        folder = hw_dir() / self.shell
        own = [p for p in sorted(folder.glob("*.*v")) if p.stem != self.top]
        return (*self.accelerator.sources, *own, folder / f"{self.top}.sv")

    @property
    def parameters(self) -> dict[str, int]:
        """Parameters of the board top."""
        return self._line_parameters() | {
            "OP_DIV": self.clocking.op_div,
            "OS_DIV": self.clocking.os_div,
        }

    @property
    def identity(self) -> Identity:
        """What the device says of itself."""
        return Identity(
            self.build,
            self.source.beats * self.source.width // 8,
            self.sink.beats * self.sink.width // 8,
        )

    def line_fps(self) -> float:
        """Frames per second that the serial line carries, one after the other."""
        characters = self.identity.frame_bytes + self.identity.result_bytes + 4
        return self.clocking.baud / (_BITS * characters)

    def _line_parameters(self) -> dict[str, int]:
        return {
            "CLOCKS_PER_BIT": self.clocking.clocks_per_bit,
            "IN_WIDTH": self.source.width,
            "IN_BEATS": self.source.beats,
            "OUT_WIDTH": self.sink.width,
            "OUT_BEATS": self.sink.beats,
            "IDENTITY_HIGH": int(self.build[:6], 16),
            "IDENTITY_LOW": int(self.build[6:], 16),
        }

    def simulator(self, work_dir: Path) -> Simulator:
        """Build the simulation of the board top with a host at its pins (no PLL in it)."""
        host = hw_dir() / self.shell / "sim" / f"{_HOST}.sv"
        return Simulator.build(
            [*self.sources, host],
            _HOST,
            work_dir=work_dir,
            data_files=self.accelerator.data_files,
            defines=("VERILATOR",),
            input_width=16,
            output_width=8,
            parameters=self._line_parameters(),
        )


def simulate_line(
    design: BoardDesign, simulator: Simulator, frames: Sequence[IntArray], cycles: int
) -> tuple[Identity, list[IntArray]]:
    """Send frames over the simulated line; return the device's identity and the results.

    First an abandoned frame and a break, then the question who is there, then the frames one
    after the other, each when the one before is answered.

    Args:
        design: what is simulated.
        simulator: of :meth:`BoardDesign.simulator`.
        frames: integer frames.
        cycles: what the accelerator takes for a frame at most.

    Raises:
        StageFailed: a wrong, missing or damaged answer.
    """
    sizes = design.identity
    half = frame_packet(bytes(sizes.frame_bytes))[: sizes.frame_bytes // 2 + 1]
    words = [*half, _BREAK, *_packet(ASK_IDENTITY)]
    for frame in frames:
        words += _packet(frame_packet(frame_bytes(frame, design.source)))
    answers = [17, *[sizes.result_bytes + 2] * len(frames)]
    characters = len(words) + sum(answers) + 20 * len(answers)
    bit = design.clocking.clocks_per_bit
    run = simulator.run(
        words,
        sum(answers),
        max_cycles=_HELD + 2 * _BITS * bit * characters + cycles * (len(frames) + 1),
        drain=3 * _BITS * bit,
    )
    data = bytes(run.words)
    bodies: list[bytes] = []
    for size in answers:
        bodies.append(_opened(data[:size], b"R" if bodies else b"A"))
        data = data[size:]
    identity = parse_identity(bodies[0])
    if identity != sizes:
        raise StageFailed("bitstream", f"over the line the device says {identity!r}, not {sizes!r}")
    return identity, [result_values(body, design.sink) for body in bodies[1:]]


def _packet(data: bytes) -> list[int]:
    return [data[0] | _WAIT, *data[1:]]


def _opened(answer: bytes, head: bytes) -> bytes:
    if answer[:1] != head or crc8(answer[:-1]) != answer[-1]:
        raise StageFailed("bitstream", f"over the line came {answer[:8]!r}..., a damaged answer")
    return answer[1:-1]


def board_top(name: str | None, shell: str) -> str:
    """Return the board top's name; raise ConfigError where its shell has no such module."""
    known = sorted(path.stem for path in (hw_dir() / shell).glob("adq_*_top.sv"))
    if name not in known:
        raise ConfigError(f"The board's top is {name!r}; hw/{shell} has {', '.join(known)}.")
    return name


def constraint_file(name: str | None, suffix: str) -> Path:
    """Return a board's constraints: a file of hw/constraints, or an absolute path."""
    path = hw_dir() / "constraints" / name if name else None
    if path is None or not path.is_file():
        known = sorted(p.name for p in (hw_dir() / "constraints").glob(f"*.{suffix}"))
        raise ConfigError(
            f"The board's constraints are {name!r}; give one of {', '.join(known)}, or the "
            f"absolute path of an .{suffix} file."
        )
    return path
