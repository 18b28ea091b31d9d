"""Legal Verilog identifiers, file names and comments from names of layers and nodes."""

from __future__ import annotations

import re

from adaqat_hw.errors import ConfigError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_LONGEST = 96
# IEEE 1800-2017, Annex B, without those that a sanitised name cannot be mistaken for.
_KEYWORD_LIST = """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic
    before begin bind bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle
    checker class clocking cmos config const constraint context continue cover covergroup
    coverpoint cross deassign default defparam design disable dist do edge else end endcase
    endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface
    endmodule endpackage endprimitive endprogram endproperty endspecify endsequence endtable
    endtask enum event eventually expect export extends extern final first_match for force foreach
    forever fork forkjoin function generate genvar global highz0 highz1 if iff ifnone ignore_bins
    illegal_bins implements implies import incdir include initial inout input inside instance int
    integer interconnect interface intersect join join_any join_none large let liblist library
    local localparam logic longint macromodule matches medium modport module nand negedge nettype
    new nexttime nmos nor noshowcancelled not notif0 notif1 null or output package packed parameter
    pmos posedge primitive priority program property protected pull0 pull1 pulldown pullup
    pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase randsequence rcmos real
    realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0 rtranif1
    s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal
    showcancelled signed small soft solve specify specparam static string strong strong0 strong1
    struct super supply0 supply1 sync_accept_on sync_reject_on table tagged task this throughout
    time timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef
    union unique unique0 unsigned until until_with untyped use uwire var vectored virtual void wait
    wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor
    """
_KEYWORDS = frozenset(_KEYWORD_LIST.split())


class Names:
    """Give every text a Verilog identifier of its own.

    Args:
        taken: identifiers that must not be given out.
    """

    def __init__(self, taken: set[str] | frozenset[str] = frozenset()) -> None:
        self._taken = set(taken)
        self._given: dict[str, str] = {}

    def __getitem__(self, text: str) -> str:
        """Return the identifier of ``text``: the text itself where it can be one."""
        if text not in self._given:
            base = name = sanitise(text)
            number = 2
            while name in self._taken:
                name = f"{base}_{number}"
                number += 1
            self._taken.add(name)
            self._given[text] = name
        return self._given[text]


def sanitise(text: str) -> str:
    """Return a legal identifier that looks like ``text``.

    >>> sanitise("layers.0.conv"), sanitise("9"), sanitise("wire")
    ('layers_0_conv', 'n_9', 'wire_')
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)[:_LONGEST]
    if not name or name[0].isdigit():
        name = f"n_{name}"
    return f"{name}_" if name in _KEYWORDS else name


def comment(text: str) -> str:
    """Return ``text`` for the end of a line comment; what could end it or mean more is ``?``."""
    return re.sub(r"[^A-Za-z0-9_.\-/]", "?", text)[:_LONGEST]


def require_identifier(name: str, role: str) -> str:
    """Return ``name``; raise ConfigError when it is not a Verilog identifier."""
    if not _IDENTIFIER.fullmatch(name) or name in _KEYWORDS:
        raise ConfigError(
            f"{role} is {name!r}; allowed is a Verilog identifier (letters, digits, '_', no "
            "keyword)."
        )
    return name


def require_file_name(name: str, role: str) -> str:
    """Return ``name``; raise ConfigError when it is not a plain file name."""
    if not _FILE_NAME.fullmatch(name):
        raise ConfigError(
            f"{role} is {name!r}; allowed are letters, digits, '_', '-' and '.' without folders."
        )
    return name
