from __future__ import annotations

import csv
import io
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modicum.core.errors import DataError, visible
from modicum.data.formats import Fault
from modicum.data.names import fold, guard, name_of, plain, safe, unguard

ANY = st.text(st.characters(exclude_categories=["Cs"]))
FORMULA = st.text("'=+-@\t\r\n ＝0123456789.eE,x")
RESERVED = ("CON", "con.txt", "aux.png", "NUL", "com1", "LPT9.tar.gz", "conin$", "COM¹", "prn .x")


@given(st.one_of(ANY, FORMULA))
@example("'=1")
@example("'-5")
@example("''")
def test_a_guarded_cell_reads_back_exactly(text: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerow([guard(text), "end"])
    assert unguard(next(csv.reader(io.StringIO(out.getvalue(), newline="")))[0]) == text


@given(st.one_of(ANY, FORMULA))
def test_no_guarded_cell_is_a_formula(text: str) -> None:
    cell = guard(text)
    try:
        float(cell)
    except ValueError:
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))


@pytest.mark.parametrize("number", ["-1", "+3.5", "-1e-5", "0.25", "-.5", "1."])
def test_numbers_stay_numbers(number: str) -> None:
    assert guard(number) == unguard(number) == number


@pytest.mark.parametrize("cell", ["=1+1", "@SUM(A1)", "-2+3", "+x", "\t=1", "\r", "  =1", "-inf", "＝1", "'=1"])
def test_formulas_are_guarded(cell: str) -> None:
    assert guard(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["'twas", "'5", "it's", "'-5", "a=b"])
def test_a_quote_of_somebody_elses_stays(cell: str) -> None:
    assert unguard(cell) == cell


@given(st.one_of(ANY, st.text(string.punctuation + " aAuUxX" + "é"), st.sampled_from(RESERVED)).filter(bool))
def test_a_safe_name_gives_the_name_back_and_every_system_holds_it(name: str) -> None:
    part = safe(name)
    assert plain(part) == name and safe(plain(part)) == part
    assert not set(part) & set('<>:"/\\|?*') and not any(ord(c) < 32 for c in part)
    assert part[0] not in ". " and part[-1] not in ". "
    assert part.split(".")[0].strip().lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9", "conin$", "com¹"}


def test_usual_names_are_their_own_safe_names() -> None:
    for name in ("cat", "T-shirt_(1).png", "Ångström", "猫", "a b", "v1.0", "console", "auxiliary.txt"):
        assert safe(name) == name == plain(name)
    assert safe("T-shirt/top") == "T-shirt%2Ftop" and safe("aux.txt") == "%61ux.txt" and safe("a. ") == "a.%20"
    assert plain("100%") == "100%" and plain("%ff") == "%ff" and plain("50%25") == "50%"
    assert safe("Test", never=("test",)) == "%54est"


def test_names() -> None:
    assert name_of("  cafe\u0301 ") == "caf\u00e9" and name_of("<b>=1\u202e") == "<b>=1\u202e" and name_of("") == ""
    for bad in ("a\0b", "a\x1b[0m", "a\nb", "a\u2028b", "a\ud800", "a\x85b", "x" * 201):
        with pytest.raises(ValueError, match=r"control|line break|half|characters"):
            name_of(bad)
    assert fold("STRASSE") == fold("straße") and fold("e\u0301") == fold("É")


def test_what_is_shown_hides_nothing() -> None:
    assert visible("a\x1b[31m\u202eb\ud800\n\0") == "a\\x1b[31m\\u202eb\\ud800\\n\\x00"
    kept = "<b>é猫 می\u200cشود a\u00a0b"
    assert visible(kept) == kept
    assert str(DataError("x\x1b", where="a\nb", fix="one\ntwo\x07")) == "a\\nb: x\\x1b\none\ntwo\\x07"
    fault = Fault("a\u202e.png", "no \x1b[2J")
    assert fault == Fault("a\\u202e.png", "no \\x1b[2J")
