"""Tokens of patches against plain loops over pairs and crops."""

from __future__ import annotations

import math

import torch

from modicum.functional.tokens import UNSURE, corners, crops, evidence, gridded, likeness, pairs, surely, told_apart


def test_patches_are_the_last_tokens_in_rows_and_maps_stay() -> None:
    maps = torch.randn(2, 5, 3, 3)
    rows = torch.stack([maps[:, :, i // 3, i % 3] for i in range(9)], 1)
    for first in (0, 1, 5):
        assert torch.equal(gridded(torch.cat([torch.randn(2, first, 5), rows], 1)), maps)
    assert gridded(maps) is maps


def test_evidence_is_the_positive_part_over_the_greatest() -> None:
    maps = torch.tensor([[[[-1.0, 2.0], [4.0, 0.0]], [[-1.0, -2.0], [-3.0, -4.0]]]])
    assert evidence(maps).tolist() == [[[[0, 0.5], [1, 0]], [[0, 0], [0, 0]]]]


def test_labels_are_sure_above_and_below_alone() -> None:
    maps = torch.tensor([[0.9, 0.1, 0.5, 0.25, 0.7], [0.2, 0.8, 0.3, 0.2, 0.1]]).view(1, 2, 1, 5)
    assert surely(maps, 0.7, 0.25).tolist() == [[[1, 2, UNSURE, 0, UNSURE]]]


def test_pairs_and_their_likeness_are_a_loop_over_pairs() -> None:
    torch.manual_seed(0)
    maps, labels = torch.randn(2, 4, 2, 3), torch.tensor([[[0, 0, 1], [2, 1, UNSURE]], [[UNSURE] * 3, [1, 1, 1]]])
    found, (same, other) = likeness(maps), pairs(labels)
    for b in range(2):
        for n in range(6):
            for m in range(6):
                x, y = maps[b, :, n // 3, n % 3], maps[b, :, m // 3, m % 3]
                cos = float(x @ y) / math.sqrt(float(x @ x) * float(y @ y))
                assert abs(float(found[b, n, m]) - abs(cos)) < 1e-5
                one, two = int(labels[b].flatten()[n]), int(labels[b].flatten()[m])
                known = one != UNSURE and two != UNSURE
                assert bool(same[b, n, m]) == (known and one == two and n != m)
                assert bool(other[b, n, m]) == (known and one != two)


def test_crops_are_cut_where_they_begin_and_every_place_is_drawn() -> None:
    x = torch.arange(2 * 3 * 6 * 6).view(2, 3, 6, 6)
    at = torch.tensor([[[0, 0], [3, 1]], [[2, 2], [1, 3]]])
    found = crops(x, at, 3)
    assert found.shape == (2, 2, 3, 3, 3)
    for b in range(2):
        for n in range(2):
            row, column = at[b, n].tolist()
            assert torch.equal(found[b, n], x[b, :, row : row + 3, column : column + 3])
    drawn = corners(torch.linspace(0, 0.9999, 80).repeat(2, 1), 3)
    assert drawn.shape == (2, 40, 2) and drawn.unique().tolist() == [0, 1, 2, 3]


def test_contrast_is_a_loop_over_crops() -> None:
    torch.manual_seed(0)
    query, whole = torch.randn(3, 4, 5), torch.randn(3, 5)
    inside = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
    values, weights = told_apart(query, whole, inside, 0.5)
    assert torch.equal(weights, inside.float())
    for b in range(3):
        a = [math.exp(float(torch.cosine_similarity(q, whole[b], 0)) / 0.5) for q in query[b]]
        outside = sum(v for v, i in zip(a, inside[b].tolist(), strict=True) if not i)
        for n in range(4):
            expected = -math.log(a[n] / (a[n] + outside)) if inside[b, n] else 0.0
            assert abs(float(values[b, n]) - expected) < 1e-5
