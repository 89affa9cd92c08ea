"""Datasets: deltas, who wins, rows taken and labels hidden, against plain loops; and the way to disk and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.core.dataset import ANNOTATOR, HUMAN, MODEL, Dataset, Table
from modicum.core.errors import DataError
from modicum.core.tables import LOOKED, table

N, C = 6, 3


def base(cls: list[int] | None = None) -> Dataset:
    given = np.array(cls) if cls is not None else None
    return Dataset.build([f"{i}.png" for i in range(N)], ["a", "b", "c"], cls=given, split=["train"] * 4 + ["test"] * 2)


statements = st.lists(
    st.tuples(
        st.sampled_from([HUMAN, ANNOTATOR, MODEL]), st.lists(st.integers(-1, C - 1), min_size=N, max_size=N)
    ),
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(statements)
def test_resolve_prefers_people_then_the_latest(said: list[tuple[str, list[int]]]) -> None:
    data = base()
    best: list[tuple[int, int]] = [(-1, -1)] * N
    rank = {HUMAN: 3, ANNOTATOR: 2, MODEL: 1}
    for i, (who, cls) in enumerate(said):
        data = data + data.delta_class(np.array(cls), source=f"s{i}", who=who)
        for row, c in enumerate(cls):
            if c >= 0 and rank[who] >= best[row][0]:
                best[row] = (rank[who], c)
    assert data.resolve().cls.tolist() == [c for _, c in best]
    assert np.array_equal(data.resolve().resolve().cls, data.resolve().cls)


def test_without_resolve_the_last_statement_wins_and_nothing_is_overwritten() -> None:
    data = base([0, 1, 2, -1, -1, 0])
    more = data + data.delta_class(
        np.array([1, -1, -1, 2, -1, -1]), source="net", who=MODEL, run="r1", confidence=np.full(N, 0.5)
    )
    assert more.cls.tolist() == [1, 1, 2, 2, -1, 0] and data.cls.tolist() == [0, 1, 2, -1, -1, 0]
    assert more.annotations.num_rows == 6 and sorted(set(more.who())) == [HUMAN, MODEL]
    assert more.resolve().cls.tolist() == [0, 1, 2, 2, -1, 0]
    assert more.resolve(("net",)).cls.tolist() == [1, 1, 2, 2, -1, 0]


def test_a_delta_brings_classes_by_name_and_images_at_the_end() -> None:
    data = base([0, 1, 2, -1, -1, 0])
    other = Dataset.build(["x.png", "y.png"], ["c", "new"])
    other = other + other.delta(source="s", who=HUMAN, row=[6, 7], kind="class", **{"class": [0, 1]})
    both = data + other
    assert both.names == ("a", "b", "c", "new") and len(both) == 8
    assert both.cls.tolist() == [0, 1, 2, -1, -1, 0, 2, 3]
    assert both.ids.tolist()[-2:] == ["x.png", "y.png"] and both.counts().tolist() == [2, 1, 2, 1]


def test_a_column_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(DataError, match="2 values for 6 images"):
        base().with_column("trust", np.zeros(2))
    data = base().with_column("trust", np.zeros(N))
    with pytest.raises(DataError, match="column 'trust' has 6 rows, the images 7"):
        data + Dataset.build(["x.png"])


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(N)), st.integers(0, N), st.lists(st.integers(-1, C - 1), min_size=N, max_size=N))
def test_take_against_a_loop(order: list[int], n: int, cls: list[int]) -> None:
    rows = np.array(order[:n], np.int64)
    data = base(cls).with_column("z", np.arange(N) * 10.0)
    part = data.take(rows)
    assert part.ids.tolist() == [f"{i}.png" for i in rows] and part.columns["z"].tolist() == [i * 10.0 for i in rows]
    assert part.cls.tolist() == [cls[i] for i in rows] and part.field("split").tolist() == [
        data.field("split")[i] for i in rows
    ]


def test_take_keeps_all_statements_of_a_row() -> None:
    data = base([0, 1, 2, -1, -1, 0])
    data = data + data.delta(source="anna", who=ANNOTATOR, row=[0, 2, 2], kind="votes", **{"class": [1, 1, 2]})
    row, annotator, cls = data.take(np.array([2, 0])).votes
    assert sorted(zip(row.tolist(), cls.tolist())) == [(0, 1), (0, 2), (1, 1)] and set(annotator.tolist()) == {1}


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, N - 1)))
def test_without_hides_one_kind_of_some_rows(hidden: set[int]) -> None:
    data = base([0, 1, 2, 0, 1, 2]).with_column("probs", np.full((N, C), 1 / 3, np.float32))
    data = data + data.delta(source="s", who=HUMAN, row=list(range(N)), kind="tags", value=1.0, **{"class": [0] * N})
    less = data.without("class", np.array(sorted(hidden), np.int64))
    assert less.cls.tolist() == [-1 if i in hidden else i % 3 for i in range(N)]
    assert less.known("tags").all() and data.known("class").all()
    soft = data.without("probs", np.array(sorted(hidden), np.int64))
    assert soft.known("probs").tolist() == [i not in hidden for i in range(N)]


def test_tags_keep_absent_and_unknown_apart() -> None:
    data = base()
    assert data.tags is None
    data = data + data.delta(
        source="s", who=HUMAN, row=[0, 0, 3], kind="tags", value=[1.0, 0.0, 1.0], **{"class": [0, 1, 2]}
    )
    assert (
        data.tags is not None and data.tags[[0, 3]].tolist() == [[1, 0, -1], [-1, -1, 1]] and (data.tags[1] == -1).all()
    )


def test_facts_say_some_all_and_guess() -> None:
    assert [str(f) for f in base([0, 1, 2, -1, -1, 0]).facts()] == ["image", "names", "class:some"]
    assert "class" in map(str, base([0] * N).facts())
    data = base()
    assert "class:some~" in map(
        str, (data + data.delta_class(np.array([0, -1, -1, -1, -1, -1]), source="n", who=MODEL)).facts()
    )
    assert base().with_column("probs", np.ones((N, C))).facts()[-1].kind == "probs"


def everything() -> Dataset:
    data = base([0, 1, 2, -1, -1, 0]).with_column(
        "features", np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    )
    data = data + data.delta(
        source="s", who=HUMAN, row=[0], kind="boxes", x0=1.5, y0=2.0, x1=3.0, y1=4.0, **{"class": [1]}
    )
    from dataclasses import replace

    return replace(data, looked=table(LOOKED, row=[0], kind="boxes", complete=[1], source=[0], **{"class": [-1]}))


def test_save_and_load(tmp_path: Path) -> None:
    data = everything()
    data.save(tmp_path / "set")
    back = Dataset.load(tmp_path / "set")
    assert back.version == data.version and back.names == data.names
    for name in ("images", "annotations", "looked", "sources", "classes"):
        assert getattr(back, name).to_pylist() == getattr(data, name).to_pylist()
    assert np.array_equal(back.columns["features"], data.columns["features"])


@pytest.mark.parametrize("harm", ["missing", "cut", "not json", "pickle", "list", "other schema"])
def test_a_damaged_folder_is_a_data_error(tmp_path: Path, harm: str) -> None:
    everything().save(tmp_path)
    if harm == "missing":
        (tmp_path / "sources.parquet").unlink()
    elif harm == "cut":
        whole = (tmp_path / "images.parquet").read_bytes()
        (tmp_path / "images.parquet").write_bytes(whole[: len(whole) // 2])
    elif harm == "not json":
        (tmp_path / "dataset.json").write_text("{")
    elif harm == "list":
        (tmp_path / "dataset.json").write_text("[]")
    elif harm == "pickle":
        np.save(tmp_path / "column-features.npy", np.array([{}], object), allow_pickle=True)
    else:
        (tmp_path / "images.parquet").write_bytes((tmp_path / "classes.parquet").read_bytes())
    with pytest.raises(DataError) as error:
        Dataset.load(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("side", [np.nan, np.inf, None])
def test_a_box_whose_sides_are_no_numbers_is_damage(tmp_path: Path, side: float | None) -> None:
    data = everything()
    row = {"row": [0, 1], "kind": "boxes", "class": [0, 0], "x0": [0, side], "y0": [0, 0], "x1": [3, 3], "y1": [4, 4]}
    (data + data.delta(source="p", who=HUMAN, **row)).save(tmp_path)
    with pytest.raises(DataError, match="holds a box whose sides are no numbers"):
        Dataset.load(tmp_path)


def test_version_is_of_the_content() -> None:
    data = everything()
    assert data.version == everything().version
    changed = [
        base([0, 1, 2, -1, -1, 1]), data.with_images(split=["test"] * N), data.without("boxes", np.arange(N)),
        data.with_column("features", np.zeros((N, 4))), data.take(np.array([1, 0, 2, 3, 4, 5])),
    ]  # fmt: skip
    assert len({data.version, *(d.version for d in changed)}) == 6


def test_version_does_not_depend_on_how_the_tables_are_chunked(tmp_path: Path) -> None:
    data = everything()
    half = data.take(np.arange(3)).take(np.arange(3))
    assert half.version == data.take(np.arange(3)).version
    sliced = data.take(np.arange(N))
    assert sliced.version == data.version


def test_tables_read_columns_of_their_rows() -> None:
    data = everything()
    logits = np.array([[0.0, 0.0, 0.0], [1000.0, 0.0, 0.0]])
    part = Table(data, np.array([5, 2]), {"logits": logits})
    assert len(part) == 2 and part.cls.tolist() == [0, 2]
    assert np.array_equal(part["features"], data.columns["features"][[5, 2]])
    assert part.probs == pytest.approx(np.array([[1 / 3] * 3, [1, 0, 0]]))
    with pytest.raises(DataError, match="'features'"):
        part["feature"]
