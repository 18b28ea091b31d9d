"""Find ``hw/``, ``flows/``, ``configs/`` and ``zoo/``, in a checkout and in an installed wheel.

They lie beside the package in the source tree and inside it (``_bundled/``) in a wheel.
This is the only module that knows.
"""

from __future__ import annotations

from pathlib import Path

from adaqat_hw.errors import ToolNotFound

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    for base in (_PACKAGE / "_bundled", _PACKAGE.parent):
        if (base / name).is_dir():
            return base / name
    raise ToolNotFound(
        f"The folder {name!r} belongs to adaqat-hw and is missing from this installation; "
        "install the package again."
    )


def hw_dir() -> Path:
    """Return the folder of RTL, boards, constraints and reports."""
    return _folder("hw")


def flows_dir() -> Path:
    """Return the folder of scripts that run inside the FINN environment."""
    return _folder("flows")


def configs_dir() -> Path:
    """Return the folder of shipped run configurations."""
    return _folder("configs")


def zoo_dir() -> Path:
    """Return the folder of trained networks."""
    return _folder("zoo")


def package_root() -> Path:
    """Return the folder to put on PYTHONPATH so that another Python finds ``adaqat_hw``."""
    return _PACKAGE.parent
