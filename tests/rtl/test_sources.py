"""Which source files a module needs."""

from __future__ import annotations

import pytest

from adaqat_hw.errors import ConfigError
from adaqat_hw.rtl.sources import SourceIndex


def test_two_files_of_one_name_must_be_equal(tmp_path):
    for part, text in (("a", "module m;\nendmodule\n"), ("b", "module m;\nendmodule\n")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "m.sv").write_text(text)
    files = [tmp_path / "a" / "m.sv", tmp_path / "b" / "m.sv"]
    assert SourceIndex(files).needed_by("m") == files[:1]
    files[1].write_text("module other;\nendmodule\n")
    with pytest.raises(ConfigError, match=r"Two different source files are named 'm\.sv'"):
        SourceIndex(files)
    files[1].rename(tmp_path / "b" / "n.sv")
    (tmp_path / "b" / "n.sv").write_text("module m;\nendmodule\n")
    with pytest.raises(ConfigError, match="module 'm' is declared in"):
        SourceIndex([files[0], tmp_path / "b" / "n.sv"])


def test_comments_and_strings_mention_nothing(tmp_path):
    (tmp_path / "a.sv").write_text(
        '// b here\nmodule a; /* b\n b */\n initial $display("b"); c x();\nendmodule\n'
    )
    (tmp_path / "b.sv").write_text("module b;\nendmodule\n")
    (tmp_path / "c.sv").write_text("import p::*;\nmodule automatic c;\nendmodule\n")
    (tmp_path / "p.sv").write_text("package p;\nendpackage\n")
    index = SourceIndex(sorted(tmp_path.glob("*.sv")))
    assert [path.name for path in index.needed_by("a")] == ["p.sv", "c.sv", "a.sv"]
    assert index.names == {"a", "b", "c", "p"}
