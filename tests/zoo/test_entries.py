"""Every network of the zoo, measured again: what its records say is what it does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from adaqat_hw import data, nets, zoo
from adaqat_hw.cost import bitops
from adaqat_hw.data import DataSource
from adaqat_hw.errors import ConfigError
from adaqat_hw.export.source import load_trained
from adaqat_hw.export.verify import check_bits, compare_logits, require_agreement, run_graph
from adaqat_hw.qonnx_file import load_qonnx
from adaqat_hw.resources import zoo_dir
from adaqat_hw.run import ZooRoot
from adaqat_hw.schema import NetworkSpec
from adaqat_hw.train import load_into, load_weights

ENTRIES = zoo.list_entries()
QUANTIZED = [entry for entry in ENTRIES if entry.plan is not None]
BUNDLED = ("digits",)
FRAMES = 64
by_name = {"ids": lambda entry: entry.name}


def test_the_zoo_is_not_empty_and_its_page_is_of_these_networks():
    assert QUANTIZED
    assert ZooRoot(zoo_dir()).readme.read_text(encoding="utf-8") == zoo.readme(ENTRIES)


def source_of(entry: zoo.Entry) -> DataSource:
    """The data set of an entry; skips where its files are not on this machine."""
    variable = f"ADAQAT_DATA_{entry.config.data.name.upper().replace('-', '_')}"
    config = entry.config.data.model_copy(update={"path": os.environ.get(variable)})
    try:
        return data.load(config, entry.config.seed)
    except ConfigError as exc:
        if config.name in BUNDLED:
            raise
        pytest.skip(f"{exc} Set {variable} to its folder to measure {entry.name!r}.")


def frames_of(entry: zoo.Entry) -> torch.Tensor:
    """Frames to compare on: real ones where the data are bundled, else random ones."""
    assert entry.artifact is not None
    if entry.config.data.name in BUNDLED:
        (x, _), *_ = source_of(entry).test_batches(FRAMES, FRAMES)
        return x
    shape = (FRAMES, *entry.artifact.input_shape)
    generator = torch.Generator().manual_seed(0)
    if entry.artifact.input_quant is None:
        return torch.randint(0, 2, shape, generator=generator)
    quant = entry.config.quant
    low = -quant.input_range if quant.input_signed else 0.0
    return low + (quant.input_range - low) * torch.rand(shape, generator=generator)


@pytest.mark.parametrize("entry", ENTRIES, **by_name)
def test_its_accuracy_is_measured_again(entry: zoo.Entry):
    source = source_of(entry)
    right = samples = 0
    for x, y in source.test_batches(500):
        if entry.artifact is None:
            net = nets.build(entry.config.network)
            load_into(net, load_weights(entry.folder.checkpoint), entry.folder.checkpoint)
            with torch.no_grad():
                logits = net.eval()(x).numpy()
        else:
            inputs = x.numpy()
            logits = run_graph(str(entry.folder.model), inputs)
        right += int((logits.argmax(1) == y.numpy()).sum())
        samples += len(y)
    assert samples == entry.result.test_samples
    # Only samples on which PyTorch and QONNX were found to differ at export may count otherwise.
    ties = 0.0 if entry.artifact is None else 1.0 - (entry.artifact.argmax_agreement or 0.0)
    assert abs(right / samples - entry.result.accuracy) <= ties + 1e-9


@pytest.mark.parametrize("entry", QUANTIZED, **by_name)
def test_its_weights_and_its_qonnx_file_compute_the_same(entry: zoo.Entry):
    trained = load_trained(entry.config, entry.folder.path)
    x = frames_of(entry)
    with torch.no_grad():
        expected = trained.net(x).numpy()
    agreement = compare_logits(expected, run_graph(str(entry.folder.model), x.numpy()))
    assert agreement.samples == FRAMES
    require_agreement(agreement)
    assert agreement.max_abs_error <= 1e-3 * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("entry", QUANTIZED, **by_name)
def test_its_file_has_the_widths_of_its_plan_and_its_bitops(entry: zoo.Entry):
    plan = entry.plan
    assert plan is not None
    assert entry.artifact is not None
    rows = check_bits(load_qonnx(entry.folder.model), plan, str(entry.folder.model))
    assert len(rows) == len(plan.layers)
    assert entry.result.plan_digest == entry.artifact.plan_digest == plan.digest()
    assert entry.record.bitops == bitops(NetworkSpec.read(entry.folder.spec), plan).total


@pytest.mark.parametrize("entry", ENTRIES, **by_name)
def test_its_records_hold_no_path_and_its_bill_is_whole(entry: zoo.Entry):
    assert entry.config.data.path is None
    assert entry.config.name == entry.name == Path(entry.folder.path).name
    assert (entry.record.bill is None) == (entry.resources == ())
    assert max(path.stat().st_size for path in entry.folder.path.iterdir()) <= 2_000_000
