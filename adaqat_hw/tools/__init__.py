"""Outside programs: find them, ask their versions, run them, keep their results."""

from adaqat_hw.tools.find import (
    FINN_PLUS_VERSION,
    cache_dir,
    cxx,
    find_program,
    finn_environment,
    finn_python,
    make,
    package_version,
    package_versions,
    program_version,
    verilator,
)

__all__ = [
    "FINN_PLUS_VERSION",
    "cache_dir",
    "cxx",
    "find_program",
    "finn_environment",
    "finn_python",
    "make",
    "package_version",
    "package_versions",
    "program_version",
    "verilator",
]
