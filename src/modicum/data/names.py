"""Names from outside: what can be a class, which file names every system can hold, which cells a spreadsheet would run.

Pure functions of text, without numpy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST = 200
_REFUSED = {"Cc": "a control character", "Cs": "a half character", "Zl": "a line break", "Zp": "a line break"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NEVER = frozenset('<>:"/\\|?*%')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
_CODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC): an é of one or of two characters is the same é."""
    return unicodedata.normalize("NFC", name)


def name_of(text: str) -> str:
    """The name of a class, group or annotator: composed, without outer spaces.  ValueError says why it can be none.

    Refused: control characters, line breaks, half characters, more than LONGEST characters.  Anything else is a name,
    also `<b>`, `=1` and bidi controls: whoever shows it escapes it.
    """
    name = composed(text).strip()
    if len(name) > LONGEST:
        raise ValueError(f"a name of {len(name)} characters; {LONGEST} are allowed")
    if not name.isprintable():
        for letter in name:
            if reason := _REFUSED.get(unicodedata.category(letter)):
                raise ValueError(f"{reason} in the name {name!r}")
    return name


def fold(name: str) -> str:
    """What two names share that Windows or macOS takes for one: letters without case, composed."""
    return composed(composed(name).casefold())


# -- file names that Windows, macOS and Linux can all hold -------------------------------------------------------------


def safe(part: str, *, never: Iterable[str] = ()) -> str:
    """One part of a path as every system can hold it: what cannot stand there is written as %XX, bytes of UTF-8.

    That is any of <>:"/\\|?*%, controls, an outer space, an outer dot, and the first letter of CON, NUL, COM1 ...
    and of the words in `never`.  `plain` gives the name back.
    """
    out = "".join(code(c) if c in _NEVER or unicodedata.category(c) in ("Cc", "Cs") else c for c in part)
    if out[-1:] in (".", " "):
        out = out[:-1] + code(out[-1])
    if out[:1] in (".", " ") or _DEVICE.match(out) or out.lower() in never:
        out = code(out[0]) + out[1:]
    return out


def plain(part: str) -> str:
    """The name that `safe` made a part of a path from; a part that holds no whole %XX of UTF-8 is its own name."""
    return _CODED.sub(_decode, part)


def code(letter: str) -> str:
    """A letter as %XX, the bytes of UTF-8."""
    return "".join(f"%{b:02X}" for b in letter.encode("utf-8", "surrogatepass"))


def _decode(found: re.Match[str]) -> str:
    try:
        return bytes.fromhex(found[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return found[0]


# -- cells of a CSV file -----------------------------------------------------------------------------------------------


def guard(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: where it would, a ' stands before it.  Numbers stay numbers."""
    return f"'{text}" if _runs(text) else text


def unguard(cell: str) -> str:
    """The text that `guard` made the cell from: exact for every text."""
    return cell[1:] if cell[:1] == "'" and _runs(cell[1:]) else cell


def _runs(text: str) -> bool:
    """Whether a spreadsheet may run it; so that `unguard` is exact, also whether it is such a text behind some '."""
    bare = text.lstrip("'")
    return (bare.startswith(_RUN) or bare.lstrip(" ").startswith(_RUN)) and not _NUMBER.fullmatch(text)
