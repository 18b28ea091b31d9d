from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.schema import UniformWidths

BITS = st.integers(1, 32)
WIDTHS = st.builds(
    UniformWidths,
    BITS,
    BITS,
    ends=st.none() | st.tuples(BITS, BITS),
    input=st.none() | BITS,
)


@given(WIDTHS)
def test_text_and_name_stand_for_the_same_widths(widths):
    assert UniformWidths.parse(str(widths)) == widths
    assert UniformWidths.from_name(widths.name) == widths


@given(WIDTHS, WIDTHS)
def test_other_widths_have_another_name(one, other):
    assert (one.name == other.name) == (one == other)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("3/4", "w3a4"),
        (" 2/2  ends 2/3 ", "w2a2-ends2-3"),
        ("2/2 input 3", "w2a2-input3"),
        ("2/2 ends 2/3 input 3", "w2a2-ends2-3-input3"),
    ],
)
def test_a_name_says_all_that_the_text_does(text, name):
    assert UniformWidths.parse(text).name == name


@pytest.mark.parametrize(
    "text",
    ["", "8-8", "2/2 ends 3", "2/2 input 3 ends 2/3", "2/2 ends 2/3 input", "2/2 input x", "2/2 3"],
)
def test_other_text_is_refused_with_the_grammar(text):
    message = (
        f"bit-widths {text!r} must read WEIGHTS/ACTIVATIONS, such as 3/4, 2/2 ends 2/3 or "
        "2/2 ends 2/3 input 3"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        UniformWidths.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2/33", "bit-width 33 in '2/33' must lie between 1 and 32"),
        ("2/2 ends 0/3", "bit-width 0 in '0/3' must lie between 1 and 32"),
        ("2/2 input 0", "bit-width 0 in '2/2 input 0' must lie between 1 and 32"),
    ],
)
def test_widths_have_bounds(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        UniformWidths.parse(text)


@pytest.mark.parametrize("name", ["w3", "learned", "w100a1", "w2a2-input3-ends2-3", "w02a2"])
def test_other_names_stand_for_no_widths(name):
    assert UniformWidths.from_name(name) is None
