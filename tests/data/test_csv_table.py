from __future__ import annotations

import csv
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modicum.core.errors import DataError
from modicum.data.convert import convert
from modicum.data.formats import Read
from modicum.data.read import pixels, read

Put = Callable[..., Path]


@pytest.fixture
def table(put: Put) -> Callable[..., Read]:
    """Four images and a table with the text given."""

    def write(text: str | bytes, name: str = "labels.csv") -> Read:
        for i, image in enumerate(("a.png", "b.png", "sub/c.png", "d.png")):
            root = put(image, i)
        (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return read(root)

    return write


def words(found: Read) -> dict[str, str]:
    data = found.data
    return {i: data.names[c] if c >= 0 else "" for i, c in zip(data.ids, data.cls)}


def reasons(found: Read) -> list[str]:
    return [f"{f.where}: {f.reason}" for f in found.faults]


def test_classes_and_fields(table: Callable[..., Read]) -> None:
    found = table(
        "filename,label,split,group,domain\na.png,dog,Training,g1,s1\nb.png,cat,test,g2,\nsub/c.png, cat ,,,\n"
    )
    assert not found.faults and found.data.reader == "folders" and found.data.names == ("cat", "dog")
    assert words(found) == {"a.png": "dog", "b.png": "cat", "d.png": "", "sub/c.png": "cat"}
    assert found.data.field("split").tolist() == ["train", "test", "train", ""]
    assert found.data.field("group").tolist() == ["g1", "g2", "", ""]
    assert found.data.field("domain").tolist() == ["s1", "", "", ""]
    assert pixels(found.data, 3).shape == (4, 5, 3)


@pytest.mark.parametrize("name, text", [
    ("x.tsv", "image\tclass\na\t1\nc\t2\n"),
    ("x.csv", "\ufeffimage;class\na;1\nc;2\n"), ("x.csv", "image,class\r\na,1.0\r\nc.png,2.0\r\n"),
])  # fmt: skip
def test_dialects_and_names_without_ending(table: Callable[..., Read], name: str, text: str) -> None:
    found = table(text, name)
    assert not found.faults and words(found) == {"a.png": "1", "b.png": "", "d.png": "", "sub/c.png": "2"}


def test_bad_rows_are_named_and_reading_goes_on(table: Callable[..., Read]) -> None:
    found = table(
        "image,class,split\na.png,dog,\nnone.png,dog,\n../a.png,dog,\n/etc/none.png,dog,\nC:\\none.png,dog,\na.png,cat,\n"
        "b.png,1e309,\nd.png,nan,\n,dog,\nsub/c.png,cat,tets\nb.png,dog,,,extra\n"
    )
    assert words(found) == {"a.png": "dog", "b.png": "", "d.png": "", "sub/c.png": "cat"}
    said = reasons(found)
    for row, part in (
        (3, "no image 'none.png'"), (4, "leads out"), (5, "no image '/etc/none.png'"), (6, "no image 'C:"),
        (7, "already in row 2"),
        (8, "'1e309' is not a class"), (9, "'nan' is not a class"), (10, "no image is named"),
        (11, "unknown split 'tets'"),
        (12, "5 cells, but the header has 3"),
    ):  # fmt: skip
        assert any(s.startswith(f"labels.csv: row {row}: ") and part in s for s in said), (row, part, said)
    assert len(said) == 10


def test_same_file_name_twice(put: Put) -> None:
    put("x/a.png")
    root = put("y/a.png")
    (root / "t.csv").write_text("image,class\na.png,1\nx/a.png,1\n")
    found = read(root)
    assert words(found) == {"x/a.png": "1", "y/a.png": ""} and "several images" in found.faults[0].reason


def test_probabilities(table: Callable[..., Read]) -> None:
    found = table("image,p:dog,p:cat\na,0.25,0.75\nb,,\nc,NaN,1\nd,1e309,0\n")
    assert found.data.names == ("dog", "cat")
    np.testing.assert_array_equal(
        found.data.probs, np.array([[0.25, 0.75], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2], np.float32)
    )
    assert [s.partition(": row ")[2][:1] for s in reasons(found)] == ["4", "5"]


def test_probabilities_must_sum_to_one(table: Callable[..., Read]) -> None:
    found = table("image,p:dog,p:cat,class\na,0.5,0.7,dog\nb,-0.5,1.5,bird\nc,0.502,0.502,\n")
    assert words(found)["a.png"] == "dog" and words(found)["b.png"] == ""
    assert sum("not probabilities" in s for s in reasons(found)) == 2 and any(
        "unknown class 'bird'" in s for s in reasons(found)
    )
    assert found.data.probs is not None and found.data.probs[3].sum() == 1


def test_tags_know_absent_from_unknown(table: Callable[..., Read]) -> None:
    found = table("image,tag:cat,tag:dog\na,1,0\nb,,1\nc,0,\nd,2,1\n")
    assert found.data.tags is not None
    assert found.data.tags.tolist() == [[1, 0], [-1, 1], [-1, 1], [0, -1]]
    looked = found.data.looked.to_pylist()
    assert [(r["row"], r["kind"], r["class"], r["complete"]) for r in looked] == [
        (0, "tags", 0, 1), (0, "tags", 1, 1), (1, "tags", 1, 1), (3, "tags", 0, 1), (2, "tags", 1, 1),
    ]  # fmt: skip
    assert reasons(found) == ["labels.csv: row 5: tag 'cat' is '2', not 1, 0 or empty"]


def test_votes_have_one_source_an_annotator(table: Callable[..., Read]) -> None:
    found = table("image,worker,label\na,w2,dog\na,w1,cat\nb,w10,dog\na,w2,cat\nb,,dog\n")
    row, source, cls = found.data.votes
    names, who = found.data.sources["name"].to_pylist(), found.data.sources["who"].to_pylist()
    voted = {(found.data.ids[r], names[s], found.data.names[c]) for r, s, c in zip(row, source, cls)}
    assert voted == {("a.png", "w2", "dog"), ("a.png", "w1", "cat"), ("b.png", "w10", "dog")}
    assert all(who[s] == "annotator" for s in source) and (found.data.cls == -1).all()
    assert (
        len(found.faults) == 2
        and "already in row 2" in found.faults[0].reason
        and "no annotator" in found.faults[1].reason
    )


def test_parquet_table_given_itself(put: Put) -> None:
    put("a.png")
    root = put("b.png")
    pq.write_table(
        pa.table({"image": ["a.png", "b.png", None], "label": [3, 1, 2], "extra": [[1], [], None]}), root / "t.parquet"
    )
    found = read(root / "t.parquet")
    assert found.data.names == ("1", "3") and words(found) == {"a.png": "3", "b.png": "1"}
    assert reasons(found) == ["t.parquet: row 3: no image is named"]


def test_tables_that_do_not_fit(table: Callable[..., Read], tmp_path: Path) -> None:
    assert table("when,what\n1,2\n").data.reader == "folders"
    with pytest.raises(DataError, match="none of 2 rows"):
        table("image,class\nx,1\ny,2\n")
    assert read(tmp_path, "folders").data.names == ("sub",)


def test_huge_cells_and_lines_are_one_fault_each(table: Callable[..., Read]) -> None:
    for size in (200_000, 10_000_000):
        for cell in ("x" * size, '"' + "x" * size + '"'):
            found = table("image,class\na,dog\nb," + cell + "\nc,cat\n")
            assert words(found)["sub/c.png"] == "cat" and words(found)["a.png"] == "dog" and len(found.faults) == 1
            assert reasons(found)[0].startswith("labels.csv: row 3: ") and len(reasons(found)[0]) < 200


def test_missing_cells_at_the_end_are_empty(table: Callable[..., Read]) -> None:
    found = table("image,class,split\na.png\nb.png,cat\n\nd.png,dog,test,\n")
    assert not found.faults and words(found) == {"a.png": "", "b.png": "cat", "d.png": "dog", "sub/c.png": ""}


def test_empty_files_and_headers_alone(table: Callable[..., Read], tmp_path: Path) -> None:
    found = table("image,class\n")
    assert reasons(found) == ["labels.csv: a table without rows"] and len(found.data) == 4
    for nothing in ("", "\n\n", "\ufeff"):
        found = table(nothing)
        assert reasons(found) == ["labels.csv: the table is not used: the file is empty"] and len(found.data) == 4
        with pytest.raises(DataError, match=r"no table that names images: labels\.csv"):
            read(tmp_path / "labels.csv")


def test_a_table_that_cannot_be_used_is_not_passed_over_in_silence(table: Callable[..., Read], tmp_path: Path) -> None:
    for text, why in (
        ("image,class,class\na,1,1\n", "two columns are called 'class'"),
        ("img,class\na,1\n", "no column names the image"),
        ("image,height\na,1\n", "no column says anything"), ("image,p:a,p:a \na,1,0\n", "two columns are called 'p:a'"),
        ("image,p:a\x1b\na,1\n", "column 2: a control character"), (b"\0\1\2image\0", "not text, but bytes"),
        ("image,class,confidence,fault\na,cat,0.9,\n", "predictions of a model, not labels"),
    ):  # fmt: skip
        found = table(text)
        assert len(found.data) == 4 and [f.where for f in found.faults] == ["labels.csv"]
        assert "the table is not used" in found.faults[0].reason and why in found.faults[0].reason
        with pytest.raises(DataError, match=r"labels\.csv"):
            read(tmp_path / "labels.csv")


def test_classes_keep_their_capitals(table: Callable[..., Read]) -> None:
    found = table("image,P:Cat,p:cat\na,1,0\nb,0,1\n")
    assert found.data.names == ("Cat", "cat") and not found.faults


def test_odd_names_are_kept_and_impossible_ones_refused(table: Callable[..., Read]) -> None:
    odd = ["<script>alert(1)</script>", "=HYPERLINK(1)", "\u202egnp.exe", "{{7*7}}"]
    lines = [f'{i},"{word}"' for i, word in zip("abcd", odd)]
    found = table("image,class\n" + "\n".join(lines) + "\n")
    assert set(found.data.names) == set(odd) and not found.faults
    lines = [f'{i},"{word}"' for i, word in zip("abcd", ("x\0y", "\x1b[31m", "line\nline", "y" * 201))]
    found = table("image,class\n" + "\n".join(lines) + "\n")
    assert found.data.names == () and len(found.faults) == 4 and all(r.isprintable() for r in reasons(found))


def test_confidence(table: Callable[..., Read]) -> None:
    found = table("image,class,confidence\na,cat,0.25\nb,dog,\nc,cat,1.5\nd,,0.5\n")
    given = found.data.of_kind("class")
    assert dict(zip(found.data.ids[given["row"].to_numpy()], given["confidence"].to_pylist())) == {
        "a.png": 0.25, "b.png": None, "sub/c.png": None,
    }  # fmt: skip
    assert reasons(found) == ["labels.csv: row 4: confidence '1.5' is not between 0 and 1"]


def test_decimal_commas(table: Callable[..., Read]) -> None:
    found = table("image;p:cat;p:dog\na;0,25;0,75\nb;1;,0\n")
    assert not found.faults and found.data.probs is not None
    assert found.data.probs[:2].tolist() == [[0.25, 0.75], [1, 0]]


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e309", "-0.5", "1e30", "x", "1_000", "0x1", "9" * 400])
def test_numbers_that_are_no_probability(table: Callable[..., Read], cell: str) -> None:
    found = table(f"image,p:cat,p:dog\na,{cell},0.5\nb,1,0\n")
    assert len(found.faults) == 1 and found.data.probs is not None
    assert np.isnan(found.data.probs[0]).all() and found.data.probs[1].tolist() == [1, 0]


# -- what an image is called -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "{root}/sub/c.png", "/home/ann/set/sub/c.png", "C:\\set\\sub\\c.png", "\\\\server\\share\\sub\\c.png",
    "./sub//c.png",
    "sub/../sub/c.png", "/elsewhere/c.png", "sub\\c.png", "c",
])  # fmt: skip
def test_absolute_paths_and_dots(table: Callable[..., Read], tmp_path: Path, name: str) -> None:
    found = table(f"image,class\n{name.format(root=tmp_path)},cat\n")
    assert words(found)["sub/c.png"] == "cat" and not found.faults


