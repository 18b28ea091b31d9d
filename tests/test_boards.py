import math

import pytest

from adaqat_hw import boards
from adaqat_hw.errors import ConfigError
from adaqat_hw.resources import hw_dir
from adaqat_hw.schema import Board, Resources
from tests.error_texts import raises_text

OWN = """
part = "xc7a35tcpg236-1"
family = "xc7"
lut = 20800
ff = 41600
dsp = 90
bram_18k = 100
uram = 0
default_clock_ns = 10.0
source = "my notes"
"""


def test_names_are_the_shipped_files():
    assert boards.names() == ("kv260", "pynq-z1", "pynq-z2", "ultra96-v2", "ulx3s-85f", "zcu104")


@pytest.mark.parametrize(
    ("name", "part", "lut", "dsp", "bram_18k", "uram"),
    [
        ("pynq-z1", "xc7z020clg400-1", 53_200, 220, 280, 0),
        ("pynq-z2", "xc7z020clg400-1", 53_200, 220, 280, 0),
        ("ultra96-v2", "xczu3eg-sbva484-1-e", 70_560, 360, 432, 0),
        ("zcu104", "xczu7ev-ffvc1156-2-e", 230_400, 1_728, 624, 96),
        ("kv260", "xck26-sfvc784-2LV-c", 117_120, 1_248, 288, 64),
    ],
)
def test_totals(name, part, lut, dsp, bram_18k, uram):
    board = boards.load(name)
    assert board.name == name
    assert (board.part, board.lut, board.dsp) == (part, lut, dsp)
    assert (board.bram_18k, board.uram) == (bram_18k, uram)


def test_the_ecp5_board():
    board = boards.load("ulx3s-85f")
    assert board.family == "ecp5"
    assert (board.part, board.package, board.speed_grade) == ("LFE5U-85F-6BG381C", "CABGA381", 6)
    assert (board.lut, board.ff, board.dsp, board.bram_18k) == (83_640, 83_640, 156, 208)
    assert board.default_clock_ns == 1000 / board.oscillator_mhz


@pytest.mark.parametrize("name", [n for n in boards.names() if boards.load(n).family != "ecp5"])
def test_a_board_is_consistent(name):
    board = boards.load(name)
    series7 = board.part.startswith("xc7")
    assert board.ff == 2 * board.lut
    assert board.family == ("xc7" if series7 else "xcup")
    assert board.default_clock_ns == (10.0 if series7 else 5.0)
    assert board.source.startswith("AMD DS")
    assert board.vivado_board is not None


def test_own_file_by_path_takes_its_name_from_the_file(tmp_path):
    path = tmp_path / "basys3.toml"
    path.write_text(OWN)
    assert boards.load(path) == boards.load(str(path))
    assert boards.load(path).name == "basys3"
    path.write_text(OWN + 'name = "other"\n')
    assert boards.load(path).name == "other"


def test_a_shipped_file_by_path_is_the_board_by_name():
    assert boards.load(hw_dir() / "boards" / "kv260.toml") == boards.load("kv260")


def test_unknown_name_lists_the_boards():
    with raises_text(
        ConfigError,
        "Unknown board 'pynq'; choose one of kv260, pynq-z1, pynq-z2, ultra96-v2, "
        "ulx3s-85f, zcu104, or give the path of your own .toml file.",
    ) as caught:
        boards.load("pynq")
    assert "kv260, pynq-z1, pynq-z2, ultra96-v2, ulx3s-85f, zcu104" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (
            OWN + "luts = 3\n",
            f" has the unknown key 'luts'; a board has {', '.join(Board.model_fields)}.",
        ),
        (OWN.replace("lut = 20800", "lut = 0"), ": lut = 0: Input should be greater than 0."),
        (OWN.replace("uram = 0\n", ""), ": uram is missing."),
        (
            OWN.replace("default_clock_ns = 10.0", "default_clock_ns = inf"),
            ": default_clock_ns = inf: Input should be a finite number.",
        ),
        *(
            (
                OWN + f"name = {name!r}\n",
                f": name = {name!r}: a board's name, which names its build folders, is 1 to 64 "
                "letters, digits, '.', '_' or '-', and starts with a letter or digit.",
            )
            for name in ("../../x", "", "a b")
        ),
        ("lut = = 3", " is not valid TOML: Invalid value (at line 1, column 7)."),
        (
            b"\xff\xfe",
            " cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start "
            "byte.",
        ),
        (None, f" does not exist; the shipped boards are {', '.join(boards.names())}."),
    ],
)
def test_a_wrong_file_is_refused_with_its_path(tmp_path, body, fault):
    path = tmp_path / "mine.toml"
    if isinstance(body, bytes):
        path.write_bytes(body)
    elif body is not None:
        path.write_text(body)
    with raises_text(ConfigError, f"Board file '{path}'{fault}"):
        boards.load(path)


OLD = OWN.replace('family = "xc7"\n', 'family = "zynq7000"\nyosys_family = "xc7"\n')


KNOWN = "'ecp5', 'xc7', 'xcup'"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            OLD + 'dsp_block = "DSP48E1"\n',
            "the key 'yosys_family' of an earlier release; remove yosys_family, dsp_block and set "
            "family = 'xc7', which stands for all of that.",
        ),
        (
            OWN + 'vendor = "lattice"\n',
            "the key 'vendor' of an earlier release; remove vendor and set family = one of "
            f"{KNOWN}, which stands for all of that.",
        ),
        (
            OWN + 'finn_part = "xc7z020clg400-1"\n',
            "the key 'finn_part' of an earlier release; remove finn_part and set family = one of "
            f"{KNOWN}, which stands for all of that.",
        ),
        (
            OWN.replace('"xc7"', '"zynq7000"'),
            f"family = 'zynq7000'; choose one of {KNOWN}, or add its file to hw/families.",
        ),
        (
            OWN.replace('"xc7"', "7"),
            f"family = 7; choose one of {KNOWN}, or add its file to hw/families.",
        ),
        (
            OWN.replace('family = "xc7"\n', ""),
            f"family = None; choose one of {KNOWN}, or add its file to hw/families.",
        ),
    ],
)
def test_the_family_is_one_key_that_names_a_file(tmp_path, text, says):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        boards.load(path)
    assert str(caught.value) == f"Board file {str(path)!r} has {says}"


def test_utilisation_keeps_missing_values_missing():
    used = Resources(lut=5_320, ff=0, dsp=110, bram_18k=None, uram=0)
    assert boards.utilisation(used, boards.load("pynq-z1")) == {
        "lut": 0.1,
        "ff": 0.0,
        "dsp": 0.5,
        "bram_18k": None,
        "uram": 0.0,
    }


def test_utilisation_of_what_the_board_lacks_is_infinite():
    assert boards.utilisation(Resources(uram=1), boards.load("pynq-z1"))["uram"] == math.inf
