"""The script on imaginary images: three groups of people that share no digit, and a table that pairs seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import arena, imaginary
from modicum.data.formats.digits import digits
from modicum.data.formats.scenes import enlarged, scene


def test_the_digits_of_a_scene_are_found_by_their_ink() -> None:
    pixels, cls = digits()
    for number in (0, 7, 512):
        rows, there = imaginary.digits_of(number), scene(number)
        assert [int(cls[r]) for r in rows] == [d.cls for d in there] and max(rows) < imaginary.SECOND
        for row, d in zip(rows, there, strict=True):
            height, width = d.ink.shape
            np.testing.assert_array_equal(enlarged(pixels[row, ..., 0], height, width), d.ink)


def test_cut_outs_are_of_all_classes_and_of_nobody_in_the_scenes() -> None:
    found = imaginary.cut(imaginary.FIRST, imaginary.SECOND)
    assert sorted(found) == [*map(str, range(10))] and min(map(len, found.values())) >= 30
    assert sum(map(len, found.values())) == imaginary.SECOND - imaginary.FIRST


def test_the_table_pairs_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "RESULTS", tmp_path)
    monkeypatch.setattr(imaginary, "RESULTS", tmp_path)
    for seed, (one, two) in enumerate([(0.4, 0.5), (0.5, 0.8)]):
        for arm, value in (("template", one), ("grammar", two)):
            measures = dict.fromkeys(imaginary.MEASURES, value)
            arena.keep("imaginary", {"arm": arm, "seed": seed, "images": 9, **measures, "cpu_seconds": 3})
    lines = imaginary.table().splitlines()
    assert len(lines) == 4
    said = next(line for line in lines if line.startswith("| template |"))
    assert "| 45.0 (7.1) |" in said and "grammar minus this" in said and "+20.0 (-107.1 to +147.1)" in said
