from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaqat_hw.errors import ExportMismatch
from adaqat_hw.export.verify import compare_logits, compare_values, require_agreement
from tests.error_texts import raises_text


def test_equal_logits_agree() -> None:
    logits = np.eye(4, dtype=np.float32)
    agreement = compare_logits(logits, logits.copy())
    assert (agreement.samples, agreement.max_abs_error, agreement.argmax_agreement) == (4, 0.0, 1.0)
    require_agreement(agreement)


def test_another_decision_is_a_mismatch_with_counts() -> None:
    expected = np.asarray([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    found = np.asarray([[1.0, 0.0], [0.5, 0.25], [2.0, 0.0]])
    agreement = compare_logits(expected, found)
    assert agreement.argmax_agreement == pytest.approx(2 / 3)
    assert agreement.mismatches == 1
    with raises_text(
        ExportMismatch,
        "The exported graph decides differently from PyTorch on 1 of 3 test samples "
        "(largest logit error 0.75); this is a fault of the export, please report it.",
    ):
        require_agreement(agreement)


def test_a_tie_is_counted_but_no_mismatch() -> None:
    expected = np.asarray([[1.0, 1.0 - 1e-7], [3.0, 0.0]])
    found = np.asarray([[1.0 - 1e-7, 1.0], [3.0, 0.0]])
    agreement = compare_logits(expected, found)
    assert (agreement.mismatches, agreement.ties, agreement.argmax_agreement) == (0, 1, 0.5)
    require_agreement(agreement)


def test_logits_that_are_no_numbers_are_a_mismatch() -> None:
    expected = np.asarray([[1.0, 0.0]])
    with raises_text(
        ExportMismatch,
        "The exported graph decides differently from PyTorch on 0 of 1 test samples "
        "(largest logit error nan); this is a fault of the export, please report it.",
    ):
        require_agreement(compare_logits(expected, np.asarray([[np.nan, 0.0]])))


def test_values_are_compared_where_there_are_no_classes() -> None:
    expected = np.asarray([[[1.0], [2.0]], [[100.0], [0.0]], [[0.0], [0.0]], [[1.0], [1.0]]])
    close = np.asarray([[0.0], [5e-6], [0.0], [0.0]])[:, None] + [[0.0], [1e-6]]
    noise = np.zeros(4)
    agreement = compare_values(expected, expected + close, noise)
    assert (agreement.mismatches, agreement.ties, agreement.argmax_agreement) == (0, 0, None)
    assert agreement.max_abs_error == pytest.approx(6e-6)
    require_agreement(agreement)
    # The last two differ, by what noise explains and by more.
    far = expected + np.asarray([0.0, 0.0, 0.3, 0.3])[:, None, None]
    agreement = compare_values(expected, far, np.asarray([0.0, 0.0, 0.2, 0.1]))
    assert (agreement.samples, agreement.mismatches, agreement.ties) == (4, 1, 1)
    with raises_text(
        ExportMismatch,
        "The exported graph puts out something else than PyTorch on 1 of 4 test samples (largest "
        "error 0.3); this is a fault of the export, please report it.",
    ):
        require_agreement(agreement)
    nothing = compare_values(expected, expected * np.nan, noise)
    assert nothing.mismatches == 4
    with raises_text(
        ExportMismatch,
        "The exported graph puts out something else than PyTorch on 4 of 4 test samples (largest "
        "error nan); this is a fault of the export, please report it.",
    ):
        require_agreement(nothing)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 12))
def test_agreement_counts_what_differs(seed: int, rows: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    expected, found = rng.normal(size=(2, rows, classes))
    agreement = compare_logits(expected, found)
    differing = int((expected.argmax(1) != found.argmax(1)).sum())
    assert agreement.mismatches + agreement.ties == differing
    assert agreement.argmax_agreement == pytest.approx(1 - differing / rows)


def test_more_ties_than_chance_are_refused() -> None:
    expected = np.tile([[1.0, 1.0 - 1e-7]], (200, 1))
    found = np.where(np.arange(200)[:, None] < 5, expected[:, ::-1], expected)
    with raises_text(
        ExportMismatch,
        "The exported graph decides differently from PyTorch on 5 of 200 test samples "
        "where rounding may decide; that is more than 2% and no chance: train the "
        "network further, or report it.",
    ):
        require_agreement(compare_logits(expected, found))
    found = np.where(np.arange(200)[:, None] < 4, expected[:, ::-1], expected)
    require_agreement(compare_logits(expected, found))