def test_nothing_outside_is_ever_looked_at(table: Callable[..., Read], tmp_path: Path) -> None:
    (tmp_path.parent / "secret.png").write_bytes(b"x")
    for name in ("../secret.png", str(tmp_path.parent / "secret.png"), "sub/../../secret.png", "~/secret.png"):
        found = table(f"image,class\na,cat\n{name},dog\n")
        assert found.data.names == ("cat",) and len(found.faults) == 1


def test_a_table_in_a_folder_of_its_own(put: Put) -> None:
    for i, image in enumerate(("images/a.png", "images/b.png", "images/c.png", "images/d.png")):
        root = put(image, i)
    file = root / "labels/all.csv"
    file.parent.mkdir()
    file.write_text("image,class\n../images/a.png,cat\nimages/b.png,dog\nc.png,cat\n../../etc/x.png,cat\n")
    found = read(root)
    assert words(found) == {"images/a.png": "cat", "images/b.png": "dog", "images/c.png": "cat", "images/d.png": ""}
    assert [r.partition(":")[0] for r in reasons(found)] == ["labels/all.csv"] and "leads out" in reasons(found)[0]
    with pytest.raises(DataError, match=r"no images beside the table[\s\S]*holds both"):
        read(file)


def test_composed_and_decomposed_names_are_the_same(put: Put) -> None:
    root = put(unicodedata.normalize("NFD", "é/ü.png"))
    put("n/x.png")
    (root / "t.csv").write_text(unicodedata.normalize("NFC", "image,class\né/ü.png,é\n"), encoding="utf-8")
    found = read(root)
    assert found.data.names == ("n", "é") and not found.faults and (found.data.cls >= 0).all()
    assert pixels(found.data, found.data.cls.tolist().index(1)).shape == (4, 5, 3)
    put("é/ü.png")
    (root / "t.csv").write_text("image,group\nü,g\nx,g\n", encoding="utf-8")
    assert "several images are called" in read(root).faults[0].reason


