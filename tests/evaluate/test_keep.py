"""Which arm is kept, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modicum.core import form
from modicum.evaluate.intervals import paired
from modicum.evaluate.keep import WORDS, guesses, keep, more, unlabelled
from modicum.runs.forms import FORMS


def says(guessed: list[int], classes: int = 3) -> np.ndarray:
    """Logits whose arg-max is as given."""
    return 5.0 * np.eye(classes)[guessed]


TRUTH = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0] * 3)


def wrong_on(*where: int) -> np.ndarray:
    """Guesses that are wrong at these places alone."""
    return says([(c + (i in where)) % 3 for i, c in enumerate(TRUTH)])


def test_the_arm_with_most_right_is_kept_and_a_tie_goes_to_the_method() -> None:
    found = keep(
        TRUTH, {"fixmatch": wrong_on(0, 1, 2), "twin-weak": wrong_on(5), "twin-strong": wrong_on(4, 5)}, "fixmatch", "x"
    )
    assert found["kept"] == "twin-weak" and found["over"] == "fixmatch" and found["arms"]["twin-weak"][0] == 29 / 30
    tie = keep(TRUTH, {"twin-weak": wrong_on(0), "fixmatch": wrong_on(1)}, "fixmatch", "x")
    assert tie["kept"] == "fixmatch" and tie["word"] == "cannot be told yet" and tie["needed"] is None
    assert "as good as each other" in tie["sentence"]


def test_a_clear_difference_is_told_and_a_small_one_says_what_it_would_take() -> None:
    clear = keep(TRUTH, {"fixmatch": wrong_on(), "twin-weak": wrong_on(*range(12))}, "fixmatch", "labels")
    assert clear["word"] == WORDS[0] and clear["needed"] is None and "told" not in clear["sentence"]
    close = keep(TRUTH, {"fixmatch": wrong_on(), "twin-weak": wrong_on(3, 4)}, "fixmatch", "labels")
    assert close["word"] == WORDS[1] and f"about {close['needed']} more labels" in close["sentence"]


@given(st.integers(1, 12), st.integers(0, 11), st.integers(0, 30))
def test_as_many_more_labels_tell_the_arms_apart(only_a: int, only_b: int, both: int) -> None:
    a = np.array([1] * only_a + [0] * only_b + [1] * both, bool)
    b = np.array([0] * only_a + [1] * only_b + [1] * both, bool)
    extra = more(a, b)
    if only_a <= only_b:
        assert extra is None
    elif extra is not None:
        times = -(-(len(a) + extra) // len(a)) + 1  # a whole number of copies, hardly more than asked for
        assert paired(np.tile(a, times), np.tile(b, times)).low > 0


def test_without_another_arm_or_labels_nothing_is_compared() -> None:
    for found in (
        keep(TRUTH, {"fixmatch": wrong_on()}, "fixmatch", ""),
        keep(TRUTH[:0], {}, "fixmatch", "that was asked for"),
    ):
        assert found["kept"] == "fixmatch" and found["word"] == "not compared"
        assert not form.misfit(found, FORMS["keep.json"])
    assert found["sentence"] == "fixmatch was kept without a comparison: that was asked for."


def test_precision_is_that_of_the_surest_share_by_class() -> None:
    truth = np.array([0, 0, 1, 1])
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0.3, 0.7]])
    found = guesses(truth, probs, 0.75, ("a", "b"))
    assert (found["looked"], found["believed"], found["right"]) == (4, 3, 3)
    assert [(c["believed"], c["right"]) for c in found["classes"]] == [(1, 1), (2, 2)]
    every = guesses(truth, probs, 1.0, ("a", "b"))
    assert every["right"] == 3 and every["classes"][1]["precision"][0] == pytest.approx(2 / 3)
    assert "59 are needed" in found["bound"]


def test_guesses_on_unlabelled_images_are_compared_and_a_missing_class_is_named() -> None:
    guessed = {"fixmatch": np.array([0, 0, 0, 1]), "twin-weak": np.array([0, 0, 2, 2])}
    found = unlabelled(guessed, "fixmatch", np.array([5, 5, 5]), ("a", "b", "c"))
    assert found["agree"] == {"twin-weak": 0.5} and found["missing"] == ["c"] and found["images"] == 4
    assert any("'c'" in n for n in found["notes"]) and any(n.startswith("42 %") for n in found["notes"])
    even = unlabelled({"fixmatch": np.array([0, 1, 2])}, "fixmatch", np.array([5, 5, 5]), ("a", "b", "c"))
    assert not even["notes"] and not even["missing"]
