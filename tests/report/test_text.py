"""Words and numbers, and what hostile text becomes."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from modicum.report import text


def test_direction_marks_are_spelt_out_and_letters_are_kept() -> None:
    assert text.visible("gpj\u202e.exe") == "gpj[U+202E].exe"
    assert text.visible("a\x00b\u2066c\ud800") == "a[U+0000]b[U+2066]c[U+D800]"
    for kept in ("Größe", "क्\u200dष", "می\u200cخواهم", "日本語", "👩‍🔬"):
        assert text.visible(kept) == kept


@given(st.text())
def test_nothing_invisible_or_sharp_is_left(words: str) -> None:
    shown = text.safe(words, 0)
    assert "<" not in shown and '"' not in shown and "'" not in shown
    left = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    assert left <= set(text.KEPT)


def test_markup_and_numbers_pass_untouched() -> None:
    assert text.finalize(Markup("<b>")) == "<b>" and text.finalize(3) == 3
    assert text.visible("abcdef", 4) == "abc…"


def test_numbers_as_printed() -> None:
    nb = text.NBSP
    assert text.percent(0.8724) == f"87.2{nb}%" and text.percent(None) == text.DASH == text.percent(float("nan"))
    assert text.signed(-0.052) == "−5.2" and text.signed(0.1) == "+10.0"
    assert text.between([0.5, 0.4, 0.6]) == f"40.0 to 60.0{nb}%" and text.between([0.5, None, 0.6]) == ""
    assert text.plain(12345) == "12\u202f345" and text.plain(True) == "yes" and text.plain({"lr": 0.03}) == "lr 0.03"
    assert [text.size(n) for n in (12, 77_100, 3.2e6, 5e9)] == ["12 bytes", "77.1 kB", "3.2 MB", "5 GB"]
    assert [text.duration(s) for s in (0.42, 54, 300, 9000)] == ["0.42 s", "54 s", "5 min", "2.5 h"]
    assert [text.plural(n, w) for n, w in ((1, "image"), (2, "class"))] == ["1 image", "2 classes"]
