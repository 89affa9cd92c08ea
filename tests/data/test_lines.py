"""Rows of tables in every dialect, and of files that are no tables."""

from __future__ import annotations

import csv
import io
import time
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modicum.core.errors import DataError
from modicum.data.formats import Fault
from modicum.data.lines import LINE, TableFile, header_of, rows_of, write_csv

NAMES = [["image", "class"], ["größe/é.png", "naïve"], ["a;b.png", 'say "x"']]
Found = tuple[list[list[str]], list[Fault]]


def rows(content: bytes, name: str = "t.csv") -> Found:
    """All rows with the header, and the faults."""
    file = TableFile(name, "", lambda: io.BytesIO(content))
    faults: list[Fault] = []
    head = header_of(file)
    return [head, *(cells for _, cells in rows_of(file, range(len(head)), faults))], faults


def text(lines: list[list[str]], **how: str) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, **how).writerows(lines)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_dialects(encoding: str, end: str, delimiter: str) -> None:
    content = text(NAMES, delimiter=delimiter, lineterminator=end).encode(encoding)
    assert rows(content) == (NAMES, [])


def test_western_european_is_read_and_said() -> None:
    found, faults = rows(text([*NAMES, ["5€.png", "x"]]).encode("cp1252"))
    assert found == [*NAMES, ["5€.png", "x"]]
    assert len(faults) == 1 and faults[0].where == "t.csv" and "Windows-1252" in faults[0].reason


def test_a_few_bad_bytes_do_not_change_the_others() -> None:
    found, faults = rows("image,class\né.png,ü\n".encode() + b"\xff.png,x\n")
    assert found[1] == ["é.png", "ü"] and found[2][0] == "\udcff.png" and not faults


def test_a_quote_that_is_never_closed_costs_its_line() -> None:
    lines = ["image,class", 'a,"cat', *(f"i{n},dog" for n in range(500)), 'b,6" nail', 'c,"x"y', 'd,"two', 'lines"']
    found, faults = rows("\n".join(lines).encode())
    assert found[1:501] == [[f"i{n}", "dog"] for n in range(500)]
    assert found[501:] == [["b", '6" nail'], ["d", "two\nlines"]]
    assert [(f.where, f.reason.split(": ")[1]) for f in faults] == [
        ("t.csv: row 2", "a quote that is not closed"), ("t.csv: row 504", "',' expected after '\"'"),
    ]  # fmt: skip


def test_row_numbers_are_lines_of_the_file() -> None:
    file = TableFile("t.csv", "", lambda: io.BytesIO(b'a,b\n\n1,"x\ny"\n\n2,z\n'))
    assert [n for n, _ in rows_of(file, (), [])] == [3, 6]


def test_guarded_cells_lose_their_guard_in_text_alone() -> None:
    assert rows(b"image,class\n'=x,'-5\n")[0][1] == ["=x", "'-5"]
    out = io.BytesIO()
    pq.write_table(pa.table({"image": ["'=x"], "class": ["'+a"]}), out)
    assert rows(out.getvalue(), "t.parquet")[0][1] == ["'=x", "'+a"]


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=2, max_size=2), max_size=5
    )
)
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]]) -> None:
    file = tmp_path_factory.getbasetemp() / "w.csv"
    lines = [["x" + a, b] for a, b in lines]
    assert write_csv(file, ["image", "=class"], lines) == len(lines)
    assert rows(file.read_bytes()) == ([["image", "=class"], *lines], [])


@pytest.mark.parametrize("content, says", [
    (b"\0\1\2\3", "not text, but bytes"), (b"image,class\0\n", "not text"), (b"x" * (LINE + 5), "first line has more"),
])  # fmt: skip
def test_what_is_no_text(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        rows(content)


def test_a_huge_line_takes_neither_time_nor_memory() -> None:
    content = b"image,class\na,cat\n" + b"b," + b"x" * (40 << 20) + b"\nc,dog\n"
    tracemalloc.start()
    found, faults = rows(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[1:] == [["a", "cat"], ["c", "dog"]] and "more than" in faults[0].reason and peak < 24 * LINE


def test_quotes_cannot_make_reading_slow() -> None:
    started = time.process_time()
    found, faults = rows(b"image,class\n" + b'a,"x\nb,c\n' * 20_000)
    assert len(found) + len(faults) > 1 and time.process_time() - started < 10


# -- Parquet -----------------------------------------------------------------------------------------------------------


def parquet(columns: dict[str, object], **how: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **how)  # type: ignore[arg-type]
    return out.getvalue()


def test_columns_of_other_kinds_are_not_used() -> None:
    found, faults = rows(
        parquet({"image": ["a", None], "class": [[1], []], "n": [1.5, None], "ok": [True, False]}), "t.parquet"
    )
    assert found[1:] == [["a", "", "1.5", "1"], ["", "", "", "0"]]
    assert [(f.where, f.reason) for f in faults] == [
        ("t.parquet: class", "neither words nor numbers: the column is not used")
    ]


def test_a_column_that_is_not_wanted_is_not_read() -> None:
    file = TableFile("t.parquet", "", lambda: io.BytesIO(parquet({"image": ["a"], "big": [["x"] * 9]})))
    assert list(rows_of(file, [0], [])) == [(1, ["a", ""])]


def test_a_million_rows_in_one_group_stream() -> None:
    content = parquet(
        {"image": pa.array(["same"] * 1_000_000), "class": pa.array([1] * 1_000_000)}, row_group_size=1_000_000
    )
    file = TableFile("t.parquet", "", lambda: io.BytesIO(content))
    before = pa.total_allocated_bytes()
    for n, _ in rows_of(file, [0, 1], []):
        if n == 20_000:
            assert pa.total_allocated_bytes() - before < 64 << 20
            break


def test_damaged_footers(tmp_path: Path) -> None:
    whole = parquet({"image": ["a"] * 50, "class": ["b"] * 50})
    for content in (
        whole[:-9],
        whole[:30] + whole[-30:],
        b"PAR1" + b"\xff" * 60 + b"PAR1",
        whole[:-8] + b"\xff\xff\xff\x7fPAR1",
    ):
        with pytest.raises(DataError, match="not a readable table"):
            rows(content, "t.parquet")
