"""Patches of finn-rtllib's Verilog where slang (Yosys) or Verilator refuses it.

The only file of this package that knows about them. They are applied to the copy of the
sources that the stitcher makes, never to the installed FINN. Every file that was changed says
so in its last line, which also makes patching twice harmless.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from adaqat_hw.errors import StageFailed
from adaqat_hw.schema import write_atomic

_STAGE = "stitch/patch"
_MARK = "// Patched by adaqat-hw: "


@dataclass(frozen=True)
class FinnPatch:
    """One textual patch of one file.

    Attributes:
        name: what the changed file is marked with.
        file: name of the file; the rule must match there at least once.
        pattern: regular expression, multi-line.
        replacement: as for ``re.sub``.
        version: version of finn-plus in which the symptom was seen.
        symptom: which tool says what without the patch.
        delete_when: how to tell that the rule is no longer needed.
    """

    name: str
    file: str
    pattern: str
    replacement: str
    version: str
    symptom: str
    delete_when: str


_NETTYPE = r"^`default_nettype[ \t]+(?:none|wire)[ \t]*\n"
_NETTYPE_SYMPTOM = "slang: directive is not allowed inside a design element"
_NETTYPE_DELETE = "the directives stand outside the module"

FINN_PATCHES: tuple[FinnPatch, ...] = (
    FinnPatch(
        name="nettype-in-fifo",
        file="fifo.sv",
        pattern=_NETTYPE,
        replacement="",
        version="1.6.1",
        symptom=_NETTYPE_SYMPTOM,
        delete_when=_NETTYPE_DELETE,
    ),
    FinnPatch(
        name="nettype-in-vpc",
        file="vpc.sv",
        pattern=_NETTYPE,
        replacement="",
        version="1.6.1",
        symptom=_NETTYPE_SYMPTOM,
        delete_when=_NETTYPE_DELETE,
    ),
    FinnPatch(
        name="packed-constant-struct",
        file="fifo.sv",
        pattern=r"\btypedef[ \t]+struct[ \t]*(\{[^}]*\}[ \t]*abits_t[ \t]*;)",
        replacement=r"typedef struct packed \1",
        version="1.6.1",
        symptom="Verilator 5.48: can't determine constant for FUNCREF 'INIT_ABITS'",
        delete_when="Verilator evaluates constant functions that return an unpacked struct",
    ),
    FinnPatch(
        name="error-without-argument",
        file="skid.sv",
        pattern=r'(\$error\("[^"\n]*%0d FEED_STAGES[^"\n]*")\)',
        replacement=r"\1, FEED_STAGES)",
        version="1.6.1",
        symptom="slang: no argument provided for '%d' format specifier",
        delete_when="the message has its argument",
    ),
    FinnPatch(
        name="constant-function-in-generate",
        file="add_multi.sv",
        # The type and the function move from the generate block to before it.
        pattern=r"(^[ \t]*if\(L < 1\) begin(?:.*\n)+?)"
        r"(^[ \t]*typedef[^\n]*\bleaf_load_t\b(?:.*\n)+?^[ \t]*endfunction\b.*\n)",
        replacement=r"\2\1",
        version="1.6.1",
        symptom="slang: cannot call a function declared inside a generate block in a constant "
        "expression (IEEE 1800-2017, 13.4.3)",
        delete_when="the function stands at module level",
    ),
    FinnPatch(
        name="nonblocking-in-initial",
        file="mvu.sv",
        pattern=r"(#100ns;\s*Dirty[ \t]*)<=",
        replacement=r"\1=",
        version="1.6.1",
        symptom="slang (--ignore-timing): nonblocking assignment in an initial block",
        delete_when="the start-up watchdog is kept from synthesis",
    ),
    FinnPatch(
        name="reversed-part-select",
        file="thresholding.sv",
        # Same value; with SN+1 == M, in the first stage, the select would be reversed.
        pattern=r"\bp\.ptr\[M-1:SN\+1\](\s*<)",
        replacement=r"(p.ptr[M-1:0] >> (SN+1))\1",
        version="1.6.1",
        symptom="slang: unsynthesizable feature, without a location",
        delete_when="the comparison of the first stage is left out",
    ),
    FinnPatch(
        name="output-queue-too-short",
        file="mvu_vvu_axi.sv",
        # The lock comes late: results of the cycles until then arrive after the core's depth.
        pattern=r"(\bMAX_IN_FLIGHT[ \t]*=[ \t]*CORE_PIPELINE_DEPTH)[ \t]*;",
        replacement=r"\1 + 2;",
        version="1.6.1",
        symptom=(
            "simulation: 'Overflowing output queue', data lost under back-pressure when the MVAU "
            "gives a result every cycle (SIMD = MW)"
        ),
        delete_when="an MVAU with SIMD = MW simulates bit-exact against a slow sink",
    ),
)


def patch_text(name: str, text: str, source: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Return the patched text of the file ``name`` and the names of the rules now applied.

    Text that is marked as patched by a rule is not touched by that rule again.

    Args:
        name: file name without folders; it selects the rules.
        text: what the file holds.
        source: what to call the file in a message.

    Raises:
        StageFailed: a rule for this file matches nowhere.
    """
    earlier = _marks(text)
    applied = []
    for rule in FINN_PATCHES:
        if rule.file != name or rule.name in earlier:
            continue
        text, count = re.subn(rule.pattern, rule.replacement, text, flags=re.MULTILINE)
        if count == 0:
            raise StageFailed(
                _STAGE,
                f"the patch {rule.name!r}, written for finn-plus {rule.version}, matches "
                f"nothing in {source or name!r}; look whether its fault is still there "
                f"({rule.symptom}), then adapt or delete it in adaqat_hw/rtl/finn_patches.py.",
            )
        applied.append(rule.name)
    if applied:
        text = f"{text.rstrip()}\n{_MARK}{', '.join(applied)}\n"
    return text, tuple(applied)


def patch_file(path: Path) -> tuple[str, ...]:
    """Patch a file in place and return the names of the rules that changed it."""
    text, applied = patch_text(path.name, path.read_text(encoding="utf-8"), str(path))
    if applied:
        write_atomic(path, text)
    return applied


def _marks(text: str) -> set[str]:
    lines = [line for line in text.splitlines() if line.startswith(_MARK)]
    return {name.strip() for line in lines for name in line[len(_MARK) :].split(",")}
