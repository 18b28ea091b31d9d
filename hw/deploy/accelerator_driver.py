"""Run the accelerator on a Zynq board with PYNQ: integers in, logits out.

Stands alone beside ``accelerator.bit``, ``accelerator.hwh`` and ``design.json``; needs NumPy, and
PYNQ for :class:`Accelerator`. Packing follows ``design.json``: values of a beat side by side,
element 0 lowest, each beat filled up to whole 64-bit words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
WORD_BYTES = 8
STEPS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}


def load_design(folder: Path = HERE) -> dict[str, Any]:
    """Return the record of the design: ``input`` and ``output`` stream, ``host``."""
    body: dict[str, Any] = json.loads((folder / "design.json").read_text(encoding="utf-8"))
    return body


def quantize(design: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Return the integers of ``images`` (frames first, as the network takes them).

    What the network computes before its input quantizer (``input_steps``) is computed here. They
    are laid out as the accelerator takes them: channels last where there are channels.
    """
    host = design["host"]
    bits, signed = host["input_dtype"]["bits"], host["input_dtype"]["signed"]
    narrow = int(host["input_narrow"])
    low = narrow - (1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1 - narrow
    scaled = np.asarray(images, dtype=np.float32)
    for step in host.get("input_steps", ()):
        constant = np.array(step["values"], dtype=np.float32).reshape(step["shape"])
        scaled = STEPS[step["op"]](scaled, constant)
    if host.get("input_bipolar", False):
        values = np.where(scaled >= 0, high, low).astype(np.int64)
    else:
        scaled = np.rint(scaled / np.float32(host["input_scale"]))
        values = np.clip(scaled, low, high).astype(np.int64)
    # A network that flattens its images first takes them in their own order.
    image = host["input_nchw"] and values.ndim == 4 and len(host["input_shape"]) == 3
    return np.moveaxis(values, 1, -1) if image else values


def pack(design: dict[str, Any], values: np.ndarray) -> np.ndarray:
    """Return integers (frames, ...) as bytes (frames, bytes per frame) for the DMA."""
    stream = design["input"]
    bits, elements = stream["bits"], stream["elements"]
    beats = values.reshape(len(values), -1, elements).astype(np.int64)
    planes = (beats[..., None] >> np.arange(bits)) & 1
    flat = planes.reshape(*beats.shape[:2], elements * bits).astype(np.uint8)
    packed = np.packbits(flat, axis=-1, bitorder="little")
    words = -(-stream["width"] // (8 * WORD_BYTES))
    full = np.zeros((*packed.shape[:2], words * WORD_BYTES), np.uint8)
    full[..., : packed.shape[-1]] = packed
    return full.reshape(len(values), -1)


def unpack(design: dict[str, Any], raw: np.ndarray) -> np.ndarray:
    """Return bytes (frames, bytes per frame) of the DMA as integers (frames, values)."""
    stream = design["output"]
    bits, elements = stream["bits"], stream["elements"]
    words = -(-stream["width"] // (8 * WORD_BYTES))
    beats = raw.reshape(len(raw), -1, words * WORD_BYTES)
    planes = np.unpackbits(beats, axis=-1, bitorder="little")[..., : elements * bits]
    planes = planes.reshape(*beats.shape[:2], elements, bits).astype(np.int64)
    weights = np.int64(1) << np.arange(bits, dtype=np.int64)
    if stream["signed"]:
        weights[-1] = -weights[-1]
    return np.asarray(planes @ weights).reshape(len(raw), -1)


def logits(design: dict[str, Any], values: np.ndarray) -> np.ndarray:
    """Return the logits of the accelerator's integers."""
    host = design["host"]
    scale, bias = np.array(host["output_scale"]), np.array(host["output_bias"])
    return np.asarray(values * scale + bias)


class Accelerator:
    """The accelerator on this board; ``run`` takes images as the network does."""

    def __init__(self, folder: Path = HERE) -> None:
        from pynq import Overlay, allocate

        self._allocate = allocate
        self.design = load_design(folder)
        self.overlay = Overlay(str(folder / "accelerator.bit"))
        self._dma = self.overlay.dma

    def run_integers(self, values: np.ndarray) -> np.ndarray:
        """Return the accelerator's integers for integer frames (frames first)."""
        data = pack(self.design, values)
        frame = self.design["output"]["beats"] * WORD_BYTES
        frame *= -(-self.design["output"]["width"] // (8 * WORD_BYTES))
        source = self._allocate(shape=(data.size,), dtype=np.uint8)
        sink = self._allocate(shape=(frame,), dtype=np.uint8)
        results = np.empty((len(values), frame), np.uint8)
        try:
            source[:] = data.reshape(-1)
            source.flush()
            self._dma.sendchannel.transfer(source)
            # One frame per transfer: TLAST ends each, the accelerator waits in between.
            for k in range(len(values)):
                self._dma.recvchannel.transfer(sink)
                self._dma.recvchannel.wait()
                sink.invalidate()
                results[k] = sink
            self._dma.sendchannel.wait()
        finally:
            source.freebuffer()
            sink.freebuffer()
        return unpack(self.design, results)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the logits of ``images`` (frames first, as the network takes them)."""
        return logits(self.design, self.run_integers(quantize(self.design, images)))
