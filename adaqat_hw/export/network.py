"""Export a quantized network of one's own, verified on samples of one's own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from adaqat_hw.errors import ConfigError
from adaqat_hw.export.graph import write_qonnx
from adaqat_hw.export.rounding import rounding_noise
from adaqat_hw.export.verify import (
    Agreement,
    check_bits,
    compare_logits,
    compare_values,
    require_agreement,
    run_graph,
)
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.quant import QuantizedNetwork

_BATCH = 256
_DECISION = 2  # classes: the largest of one logit says nothing


def export_qonnx(net: QuantizedNetwork, path: str | Path, samples: Tensor) -> Agreement:
    """Write ``net`` at its present widths as QONNX; the file appears only when it is proved.

    The bits of every layer are read back from the file and must equal the network's; the file is
    executed with qonnx on ``samples`` and must decide as PyTorch does, or, where the output is no
    vector of class logits, put out the same values.

    Args:
        net: the network; left in evaluation mode.
        path: of the file.
        samples: inputs (n, *input_shape), n at least 1.

    Raises:
        ConfigError: no samples, or of another shape.
        ExportMismatch: bits, decisions or values differ.
    """
    if not len(samples) or tuple(samples.shape[1:]) != net.spec.input_shape:
        raise ConfigError(
            f"The samples have shape {tuple(samples.shape)!r}; give (n, "
            f"{', '.join(map(str, net.spec.input_shape))}), n at least 1."
        )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unverified = target.with_name(f".{target.name}.new.onnx")
    net.eval()
    try:
        write_qonnx(net, unverified)
        check_bits(load_qonnx(unverified), net.plan("manual"), target.name)
        with torch.no_grad():
            parts = range(0, len(samples), _BATCH)
            expected = torch.cat([net(samples[i : i + _BATCH]) for i in parts]).cpu().numpy()
        outputs = run_graph(str(unverified), samples.cpu().numpy())
        noise = rounding_noise(net, samples)
        classes = net.spec.num_classes
        compare = compare_values if classes is None or classes < _DECISION else compare_logits
        agreement = compare(expected, outputs, noise)
        require_agreement(agreement)
        unverified.replace(target)
    finally:
        unverified.unlink(missing_ok=True)
    return agreement
