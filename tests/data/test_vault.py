from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modicum.core.dataset import HUMAN, Dataset
from modicum.core.errors import DataError
from modicum.data.vault import Vault, hide

CLS = np.array([0, 1, -1, 1, 0])


@pytest.fixture
def data() -> Dataset:
    return Dataset.build([f"i{n}" for n in range(5)], ["a", "b"], cls=CLS)


def test_hidden_labels_leave_the_set(data: Dataset, tmp_path: Path) -> None:
    visible, vault = hide(data, np.array([1, 4]))
    assert visible.cls.tolist() == [-1, 1, -1, -1, 0] and visible.names == ("a", "b")
    assert visible.annotations.num_rows == 2
    visible.save(tmp_path)
    assert Dataset.load(tmp_path).cls.tolist() == [-1, 1, -1, -1, 0]
    np.testing.assert_array_equal(vault.open("test"), CLS)


def test_hidden_values_cannot_be_told_from_the_visible_set(data: Dataset) -> None:
    other = Dataset.build(data.ids.tolist(), ["a", "b"], cls=np.array([1, 1, -1, 0, 0]))
    keep = np.array([1, 4])
    assert hide(data, keep)[0].version == hide(other, keep)[0].version


def test_openings_are_counted_with_their_reasons(data: Dataset, tmp_path: Path) -> None:
    vault = hide(data, np.array([0]))[1]
    vault.open("before saving")
    kept = vault.save(tmp_path / "vault")
    kept.open("accuracy")
    again = Vault.load(tmp_path / "vault")
    assert again.count == 2
    np.testing.assert_array_equal(again.open("calibration"), CLS)
    assert [o["reason"] for o in again.openings] == ["before saving", "accuracy", "calibration"] and kept.count == 3
    assert again.ids.to_pylist() == data.ids.tolist() and len(again) == 5
    assert again.save(tmp_path / "vault").count == 3


def test_no_opening_is_lost_or_nameless(data: Dataset, tmp_path: Path) -> None:
    vault = hide(data, np.array([0]))[1].save(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: Vault.load(tmp_path).open(f"reader {n}"), range(40)))
    assert vault.count == 40 and len({o["reason"] for o in vault.openings}) == 40
    with pytest.raises(DataError):
        vault.open(" ")
    vault.open("spoil")[:] = 7
    np.testing.assert_array_equal(vault.open("again"), CLS)


def test_a_missing_vault_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable vault"):
        Vault.load(tmp_path)


def test_a_vault_that_cannot_be_written_whole_stays_what_it_was(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(data, np.array([0]))[1].save(tmp_path).open("first")

    def full(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("modicum.data.vault.pq.write_table", full)
    with pytest.raises(OSError, match="No space"):
        hide(data.take(np.array([1, 2])), np.array([0]))[1].save(tmp_path)
    again = Vault.load(tmp_path)
    assert len(again) == 5 and again.count == 1 and len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("columns", [
    {"id": ["a", None], "class": [0, 1]}, {"id": [1, 2], "class": [0, 1]}, {"id": ["a", "b"], "class": [0.5, 1.0]},
    {"id": ["a", "b"], "class": [0, None]}, {"id": ["a", "b"]}, {"id": ["a"], "class": [[0]]},
])  # fmt: skip
def test_tables_that_are_no_vault(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "vault.parquet")
    with pytest.raises(DataError, match="not a readable vault"):
        Vault.load(tmp_path)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 900), st.binary(min_size=1, max_size=9))
def test_changed_bytes_in_a_vault(at: int, noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hide(Dataset.build([f"i{n}" for n in range(5)], ["a", "b"], cls=CLS), np.array([1]))[1].save(Path(folder))
        file = Path(folder, "vault.parquet")
        body = bytearray(file.read_bytes())
        body[at % len(body) : at % len(body) + len(noise)] = noise
        file.write_bytes(body)
        try:
            assert Vault.load(Path(folder)).open("test").dtype == np.int64
        except DataError as error:
            assert "not a readable vault" in str(error)


def said(data: Dataset) -> Dataset:
    """Tags of images 0 to 3 and a box in images 1 and 4."""
    tags = data.delta(source="p", who=HUMAN, row=np.arange(4), kind="tags", value=np.ones(4), **{"class": CLS[:4] * 0})
    sides = {name: np.full(2, value) for name, value in zip(("x0", "y0", "x1", "y1"), (0.0, 0.0, 1.0, 1.0))}
    boxes = {"row": np.array([1, 4]), "kind": "boxes", "class": np.array([1, 0]), **sides}
    return data + tags + data.delta(source="q", who=HUMAN, **boxes)


def test_other_kinds_are_hidden_where_one_measures(data: Dataset, tmp_path: Path) -> None:
    whole = said(data)
    visible, vault = hide(whole, np.arange(3), outside=np.array([3, 4]))
    rows = [visible.of_kind(kind)["row"].to_pylist() for kind in ("tags", "boxes")]
    assert rows == [[0, 1, 2], [1]]
    vault.save(tmp_path)
    again = Vault.load(tmp_path)
    assert again.fits(visible) and again.count == 0
    back = again.reveal(visible, "boxes")
    assert sorted(back.of_kind("boxes")["row"].to_pylist()) == [1, 4] and again.count == 1
    assert sorted(back.of_kind("tags")["row"].to_pylist()) == [0, 1, 2, 3] and len(back) == len(data)
    assert back.cls.tolist() == visible.cls.tolist(), "classes are opened by themselves"


def test_only_the_kinds_to_learn_from_stay(data: Dataset) -> None:
    visible, vault = hide(said(data), np.arange(0), kinds=("tags",), outside=np.array([4]))
    assert set(visible.annotations["kind"].to_pylist()) == {"tags"}
    assert sorted(vault.reveal(visible, "all").of_kind("boxes")["row"].to_pylist()) == [1, 4]
    assert hide(data, np.arange(5))[1].reveal(data, "nothing was hidden") is data


def test_a_vault_of_other_images_does_not_fit(data: Dataset, tmp_path: Path) -> None:
    vault = hide(said(data), np.arange(0), outside=np.arange(5))[1].save(tmp_path)
    assert not vault.fits(data.take(np.arange(4)))
    (tmp_path / "rest").rename(tmp_path / "away")
    with pytest.raises(DataError, match="rest/, which holds hidden labels, is missing"):
        Vault.load(tmp_path)
    (tmp_path / "away").rename(tmp_path / "rest")
    (tmp_path / "rest" / "annotations.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable dataset"):
        Vault.load(tmp_path)
