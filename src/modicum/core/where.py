"""Rows by words: a small expression over a Dataset's columns.

Terms joined by `&`: a kind or a column ("class": known; "~class": not known), "labelled" (a class or probabilities),
"tagged" (a class or tags, also tags that follow from boxes and masks), "split:train", "group:7", "session:2",
"domain:site2", "@other" (the domain or scope of that name), "all", or a comparison of a numeric column ("trust > 0.5").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from modicum.core.errors import SettingsError, did_you_mean
from modicum.core.kinds import KINDS

if TYPE_CHECKING:
    from modicum.core.dataset import Dataset

_COMPARE = re.compile(r"([a-z_][\w.]*)\s*(>=|<=|==|!=|>|<)\s*(-?[\d.]+(?:e-?\d+)?)")
_FIELDS = ("split", "group", "session", "domain")
_TEST = {
    ">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip


def mask(data: Dataset, expression: str) -> np.ndarray:
    """Which rows the expression chooses: bool (N,).  SettingsError names the term that is wrong."""
    out = np.ones(len(data), bool)
    for term in expression.split("&"):
        out &= _term(data, term.strip())
    return out


def _term(data: Dataset, term: str) -> np.ndarray:
    if term in ("all", ""):
        return np.ones(len(data), bool)
    if term.startswith("~"):
        return ~_term(data, term[1:].strip())
    if term.startswith("@"):
        return np.asarray(data.field("domain") == term[1:])
    name, colon, value = term.partition(":")
    if colon and name in _FIELDS:
        return np.asarray(data.field(name) == value)
    if compared := _COMPARE.fullmatch(term):
        name, sign, number = compared.groups()
        if name not in data.columns:
            raise SettingsError(f"no column {name!r}", where=f"rows {term!r}", fix=did_you_mean(name, data.columns))
        values = np.asarray(data.columns[name])
        if values.ndim != 1:
            raise SettingsError(
                f"column {name!r} holds no single numbers", where=f"rows {term!r}", fix="Collect one number an image."
            )
        return np.asarray(_TEST[sign](values, float(number)))
    if term == "labelled":
        return data.known("class") | data.known("probs")
    if term == "tagged":
        return data.known("class") | data.known("tags")
    if term in KINDS or term in data.columns:
        return data.known(term)
    raise SettingsError(
        f"cannot read {term!r}",
        where="rows",
        fix="Use a kind ('class', '~class'), 'split:train', '@source' or 'column > 0.5', joined by '&'.",
    )
