"""Error texts are what a user reads: tests compare them whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def raises_text(error: type[BaseException], text: str) -> Iterator[pytest.ExceptionInfo]:
    """Expect an exception of exactly this type whose whole text is ``text``."""
    with pytest.raises(error) as caught:
        yield caught
    assert caught.type is error, caught.type
    assert str(caught.value) == text, f"the text is\n{str(caught.value)!r}, expected was\n{text!r}"
