"""`modicum methods`: the table is the cards, filtered."""

from __future__ import annotations

import json

import pytest

from modicum.cli import main
from modicum.core import registry
from modicum.core.kinds import Fact
from modicum.core.search import gives


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> set[str]:
    assert main(["methods", "--json", *words]) == 0
    return {card["name"] for card in json.loads(capsys.readouterr().out)}


def test_all_cards_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == set(registry.cards())


@pytest.mark.parametrize("role", ["learn", "wrap"])
def test_roles(capsys: pytest.CaptureFixture[str], role: str) -> None:
    assert listed(capsys, "--role", role) == set(registry.cards(role))


def test_needs_takes_what_serves_and_makes_what_follows(capsys: pytest.CaptureFixture[str]) -> None:
    full, some = (
        listed(capsys, "--needs", "class", "--role", "learn"),
        listed(capsys, "--needs", "class:some", "--role", "learn"),
    )
    assert some and some <= full
    made = (registry.card(n).made for n in listed(capsys, "--makes", "net:class", "--role", "learn"))
    assert all(any(Fact.parse("net:class") in gives(m) for m in facts) for facts in made)
    assert listed(capsys, "--makes", "net:value") == set()


def test_the_table_and_one_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in registry.cards())
    assert main(["methods", "fixmatch"]) == 0
    assert "needs   image, class:some" in capsys.readouterr().out
    assert main(["methods", "--makes", "net:value"]) == 0 and "No method fits" in capsys.readouterr().out


def test_parts_are_listed_with_how_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--parts"]) == 0
    table = capsys.readouterr().out
    assert "--set trust=fixed" in table and "FixMatch (Sohn et al., 2020)" in table
    assert main(["methods", "--parts", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f"{p['kind']}/{p['name']}" for p in found] == registry.part_names() and all(p["about"] for p in found)


def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--role", "lern"]) == 2 and "'learn'" in capsys.readouterr().err
    assert main(["methods", "fixed"]) == 2 and "--set trust=fixed" in capsys.readouterr().err
    assert main(["methods", "fixmatc"]) == 2 and "'fixmatch'" in capsys.readouterr().err
