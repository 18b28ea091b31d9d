"""The host's end of the serial line to an accelerator on a board: hw/ecp5/README.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adaqat_hw.errors import ConfigError, StageFailed
from adaqat_hw.rtl.packing import IntArray, pack_words, unpack_words
from adaqat_hw.schema import HardwareGraph, Stream

ASK_IDENTITY, ASK_FRAME = b"I", b"F"
IDENTITY_BYTES = 15
_VERSION = 1
_TRIES = 3


class Port(Protocol):
    """What is needed of a serial port; ``serial.Serial`` of pyserial has it."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, fewer when its timeout is up."""
        ...

    def write(self, data: bytes, /) -> object:
        """Send bytes."""
        ...

    def reset_input_buffer(self) -> object:
        """Forget what was received."""
        ...

    def send_break(self, duration: float = 0.25, /) -> object:
        """Hold the line low."""
        ...


@dataclass(frozen=True)
class Identity:
    """Identity of the device: the build's digest, bytes of a frame and of a result."""

    build: str
    frame_bytes: int
    result_bytes: int


def crc8(data: bytes) -> int:
    """Return the check byte of ``data``: polynomial x^8 + x^2 + x + 1, starting at 0.

    >>> hex(crc8(b"123456789"))
    '0xf4'
    """
    crc = 0
    for value in data:
        crc ^= value
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def frame_packet(frame: bytes) -> bytes:
    """Return what to send for one frame."""
    body = ASK_FRAME + frame
    return body + bytes([crc8(body)])


def frame_bytes(frame: IntArray, stream: Stream) -> bytes:
    """Return one frame's bytes as they go over the line: beats in order, lowest byte first."""
    words = pack_words(frame.reshape(-1, stream.elements), stream.dtype)
    return b"".join(word.to_bytes(stream.width // 8, "little") for word in words)


def result_values(data: bytes, stream: Stream) -> IntArray:
    """Return one result's integers (beats * elements,) from its bytes."""
    size = stream.width // 8
    if len(data) != size * stream.beats:
        raise ValueError(f"A result has {size * stream.beats} bytes, not {len(data)!r}.")
    words = [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
    return unpack_words(words, stream.elements, stream.dtype).reshape(-1)


def parse_identity(body: bytes) -> Identity:
    """Parse the 15 bytes after ``A``."""
    if len(body) != IDENTITY_BYTES or body[0] != _VERSION:
        raise StageFailed(
            "serial link", f"the device says {body!r}, not version {_VERSION} of the protocol"
        )
    sizes = int.from_bytes(body[7:11], "little"), int.from_bytes(body[11:15], "little")
    return Identity(body[1:7].hex(), *sizes)


class Accelerator:
    """A board that answers over a serial port.

    Args:
        port: open at the baud rate of ``bitstream.json``, with a timeout of a second or so.
        graph: the build's ``hardware.json``.
        build: the build's digest (end of its folder's name), to refuse another bitstream.

    Raises:
        ConfigError: another accelerator answers.
        StageFailed: nothing answers.
    """

    def __init__(self, port: Port, graph: HardwareGraph, build: str | None = None) -> None:
        self._port, self._graph = port, graph
        self._reset()
        port.write(ASK_IDENTITY)
        body = self._answer(b"A", IDENTITY_BYTES)
        if body is None:
            raise StageFailed("serial link", "nothing answers, or not as this accelerator does")
        identity = parse_identity(body)
        source, sink = graph.input_stream, graph.output_stream
        sizes = (source.beats * source.width // 8, sink.beats * sink.width // 8)
        same_sizes = (identity.frame_bytes, identity.result_bytes) == sizes
        if not same_sizes or build not in (None, identity.build):
            raise ConfigError(
                f"The board holds build {identity.build!r} with frames of {identity.frame_bytes} "
                f"and results of {identity.result_bytes} bytes, not {build!r} with {sizes[0]} and "
                f"{sizes[1]}; load the right bitstream."
            )

    def run(self, frames: IntArray) -> IntArray:
        """Return the integer results (frames, values) of integer frames (frames, ...).

        A frame or a result that was damaged on the line is sent again.
        """
        return np.array([self._one(frame) for frame in frames], dtype=np.int64)

    def _one(self, frame: IntArray) -> IntArray:
        sink = self._graph.output_stream
        packet = frame_packet(frame_bytes(frame, self._graph.input_stream))
        for _ in range(_TRIES):
            self._port.write(packet)
            body = self._answer(b"R", sink.beats * sink.width // 8)
            if body is not None:
                return result_values(body, sink)
            self._reset()
        raise StageFailed("serial link", f"no good answer to a frame in {_TRIES} tries")

    def _answer(self, head: bytes, size: int) -> bytes | None:
        data = self._port.read(1)
        if data != head:
            return None
        data += self._port.read(size + 1)
        complete = len(data) == size + 2 and crc8(data[:-1]) == data[-1]
        return data[1:-1] if complete else None

    def _reset(self) -> None:
        self._port.send_break(0.01)
        self._port.reset_input_buffer()
