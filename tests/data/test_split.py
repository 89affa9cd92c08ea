from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, SettingsError
from modicum.data.split import carve, few, quotas, split


def made(cls: list[int], classes: int = 0, **images: list[str]) -> Dataset:
    ids = [f"i{n}" for n in range(len(cls))]
    names = [f"c{n}" for n in range(classes or max(cls, default=0) + 1)]
    return Dataset.build(ids, names, cls=np.array(cls, np.int64), **images)


def sides(data: Dataset) -> np.ndarray:
    return data.field("split")


SHARES = st.sampled_from(
    [{"train": 0.8, "test": 0.2}, {"train": 0.7, "val": 0.1, "test": 0.2}, {"train": 0.5, "test": 0.5}]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=60), SHARES, st.integers(0, 5))
def test_each_class_is_divided_by_its_shares(cls: list[int], shares: dict[str, float], seed: int) -> None:
    data = split(made(cls, 5), shares, seed)
    found = sides(data)
    assert set(found) <= set(shares)
    for c in set(cls):
        n = cls.count(c)
        counts = [int((found[np.array(cls) == c] == s).sum()) for s in shares]
        assert sum(counts) == n
        if n >= 2:
            assert sum(k > 0 for k in counts) == min(n, len(shares))
        if n >= 20:
            assert all(abs(k - n * s) < 1 for k, s in zip(counts, shares.values()))


def test_quotas_against_hand_worked_ones() -> None:
    assert quotas(10, [0.8, 0.2]).tolist() == [8, 2]
    assert quotas(3, [0.8, 0.2]).tolist() == [2, 1]
    assert quotas(2, [0.9, 0.1]).tolist() == [1, 1]
    assert quotas(1, [0.8, 0.2]).tolist() == [1, 0]
    assert quotas(2, [0.8, 0.1, 0.1]).tolist() == [1, 1, 0]
    assert quotas(7, [0.5, 0.25, 0.25]).tolist() == [3, 2, 2]  # exact 3.5, 1.75, 1.75
    assert quotas(0, [0.8, 0.2]).tolist() == [0, 0]


def test_order_does_not_matter_and_seed_does() -> None:
    data = made([0, 1] * 50)
    back = np.arange(100)[::-1]
    first = sides(split(data, seed=3))
    np.testing.assert_array_equal(sides(split(data.take(back), seed=3)), first[back])
    assert (first != sides(split(data, seed=4))).any()


def test_given_splits_stay() -> None:
    data = made([0] * 10, split=["test"] * 3 + [""] * 5 + ["val"] * 2)
    found = sides(split(data))
    assert found[:3].tolist() == ["test"] * 3 and found[8:].tolist() == ["val"] * 2
    assert sorted(found[3:8]) == ["test"] + ["train"] * 4
    done = made([0] * 2, split=["train", "train"])
    assert split(done) is done


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 3), st.sampled_from(["", "a", "b", "c", "d", "e"])), min_size=1, max_size=60),
    SHARES,
)
def test_a_group_never_crosses(rows: list[tuple[int, str]], shares: dict[str, float]) -> None:
    data = made([c for c, _ in rows], 4, group=[g for _, g in rows])
    found = sides(split(data, shares))
    assert set(found) <= set(shares)
    for g in {g for _, g in rows} - {""}:
        assert len({s for s, (_, other) in zip(found, rows) if other == g}) == 1


def test_groups_keep_the_shares_and_rare_classes_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(200), 5)
    cls = np.repeat(rng.choice(3, 200, p=[0.6, 0.39, 0.01]), 5)
    cls[:5], cls[5:10] = 2, 2
    data = split(made(cls.tolist(), group=[f"g{g}" for g in group]))
    test = sides(data) == "test"
    assert abs(test.mean() - 0.2) < 0.02
    for c in range(3):
        assert test[cls == c].any() and (~test)[cls == c].any()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-1, 3), st.sampled_from(["", "", "a", "b", "c"]), st.integers(-1, 6)),
        min_size=1, max_size=60,
    ),
    SHARES,
)  # fmt: skip
def test_what_is_joined_by_group_or_picture_never_crosses(
    rows: list[tuple[int, str, int]], shares: dict[str, float]
) -> None:
    cls, group, picture = zip(*rows)
    data = made(list(cls), 4, group=list(group))
    found = sides(split(data, shares, together=np.array(picture)))
    assert set(found) <= set(shares)
    for a in range(len(rows)):
        for b in range(a):
            if (group[a] and group[a] == group[b]) or (picture[a] >= 0 and picture[a] == picture[b]):
                assert found[a] == found[b]


