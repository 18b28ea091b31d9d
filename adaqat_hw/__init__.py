"""adaqat-hw: learn bit-widths, export, build the accelerator, compare the resource bills.

``import adaqat_hw`` loads no torch; each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AdaqatHwError": "errors",
    "AdaQatController": "quant",
    "BitWidthPlan": "schema",
    "Board": "schema",
    "BuildConfig": "schema",
    "BuildRequest": "schema",
    "BuildResult": "schema",
    "HardwareGraph": "schema",
    "NetworkSpec": "schema",
    "QonnxArtifact": "schema",
    "QuantConfig": "schema",
    "ResourceReport": "schema",
    "RunConfig": "schema",
    "SimulationResult": "schema",
    "TrainConfig": "schema",
    "bitops": "cost",
    "build_stages": "build",
    "load_config": "schema",
    "network_spec": "quant",
    "quantize": "quant",
    "weight_compression": "cost",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'adaqat_hw' has no attribute {name!r}")
    return getattr(importlib.import_module(f"adaqat_hw.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