# -- several tables ----------------------------------------------------------------------------------------------------


def test_two_tables_that_agree_are_both_read(table: Callable[..., Read], tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("image,split,class\na.png,test,cat\nb.png,train,\n")
    (tmp_path / "votes.tsv").write_text("image\tannotator\tclass\nd.png\tann\tcat\nd.png\tben\tdog\n")
    found = table("image,class\na.png,cat\nb.png,dog\n")
    assert not found.faults and words(found) == {"a.png": "cat", "b.png": "dog", "d.png": "", "sub/c.png": ""}
    assert found.data.field("split").tolist() == ["test", "train", "", "train"] and len(found.data.votes[0]) == 2


def test_two_tables_that_contradict_each_other_name_row_and_way_out(table: Callable[..., Read], tmp_path: Path) -> None:
    (tmp_path / "second.csv").write_text("image,class\na,cat\nb,cat\n")
    said = r"second\.csv: row 3: class 'cat', but labels\.csv, row 3, says 'dog'\nGive the table that[\s\S]*annotator"
    with pytest.raises(DataError, match=said):
        table("image,class\na,cat\nb,dog\n")
    assert words(read(tmp_path / "second.csv"))["b.png"] == "cat"
    assert words(read(tmp_path / "labels.csv"))["b.png"] == "dog"


@pytest.mark.parametrize("head, one, two", [
    ("p:x,p:y", "0,1", "1,0"), ("tag:x", "0", "1"), ("group", "g", "h"), ("class,confidence", "x,0.5", "x,0.25"),
    ("annotator,class", "ann,x", "ann,y"),
])  # fmt: skip
def test_every_contradiction_is_found(
    table: Callable[..., Read], tmp_path: Path, head: str, one: str, two: str
) -> None:
    (tmp_path / "second.csv").write_text(f"image,{head}\na,{two}\n")
    with pytest.raises(DataError, match=r"second\.csv: row 2: .*labels\.csv, row 2"):
        table(f"image,{head}\na,{one}\n")


def test_a_second_table_about_other_images_is_one_fault(table: Callable[..., Read], tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("image,class\nx,cat\ny,dog\n")
    found = table("image,class\na,cat\n")
    assert words(found)["a.png"] == "cat" and [f.where for f in found.faults] == ["other.csv"]
    assert "none of 2 rows" in found.faults[0].reason


# -- a table beside images in Parquet and IDX files --------------------------------------------------------------------


@pytest.mark.parametrize("to, name", [("parquet", "digit-0007"), ("idx", "train/00007")])
def test_a_table_adds_to_what_the_file_says(tmp_path: Path, to: str, name: str) -> None:
    convert("sample:digits", tmp_path / "set", to)
    number = name[-5:].lstrip("0").rjust(1, "0")
    (tmp_path / "set" / "t.csv").write_text(
        f"image,group,class,split\n{name},g1,,test\n{name}x,g,,\n{name[:-1]}8,g,3,\n"
    )
    found = read(tmp_path / "set")
    row = found.data.ids.tolist().index(name)
    assert found.data.reader == to and found.data.field("group")[row] == "g1" and found.data.cls[row] == int(number[-1])
    assert (
        found.data.field("split")[row] == "test" and len(found.data) == 1797 and found.data.names == tuple("0123456789")
    )
    assert ["no image" in found.faults[0].reason, "the images say '8'" in found.faults[1].reason] == [True, True]
    assert pixels(found.data, row).shape == (8, 8, 1)


# -- a table beside class folders --------------------------------------------------------------------------------------


@pytest.fixture
def folders(put: Put) -> Callable[..., Read]:
    """Class folders, a test folder, a pool, and a table with the text given."""

    def write(text: str, name: str = "todo.csv") -> Read:
        for i, image in enumerate(("cat/1.png", "dog/2.png", "test/cat/3.png", "pool/4.png", "pool/5.png", "6.png")):
            root = put(image, i)
        (root / name).write_text(text)
        return read(root)

    return write


def test_a_filled_list_adds_to_class_folders(folders: Callable[..., Read]) -> None:
    found = folders("image,class\npool/4.png,dog\npool/5.png,\n6.png,bird\n")
    assert words(found) == {
        "6.png": "bird", "cat/1.png": "cat", "dog/2.png": "dog", "pool/4.png": "dog", "pool/5.png": "",
        "test/cat/3.png": "cat",
    }  # fmt: skip
    assert not found.faults and found.data.names == ("bird", "cat", "dog")
    split = dict(zip(found.data.ids, found.data.field("split")))
    assert split["test/cat/3.png"] == "test" and split["pool/4.png"] == split["pool/5.png"] == "train"
    assert (found.data.who() == "human").all()


def test_an_empty_list_changes_nothing(folders: Callable[..., Read], tmp_path: Path) -> None:
    found, plain = folders("image,class\npool/4.png,\n6.png,\n"), read(tmp_path, "folders")
    assert words(found) == words(plain) and found.data.names == plain.data.names
    assert found.data.field("split").tolist() == plain.data.field("split").tolist()


def test_a_row_that_contradicts_its_folder_is_a_fault(folders: Callable[..., Read]) -> None:
    found = folders("image,class,split\ncat/1.png,dog,\ntest/cat/3.png,cat,train\npool/4.png,dog,val\n")
    said = words(found)
    assert said["cat/1.png"] == "cat" and said["test/cat/3.png"] == "cat" and said["pool/4.png"] == "dog"
    assert dict(zip(found.data.ids, found.data.field("split")))["test/cat/3.png"] == "test"
    assert dict(zip(found.data.ids, found.data.field("split")))["pool/4.png"] == "val"
    assert [r.partition(",")[0] for r in reasons(found)] == [
        "todo.csv: row 2: class 'dog'", "todo.csv: row 3: split 'train'"
    ]  # fmt: skip
    assert "cat/" in reasons(found)[0] and "test/" in reasons(found)[1]


def test_fields_alone_leave_the_classes_of_folders(folders: Callable[..., Read]) -> None:
    found = folders("image,group\ncat/1.png,g1\ndog/2.png,g2\n")
    assert words(found)["cat/1.png"] == "cat" and found.data.field("group").tolist()[1:3] == ["g1", "g2"]


def test_votes_and_probabilities_stand_beside_the_classes_of_folders(folders: Callable[..., Read]) -> None:
    found = folders("image,annotator,class\npool/4.png,ann,dog\npool/4.png,bob,cat\n")
    assert words(found)["dog/2.png"] == "dog" and words(found)["pool/4.png"] == "" and len(found.data.votes[0]) == 2
    found = folders("image,p:dog,p:owl\npool/4.png,0.25,0.75\n")
    assert words(found)["cat/1.png"] == "cat" and found.data.names == ("dog", "owl", "cat")
    assert found.data.probs is not None and found.data.probs[3].tolist() == [0.25, 0.75, 0]


def test_folders_that_no_class_is_called_after_are_paths(put: Put) -> None:
    for name in ("site1/1.png", "site1/2.png", "site2/3.png"):
        root = put(name)
    (root / "t.csv").write_text("image,class\nsite1/1.png,dent\nsite2/3.png,scratch\n")
    found = read(root)
    assert words(found) == {"site1/1.png": "dent", "site1/2.png": "", "site2/3.png": "scratch"}
    assert found.data.names == ("dent", "scratch") and not found.faults


CELLS = st.one_of(
    st.sampled_from(
        ["a.png", "b", "../a.png", "", "nan", "1e309", "-inf", "cat", "1", "0", "0.5", '"', "'", "\0", "train", " "]
    ),
    st.text(max_size=8),
)
HEADS = st.sampled_from(
    ["image", "class", "label", "split", "group", "annotator", "p:cat", "p:dog", "tag:cat", "tag:dog", "", "x", "p:"]
)


def _reads(write: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.png", "b.png"):
            Image.new("L", (2, 2)).save(Path(folder, name))
        write(Path(folder, "t.csv"))
        try:
            found = read(folder, "table")
        except DataError as error:
            assert str(error)
            return
        data = found.data
        assert data.ids.tolist() == ["a.png", "b.png"] and data.cls.max() < max(1, len(data.names))
        assert data.probs is None or np.allclose(np.nansum(data.probs, 1)[~np.isnan(data.probs[:, 0])], 1)
        _ = data.tags, data.votes, data.facts(), data.version


@settings(max_examples=150, deadline=None)
@given(st.lists(HEADS, min_size=1, max_size=6), st.lists(st.lists(CELLS, max_size=7), max_size=6))
def test_any_table_ends_in_a_set_with_faults_or_a_data_error(head: list[str], rows: list[list[str]]) -> None:
    def write(file: Path) -> None:
        with file.open("w", newline="", encoding="utf-8", errors="surrogatepass") as stream:
            csv.writer(stream).writerows([["image", *head], *rows])

    _reads(write)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_table(noise: bytes) -> None:
    _reads(lambda file: file.write_bytes(b"image,class,p:cat\n" + noise) and None)
    _reads(lambda file: file.write_bytes(noise) and None)