def test_pairs_hardly_move_the_shares() -> None:
    rng = np.random.default_rng(0)
    cls, picture = rng.integers(0, 5, 1000), np.full(1000, -1)
    picture[rng.permutation(1000)[:200]] = np.repeat(np.arange(100), 2)
    test = sides(split(made(cls.tolist()), together=picture)) == "test"
    for c in range(5):
        assert abs(test[cls == c].sum() - 0.2 * (cls == c).sum()) <= 1


def test_carving_leaves_what_was_there_and_what_leaks() -> None:
    names = ["train"] * 40 + ["test"] * 10 + ["unlabelled"] * 10
    picture = np.full(60, -1)
    picture[[0, 40]], picture[[1, 50]], picture[[2, 3]] = 0, 1, 2
    data = made([0, 1] * 30, split=names)
    found = sides(carve(data, "val", 0.25, np.array(names) == "train", together=picture))
    assert found[40:].tolist() == names[40:] and set(found[:40]) == {"train", "val"}
    assert found[0] == found[1] == "train" and found[2] == found[3]
    assert (found[:40] == "val").sum() in (9, 10)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "test", "pool"]), st.sampled_from(["", "a", "b"]), st.integers(-1, 4)),
        min_size=1, max_size=40,
    )
)  # fmt: skip
def test_carving_separates_nothing(rows: list[tuple[str, str, int]]) -> None:
    names, group, picture = zip(*rows)
    data = made([0] * len(rows), split=list(names), group=list(group))
    found = sides(carve(data, "val", 0.3, np.array(names) == "train", together=np.array(picture)))
    assert all(new == old for new, old in zip(found, names) if old != "train")
    for a in range(len(rows)):
        for b in range(len(rows)):
            if (group[a] and group[a] == group[b]) or (picture[a] >= 0 and picture[a] == picture[b]):
                assert found[a] != "val" or found[b] == "val"


def test_a_group_follows_its_given_split_and_by_chooses_the_column() -> None:
    data = made([0] * 6, group=["g"] * 5 + [""], split=["test"] + [""] * 5)
    assert sides(split(data))[:5].tolist() == ["test"] * 5
    data = made([0, 1] * 10, domain=["s1"] * 10 + ["s2"] * 10)
    found = sides(split(data, {"train": 0.5, "test": 0.5}, by="domain"))
    assert len(set(found[:10])) == len(set(found[10:])) == 1 and found[0] != found[10]


@pytest.mark.parametrize("shares", [{}, {"train": 1.2}, {"train": 0.5}, {"train": 1.0, "test": 0.0}])
def test_bad_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        split(made([0, 1]), shares)
    with pytest.raises(SettingsError):
        split(made([0, 1]), by="colour")


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_few_per_class_is_balanced_and_grows() -> None:
    data = made([0] * 50 + [1] * 50 + [2] * 3 + [-1] * 20, split=["train"] * 123)
    small, large = few(data, per_class=4), few(data, per_class=10)
    assert np.bincount(data.cls[small]).tolist() == [4, 4, 3] and np.bincount(data.cls[large]).tolist() == [10, 10, 3]
    assert set(small) <= set(large) and (np.diff(small) > 0).all() and small.dtype == np.int64
    assert set(few(data, per_class=4, seed=1)) != set(small)


def test_few_in_total_is_even() -> None:
    data = made([0] * 50 + [1] * 50 + [2] * 3, split=["train"] * 103)
    assert sorted(np.bincount(data.cls[few(data, total=40)]).tolist()) == [3, 18, 19]
    assert np.bincount(data.cls[few(data, total=103)]).tolist() == [50, 50, 3]
    assert len(few(data, total=1)) == 1


def test_few_keeps_to_its_rows() -> None:
    data = made([0, 0, 1, 1], split=["train", "test", "train", "test"])
    assert few(data, per_class=5).tolist() == [0, 2] and few(data, per_class=5, rows="split:test").tolist() == [1, 3]
    with pytest.raises(DataError, match="2 labels in rows 'split:train', 3 asked for"):
        few(data, total=3)
    with pytest.raises(SettingsError):
        few(data)
    with pytest.raises(SettingsError):
        few(data, per_class=1, total=1)
