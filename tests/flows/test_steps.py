"""Which steps a goal has, and that what they write is the same wherever they ran."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from adaqat_hw import families
from adaqat_hw.schema import VIVADO_GOALS, BuildRequest


@pytest.mark.parametrize("goal", ["estimate", "rtl", *VIVADO_GOALS])
def test_every_goal_but_an_estimate_has_rtl(flow_module, goal):
    request = BuildRequest(
        model="m", model_sha256="0", network="n", variant="qonnx", board="b", part="p",
        dsp=families.load("xc7").dsp, clock_ns=10.0, goal=goal,
    )  # fmt: skip
    names = [step.name for step in flow_module("steps").steps_of(request)]
    assert ("generate_rtl" in names) is (goal != "estimate")
    assert names[-1] == "write_records"


def test_arrays_have_the_same_bytes_under_every_python(flow_module, tmp_path):
    """np.savez streams its members, whose headers changed with Python 3.11.4."""
    arrays = {"a": np.arange(6).reshape(2, 3)[:, ::2], "b/c": np.zeros(3, dtype=np.float32)}
    path = tmp_path / "x.npz"
    flow_module("record").save_arrays(path, arrays)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            assert (info.extract_version, info.extra, info.flag_bits) == (20, b"", 0)
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
    with np.load(path) as read:
        assert sorted(read.files) == ["a", "b/c"]
        for name, array in arrays.items():
            assert np.array_equal(read[name], array)
            assert read[name].dtype == array.dtype
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
