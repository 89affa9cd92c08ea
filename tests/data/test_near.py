from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modicum.data import near as room
from modicum.data.duplicates import Near, find
from modicum.data.hashes import BYTES
from modicum.data.looks import Looks
from modicum.data.near import near
from modicum.data.stream import FACTS

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def seen() -> Looks:
    """A thousand images of noise, with five copies of the first and a chain of frames."""
    sketches = RNG.integers(0, 256, (1000, BYTES), np.uint8)
    sketches[200:205] = sketches[0]
    facts = np.zeros(1000, FACTS)
    facts["hash"] = [f"{i:032d}".encode() for i in range(1000)]
    return Looks(facts, sketches)


def same(one: Near, other: Near) -> bool:
    arrays = all(np.array_equal(getattr(one, n), getattr(other, n)) for n in ("group", "pairs", "likeness"))
    chains = [c.tolist() for c in one.chains] == [c.tolist() for c in other.chains]
    return arrays and chains and one.threshold == other.threshold


@pytest.mark.parametrize("chains", [[], [np.array([1, 2, 3]), np.array([7, 9])]])
def test_what_was_found_is_found_again_without_looking(
    seen: Looks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chains: list[np.ndarray]
) -> None:
    real = find(seen.sketches)
    want = Near(real.group, real.pairs, real.likeness, real.threshold, chains)
    monkeypatch.setattr(room, "find", lambda sketches: want)
    assert same(near(seen, tmp_path), want) and len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(room, "find", None)
    assert same(near(seen, tmp_path), want) and set(want.group[200:205]) == {want.group[0]}


def test_other_images_and_a_damaged_file_are_looked_at(seen: Looks, tmp_path: Path) -> None:
    want = near(seen, tmp_path)
    facts = seen.facts.copy()
    facts["hash"][5] = b"x"
    near(Looks(facts, seen.sketches), tmp_path)
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:200])
    assert same(near(seen, tmp_path), want)


def test_small_sets_and_no_home_keep_nothing(seen: Looks, tmp_path: Path) -> None:
    few = Looks(seen.facts[:999], seen.sketches[:999])
    assert same(near(few, tmp_path), find(few.sketches)) and same(near(seen, None), find(seen.sketches))
    assert not any(tmp_path.iterdir())
