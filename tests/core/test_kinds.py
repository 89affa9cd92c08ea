"""Facts are read and written alike, and imply what is free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modicum.core.errors import SettingsError
from modicum.core.kinds import KINDS, PARTS, SCOPES, Fact, facts


@st.composite
def any_fact(draw: st.DrawFn) -> Fact:
    net = draw(st.booleans())
    return Fact(
        draw(st.sampled_from(sorted(KINDS))), net, draw(st.sampled_from(["", *PARTS])) if net else "",
        draw(st.booleans()), draw(st.sampled_from(["", *SCOPES])), draw(st.booleans()),
    )  # fmt: skip


@given(any_fact())
def test_a_fact_reads_what_it_writes(fact: Fact) -> None:
    assert Fact.parse(str(fact)) == fact


@given(st.text(max_size=30))
def test_any_text_is_a_fact_or_a_settings_error(text: str) -> None:
    try:
        assert Fact.parse(Fact.parse(text).__str__()) == Fact.parse(text)
    except SettingsError as error:
        assert error.found and error.fix


@pytest.mark.parametrize(
    "text, word",
    [("box", "'boxes'"), ("tags@othr", "'other'"), ("net:class.feature", "'features'"),
     ("class.logits", "net:class.logits"),
     ("class~:some", "kind[:some]"), ("", "kind[:some]"), ("Class", "kind[:some]")],
)  # fmt: skip
def test_bad_facts_name_the_right_word(text: str, word: str) -> None:
    with pytest.raises(SettingsError) as error:
        Fact.parse(text)
    assert word in str(error.value)


@pytest.mark.parametrize(
    "text, implied",
    [
        ("class", {"class:some", "tags", "names"}),
        ("boxes@other~", {"boxes:some@other~", "points@other~", "tags@other~"}),
        ("instances:some", {"boxes:some", "masks:some"}),
        ("net:class.small", {"net:class"}),
        ("net:boxes.adjust", set()),
        ("net:class", set()),
        ("class~", {"class:some~", "tags~", "names"}),
    ],
)
def test_what_follows_for_free(text: str, implied: set[str]) -> None:
    assert {str(f) for f in Fact.parse(text).implied()} == implied


def test_the_table_is_closed() -> None:
    for kind in KINDS.values():
        assert set(kind.gives) <= set(KINDS) and kind.seconds >= 0 and kind.meaning
        assert all(KINDS[g].seconds <= kind.seconds for g in kind.gives), "a free conversion cannot add knowledge"


def test_facts_of_a_list() -> None:
    assert facts(" tags, boxes@other,") == facts(("tags", "boxes@other"))
    assert facts("") == ()
