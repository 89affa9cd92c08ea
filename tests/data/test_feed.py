"""The feed: which rows are drawn, and what is said of them, against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modicum.core.dataset import ANNOTATOR, HUMAN, Dataset
from modicum.core.errors import NeedsError, SettingsError
from modicum.core.program import Stream
from modicum.core.recipe import PLAIN, Augment
from modicum.core.tables import ANNOTATIONS, LOOKED, SOURCES, table
from modicum.data import feed as feed_module
from modicum.data.cache import Pixels
from modicum.data.feed import Feed
from modicum.data.read import read

N, CLS = 12, np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 2, -1, -1])
MOVING = Augment(rotate=20, shift=0.2, zoom=0.2, brightness=0.3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, each of its own grey; the last is 20 wide and 10 high, the others 8 x 8."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(N):
        Image.new("L", (20, 10) if i == N - 1 else (8, 8), 10 + 20 * i).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    bare = read(root).data
    data = Dataset.build(list(bare.ids), ("a", "b", "c"), reader=bare.reader, root=bare.root, cls=CLS)
    return data.with_column("trust", np.where(np.arange(N) == 3, np.nan, np.arange(N) / 12).astype(np.float32))


@pytest.fixture
def feed_of(tmp_path: Path, data: Dataset):  # type: ignore[no-untyped-def]
    def make(changed: Dataset = data, pool: np.ndarray | None = None, cache: int = 0, **given: int) -> Feed:
        pixels = Pixels.build(changed, tmp_path, cache)
        views = {"plain": PLAIN, "weak": MOVING}
        return Feed(changed, pixels, np.ones(N, bool) if pool is None else pool, views=views, side=8, seed=5, **given)

    return make


def drawn(feed: Feed, stream: Stream, steps: int, **at: int) -> list[int]:
    return [int(r) for k in range(steps) for r in feed.draw(stream, "s", k, **at).rows]


# -- which rows --------------------------------------------------------------------------------------------------------


def test_each_row_once_an_epoch_in_another_order(feed_of) -> None:  # type: ignore[no-untyped-def]
    rows = drawn(feed_of(), Stream("class", 5), 6)
    for epoch in range(3):
        assert sorted(rows[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert rows[:10] != rows[10:20]


def test_draws_know_seed_phase_lane_and_stream_and_nothing_else(feed_of) -> None:  # type: ignore[no-untyped-def]
    feed, stream = feed_of(), Stream("class", 5)
    first = drawn(feed, stream, 2)
    drawn(feed, Stream("all", 7), 3)
    assert drawn(feed, stream, 2) == first == drawn(feed_of(), stream, 2)
    others = [drawn(feed, stream, 2, phase=1), drawn(feed, stream, 2, lane=1)]
    others.append([int(r) for k in range(2) for r in feed.draw(stream, "other", k).rows])
    assert all(o != first for o in others)


@pytest.mark.parametrize("world", [1, 2])
def test_steps_drawn_at_once_are_those_drawn_alone(feed_of, monkeypatch: pytest.MonkeyPatch, world: int) -> None:  # type: ignore[no-untyped-def]
    """Forwards and from the middle, as after a resume, to the bit; and a new column is seen at once."""
    stream, images = Stream("class & trust > 0.1", 4, ("weak", "plain")), np.arange(N) < N - 1
    monkeypatch.setattr(feed_module, "AHEAD", 0)
    alone = feed_of(pool=images, world=world)
    monkeypatch.setattr(feed_module, "AHEAD", 5 * 4 * 2 * 8 * 8)
    ahead, late = feed_of(pool=images, world=world), feed_of(pool=images, world=world)
    for step in (*range(12), 3):
        monkeypatch.setattr(feed_module, "AHEAD", 0)
        one = alone.draw(stream, "s", step, phase=1)
        monkeypatch.setattr(feed_module, "AHEAD", 5 * 4 * 2 * 8 * 8)
        for other in [ahead.draw(stream, "s", step, phase=1)] + [late.draw(stream, "s", step, phase=1)] * (step > 6):
            assert one.rows.equal(other.rows) and one.labels.cls.equal(other.labels.cls)
            assert one["weak"].equal(other["weak"]) and one["plain"].equal(other["plain"])
            assert one.views["weak"].affine.equal(other.views["weak"].affine)
    ahead.put("trust", torch.where(torch.arange(N) == 5, 1.0, 0.0))
    assert set(ahead.draw(stream, "s", 12, phase=1).rows.tolist()) == {5}


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_batch_of_one_process(feed_of, world: int) -> None:  # type: ignore[no-untyped-def]
    stream = Stream("class", 6, ("weak",))
    whole = feed_of().draw(stream, "s", 2)
    parts = [feed_of(rank=rank, world=world).draw(stream, "s", 2) for rank in range(world)]
    assert torch.cat([p.rows for p in parts]).equal(whole.rows)
    assert torch.cat([p["weak"] for p in parts]).equal(whole["weak"])
    assert torch.cat([p.views["weak"].affine for p in parts]).equal(whole.views["weak"].affine)


def test_a_row_outside_the_pool_is_never_shown(feed_of) -> None:  # type: ignore[no-untyped-def]
    pool = np.arange(N) % 3 != 0
    assert set(drawn(feed_of(pool=pool), Stream("all", 8), 10)) == set(np.flatnonzero(pool).tolist())
    with pytest.raises(NeedsError, match="no image for the rows 'trust > 5'"):
        feed_of().rows("trust > 5")
    with pytest.raises(NeedsError, match="no image for the rows '~image'") as caught:
        feed_of().rows("~image")
    assert "Add images without image" in caught.value.fix


def test_balanced_gives_each_class_its_share_and_no_unknown(feed_of) -> None:  # type: ignore[no-untyped-def]
    rows = drawn(feed_of(), Stream("all", 64, sampler="balanced"), 40)
    shares = np.bincount(CLS[rows], minlength=3) / len(rows)
    assert min(CLS[rows]) == 0 and np.abs(shares - 1 / 3).max() < 0.04
    zero = np.bincount(rows, minlength=N)[:7]
    assert zero.min() > 0.7 * zero.mean()


def test_weighted_follows_its_column(feed_of) -> None:  # type: ignore[no-untyped-def]
    rows = drawn(feed_of(), Stream("all", 64, sampler="weighted:trust"), 60)
    weight = np.where(np.arange(N) == 3, 0, np.arange(N) / 12)
    shares = np.bincount(rows, minlength=N) / len(rows)
    assert shares[3] == shares[0] == 0 and np.abs(shares - weight / weight.sum()).max() < 0.02


@pytest.mark.parametrize(
    ("sampler", "says"), [("shufle", "shuffle"), ("weighted:trst", "trust"), ("weighted:wide", "no weights")]
)
def test_a_bad_sampler_is_named(feed_of, data: Dataset, sampler: str, says: str) -> None:  # type: ignore[no-untyped-def]
    feed = feed_of(data.with_column("wide", np.ones((N, 2))))
    with pytest.raises((SettingsError, NeedsError)) as error:
        feed.draw(Stream("all", 4, sampler=sampler), "s", 0)
    assert says in str(error.value)


def test_an_unknown_view_is_named(feed_of) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingsError, match="no view 'wek'"):
        feed_of().draw(Stream("all", 4, ("wek",)), "s", 0)


# -- what is said of them ----------------------------------------------------------------------------------------------


def test_pixels_classes_and_columns_are_the_rows(feed_of) -> None:  # type: ignore[no-untyped-def]
    part = feed_of().draw(Stream("all", 12, ("plain",)), "s", 0)
    assert part.labels.cls.tolist() == CLS[part.rows].tolist()
    assert (part["plain"].mean((1, 2, 3)) * 255).round().int().tolist() == (10 + 20 * part.rows).tolist()
    at = part.rows.tolist().index(3)
    assert part.columns["trust"][at].isnan() and "trust" in part.columns and len(part.columns) == 1
    with pytest.raises(SettingsError, match="'trust'"):
        part.columns["trst"]


def test_a_collected_column_takes_the_place_of_an_older_one(feed_of) -> None:  # type: ignore[no-untyped-def]
    feed = feed_of()
    feed.put("trust", torch.arange(N).float())
    part = feed.draw(Stream("trust > 8", 3), "s", 0)
    assert sorted(part.rows.tolist()) == [9, 10, 11] and part.columns["trust"].tolist() == part.rows.tolist()


def boxed(data: Dataset) -> Dataset:
    """Boxes out of order, one to ignore; row 2 was looked at for all classes, row 4 for class 1, row 5 in part."""
    x = np.array([1.0, 2, 3, 4])
    given = {"row": [4, 2, 4, 11], "class": [1, 0, 2, -1], "value": pa_null(np.array([np.nan, 1, 0, np.nan]))}
    data += data.delta(source="a", who=HUMAN, kind="boxes", x0=x, y0=x, x1=x + 2, y1=x + 3, **given)
    looked = table(LOOKED, row=[2, 4, 5], kind="boxes", complete=[1, 1, 0], source=0, **{"class": [-1, 1, -1]})
    return replace(data, looked=looked)


def pa_null(values: np.ndarray):  # type: ignore[no-untyped-def]
    import pyarrow as pa

    return pa.array([None if np.isnan(v) else float(v) for v in values], pa.float32())


def test_boxes_are_packed_by_image(feed_of, data: Dataset) -> None:  # type: ignore[no-untyped-def]
    part = next(feed_of(boxed(data)).sweep(np.array([4, 0, 2]), 3))
    boxes, looked = part.labels.boxes, part.labels.looked
    assert boxes is not None and looked is not None
    assert boxes.image.tolist() == [0, 0, 2] and boxes.cls.tolist() == [1, 2, 0] and boxes.state.tolist() == [1, 0, 1]
    assert boxes.xyxy.tolist() == [[1, 1, 3, 4], [3, 3, 5, 6], [2, 2, 4, 5]]
    assert looked.tolist() == [[False, True, False], [False] * 3, [True] * 3]
    assert next(feed_of(boxed(data)).sweep(np.array([0, 5]), 2)).labels.boxes.xyxy.shape == (0, 4)  # type: ignore[union-attr]
    assert next(feed_of().sweep(np.array([0]), 1)).labels.boxes is None


def test_labels_are_in_coordinates_of_the_stored_image_also_when_the_cache_is_smaller(feed_of, data: Dataset) -> None:  # type: ignore[no-untyped-def]
    """Row 11 is 20 x 10; the cache brings it to 10 x 5, the view to 8 x 8."""
    for cache in (0, 5):
        view = next(feed_of(boxed(data), cache=cache).sweep(np.array([11]), 1)).views["plain"]
        assert view.size.tolist() == [[10, 20]]
        assert view.affine[0].tolist() == [[pytest.approx(20 / 8), 0, 0], [0, pytest.approx(10 / 8), 0]]


def test_votes_are_packed_by_image(feed_of, data: Dataset) -> None:  # type: ignore[no-untyped-def]
    said = table(ANNOTATIONS, row=[3, 1, 3], kind="votes", source=[1, 0, 0], **{"class": [2, 0, 1]})
    people = table(SOURCES, name=["p", "q"], who=ANNOTATOR)
    voted = data + replace(data.empty(), annotations=said, sources=people, classes=data.classes)
    votes = next(feed_of(voted).sweep(np.array([3, 1, 0]), 3)).labels.votes
    assert votes is not None and votes.image.tolist() == [0, 0, 1]
    assert (votes.annotator - 1).tolist() == [1, 0, 0] and votes.cls.tolist() == [2, 1, 0]


def test_a_sweep_shows_every_row_once_in_order(feed_of) -> None:  # type: ignore[no-untyped-def]
    rows = np.array([7, 2, 9, 0, 4])
    assert torch.cat([p.rows for p in feed_of().sweep(rows, 2)]).tolist() == rows.tolist()
