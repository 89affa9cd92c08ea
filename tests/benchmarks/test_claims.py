"""Claims of papers, from the results of our scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import claims
from modicum.core import registry


def test_a_claim_is_a_difference_paired_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RESULTS", tmp_path)
    told = "set,arm,seed,ap\na,one,0,0.5\na,one,1,0.6\na,two,1,0.4\na,two,0,0.2\na,one,2,0.9\nb,two,2,0.1\n"
    (tmp_path / "x.csv").write_text(told, encoding="utf-8")
    claim = claims.Claim("m", "helps", "x", "ap", "one", "two", {"set": "a"})
    assert np.allclose(claim.differences(), [30, 20])
    assert not len(claims.Claim("m", "helps", "none", "ap", "one", "two").differences())
    monkeypatch.setattr(claims, "CLAIMS", (claim,))
    (row,) = claims.rows()
    assert (row["ours"], row["seeds"], row["adapted"]) == ("25.00", "2", "")
    half = 12.706 * np.std([30, 20], ddof=1) / 2**0.5  # Student's t, one degree of freedom
    assert abs(float(row["low"]) - (25 - half)) < 0.02 and abs(float(row["high"]) - (25 + half)) < 0.02


def test_every_claim_is_of_a_method_and_of_a_script_with_results() -> None:
    assert {c.method for c in claims.CLAIMS} <= set(registry.cards())
    assert {c.method for c in claims.CLAIMS} == {r["method"] for r in claims.rows()}
