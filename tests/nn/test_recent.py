"""Scores of late: the last ones of each class, and what of an image counts, against plain loops."""

from __future__ import annotations

import torch

from modicum.core.batch import Boxes
from modicum.functional.mixture import lines
from modicum.nn.recent import Recent


def boxes(luck: torch.Generator, images: int = 4, each: int = 12) -> Boxes:
    image = torch.arange(images).repeat_interleave(each)
    score = torch.rand(images, each, generator=luck).mul(0.95).add(0.05).sort(1, descending=True)[0].flatten()
    cls = torch.randint(0, 3, (images * each,), generator=luck)
    return Boxes(torch.zeros(len(image), 4), cls, torch.ones(len(image), dtype=torch.int8), image, score)


def kept(recent: Recent) -> list[list[float]]:
    return [row[row > 0].tolist() for row in recent.values]


def test_the_last_scores_of_each_class_stay() -> None:
    recent, seen = Recent(3, 7), [[], [], []]  # type: ignore[var-annotated]
    luck = torch.Generator().manual_seed(0)
    for _ in range(6):
        count = int(torch.randint(0, 9, (), generator=luck))
        score, cls = torch.rand(count, generator=luck), torch.randint(0, 2, (count,), generator=luck)
        recent.add(score, cls)
        for s, c in zip(score.tolist(), cls.tolist(), strict=True):
            seen[c].append(s)
        assert kept(recent) == [s[-7:] for s in seen]
    assert len(seen[0]) > 7 and not seen[2] and not recent.values[2].any()


def test_of_an_image_as_many_boxes_count_as_their_scores_sum_to_and_one_more() -> None:
    luck, recent = torch.Generator().manual_seed(1), Recent(3, 30)
    given = boxes(luck)
    line = recent(given, 5, 0.5, False)
    assert given.score is not None
    expected: list[list[float]] = [[], [], []]
    for i in range(5):
        score, cls = given.score[given.image == i].tolist(), given.cls[given.image == i].tolist()
        for s, c in list(zip(score, cls, strict=True))[: round(sum(score)) + 1]:
            expected[c].append(s)
    assert kept(recent) == expected and sum(map(len, expected)) < len(given.cls)
    assert torch.equal(line, lines(recent.values, 0.5))


def test_no_boxes_leave_it_as_it_is() -> None:
    recent = Recent(2, 5)
    none = torch.zeros(0)
    empty = Boxes(none.view(0, 4), none.long(), none.to(torch.int8), none.long(), none)
    assert recent(empty, 3, 0.4, True).tolist() == [torch.tensor(0.4).item()] * 2 and not recent.values.any()
