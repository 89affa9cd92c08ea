"""Cards are read without running anything, and a bad one is named with its file, its line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from modicum.core.card import Card, read_card
from modicum.core.errors import SettingsError
from modicum.core.kinds import Fact

GOOD = '''"""A method."""

import a_module_that_does_not_exist

raise RuntimeError("imported")

CARD = Card(
    title="A method",
    role="learn",
    idea="None.",
    needs=("image", ("class:some", "probs~")),
    makes=("net:class",),
    least={"class": 2},
    changed=(
        "one "
        "two"
    ),
)
'''


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "family" / "my_method.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_card_is_read_without_importing(tmp_path: Path) -> None:
    card = read_card(write(tmp_path, GOOD))
    assert card is not None
    assert (card.name, card.family, card.changed, card.least) == ("my-method", "family", "one two", {"class": 2})
    assert card.needed == (Fact("image"), (Fact("class", some=True), Fact("probs", guess=True)))
    assert card.made == (Fact("class", net=True),)


def test_a_file_without_a_card(tmp_path: Path) -> None:
    assert read_card(write(tmp_path, "x = 1\n")) is None


@pytest.mark.parametrize(
    "old, new, says",
    [
        ('role="learn"', 'role="lern"', "Did you mean 'learn'?"),
        ('role="learn"', 'roll="learn"', "Did you mean 'role'?"),
        ('idea="None."', 'idea=f"{1}"', "not a literal"),
        ('idea="None.",', "**{},", "without a name"),
        ('title="A method"', '"A method"', "without a name"),
        ('title="A method",\n', "", "incomplete"),
        ('"net:class",', '"net:clas",', "'class'"),
        ('makes=("net:class",)', 'makes=("net:class")', "with a comma"),
        ('least={"class": 2}', "suits=('fw',)", "Did you mean 'few'?"),
        ('least={"class": 2}', "cost='1'", "not float"),
        ('least={"class": 2}', "least=2", "not Mapping"),
        (',\n)\n', ')\n', "alone on a line"),
    ],
)  # fmt: skip
def test_a_bad_card_is_named_with_file_line_and_fix(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(SettingsError) as error:
        read_card(path)
    assert error.value.where == f"{path}:7"
    assert says in str(error.value)


def test_a_card_made_in_code_is_checked_too() -> None:
    with pytest.raises(SettingsError, match="unknown role"):
        Card(title="t", role="no", idea="i", needs=(), makes=())
