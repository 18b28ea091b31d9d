"""adaqat-hw: learn bit-widths, export, build the accelerator, compare the resource counts.

``import adaqat_hw`` loads no torch; each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AdaqatConfig": "schema",
    "AdaQatController": "quant",
    "AdaqatHwError": "errors",
    "bind": "quant",
    "bitops": "cost",
    "BitWidthPlan": "schema",
    "Board": "schema",
    "BudgetConfig": "schema",
    "build_tasks": "compile",
    "BuildConfig": "schema",
    "BuildRequest": "schema",
    "BuildResult": "schema",
    "export_qonnx": "export",
    "format_plan": "quant",
    "FreezeConfig": "schema",
    "HardwareGraph": "schema",
    "load_config": "schema",
    "network_spec": "quant",
    "NetworkSpec": "schema",
    "ProbingConfig": "schema",
    "QonnxArtifact": "schema",
    "QuantConfig": "schema",
    "quantize": "quant",
    "ResourceReport": "schema",
    "RunConfig": "schema",
    "SimulationResult": "schema",
    "train_network": "train",
    "TrainConfig": "schema",
    "weight_compression": "cost",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'adaqat_hw' has no attribute {name!r}")
    return getattr(importlib.import_module(f"adaqat_hw.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
