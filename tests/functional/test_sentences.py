"""Sentences: none of the grammar twice, each naming its class; what is read is what was said; where a model is cut."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from modicum.core.errors import NeedsError, SettingsError
from modicum.functional import sentences as s

NAMES = ("cat", "dog", "white cell", "cell", "8")


def many(cls: int, number: int, company: int = 2, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [*itertools.islice(s.distinct(lambda: s.grammar(cls, NAMES, company, rng), "here"), number)]


def test_no_sentence_of_the_grammar_comes_twice_and_each_names_its_class() -> None:
    for cls, name in enumerate(NAMES):
        said = many(cls, 300)
        assert len(set(said)) == 300
        assert all(re.search(rf"\b{re.escape(name)}\b", one) for one in said)


def test_what_the_grammar_says_is_read_back_by_another_reader() -> None:
    """The witness splits at the grammar's own joints, from the end."""
    for one in many(0, 200):
        things, _, ground = one.removeprefix("A photo of ").rpartition(", on ")
        words = ground.split()
        assert words[0] == ("an" if words[1][0] in "aeiou" else "a") and words[3] == "ground"
        scene = s.read(one, NAMES)
        assert (scene.hue, scene.kind, scene.litter) == (words[1], words[2], words[5] if len(words) > 4 else "")
        told = []
        for thing in things.split(" and "):
            _, size, rest = thing.split(" ", 2)
            name = max((n for n in NAMES if rest.startswith(n)), key=len)
            place = rest[len(name) + 1 :]
            told.append((NAMES.index(name), s.SIZES[size], s.PLACES[place]))
        assert [(t.cls, t.size, t.at) for t in scene.things] == told
        assert s.present(one, NAMES).tolist() == [int(c in [t[0] for t in told]) for c in range(len(NAMES))]


def test_things_of_a_sentence_do_not_meet_in_the_middle_of_their_places() -> None:
    met = 0
    for one in many(1, 200):
        for a, b in itertools.combinations(s.read(one, NAMES).things, 2):
            assert a.at is not None and b.at is not None and a.cls != b.cls
            gap = [abs(p - q) - (a.size + b.size) / 2 for p, q in zip(a.at, b.at)]
            assert max(gap) >= 0
            met += 1
    assert met > 50


def test_company_is_as_many_others_as_were_allowed() -> None:
    counts = {k: {len(s.read(one, NAMES).things) for one in many(0, 200, k)} for k in (0, 1, 3)}
    assert counts[0] == {1} and counts[1] == {1, 2} and counts[3] >= {1, 2, 3}


@pytest.mark.parametrize(
    ("sentence", "cls", "size", "at"),
    [
        ("A photo of cat", [0], [0.0], [None]),
        ("A photo of a large DOG, somewhere", [1], [0.44], [None]),
        ("A photo of a tiny white cell at the top", [2], [0.15], [(0.5, 1 / 6)]),
        ("A photo of cats and concatenation", [], [], []),
        ("A photo of an 8 at the left and a huge cell", [4, 3], [0.0, 0.56], [(1 / 6, 0.5), None]),
        ("A dog sits on a red chair", [1], [0.0], [None]),
    ],
)
def test_sentences_from_elsewhere_are_read_as_far_as_words_are_known(
    sentence: str, cls: list[int], size: list[float], at: list[tuple[float, float] | None]
) -> None:
    scene = s.read(sentence, NAMES)
    assert ([t.cls for t in scene.things], [t.size for t in scene.things], [t.at for t in scene.things]) == (
        cls, size, at,
    )  # fmt: skip
    assert (scene.hue, scene.kind, scene.litter) == ("", "", "")


@pytest.mark.parametrize(
    ("words", "cut"),
    [
        (" on a mat. It sleeps", "A photo of St. Bernard on a mat"), (" asleep\nNext", "A photo of St. Bernard asleep"),
        (" a\tb", "A photo of St. Bernard a"), (".", "A photo of St. Bernard"),
        (" and so on", "A photo of St. Bernard and so on"),
    ],
)  # fmt: skip
def test_a_models_words_are_cut_and_the_name_is_not(words: str, cut: str) -> None:
    assert s.went_on("St. Bernard", words) == cut


def test_sentences_that_run_out_are_an_error_that_counts_them() -> None:
    said = s.distinct(iter(itertools.cycle("ab")).__next__, "here")
    assert [next(said), next(said)] == ["a", "b"]
    with pytest.raises(NeedsError, match="no more than 2 different"):
        next(said)


def test_a_class_called_like_a_word_of_the_grammar_is_refused_by_name() -> None:
    s.refuse(NAMES, "here")
    for name in ("small", "Left", "red", "dots", "photo", "and"):
        with pytest.raises(SettingsError, match=name):
            s.refuse(("cat", name), "here")
