"""Rows of a table file, cell by cell: any encoding and delimiter a person's program writes, and nothing is trusted.

A line that is no row becomes a fault and reading goes on; the file as a whole is refused in one DataError.  Memory does
not grow with the file: a line is at most LINE characters, a Parquet file is read in batches.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from modicum.core.errors import DataError
from modicum.data.formats import Fault
from modicum.data.names import guard, unguard

SUFFIXES = (".csv", ".tsv", ".parquet")
LINE = 1 << 20
_WITHIN = 50  # lines that one quoted cell may run over
_STRINGS = 64 << 20  # bytes that a Parquet footer may take
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


@dataclass(frozen=True)
class TableFile:
    """A table somewhere.

    name: what faults call it.  folder: where relative names in it start, below the images' root: '' or 'labels/'.
    open: its bytes, from the start.
    """

    name: str
    folder: str
    open: Callable[[], BinaryIO]

    @staticmethod
    def of(path: Path, folder: str = "") -> TableFile:
        """A file on the disk."""
        return TableFile(folder + path.name, folder, lambda: path.open("rb"))

    @property
    def is_parquet(self) -> bool:
        """Whether it is a Parquet file, by its name."""
        return self.name.lower().endswith(".parquet")


@contextmanager
def parsing(where: object, what: str = "table") -> Iterator[None]:
    """Whatever a hostile file makes a parser raise becomes a DataError of one line."""
    try:
        yield
    except (DataError, GeneratorExit):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        fix = "It is cut short or damaged: make or fetch it again."
        raise DataError(f"not a readable {what}: {reason}", where=where, fix=fix) from None


def header_of(table: TableFile) -> list[str]:
    """The column names; [] for a Parquet file that holds images.  DataError if it cannot be read."""
    with parsing(table.name), closing(table.open()) as file:
        if table.is_parquet:
            schema = parquet(file).schema_arrow
            return [] if any(_holds_bytes(f.type) for f in schema) else list(schema.names)
        text, delimiter, _ = _text(file, table)
        return next((c for _, c, fault in _records(text, delimiter) if not fault), [])


def rows_of(table: TableFile, wanted: Sequence[int], faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Row numbers (a text file's line, or a Parquet file's row from 1) and cells; broken lines become faults.

    wanted: the columns that are used; of a Parquet file the others are not read and stand empty.
    """
    with parsing(table.name), closing(table.open()) as file:
        if table.is_parquet:
            yield from _parquet_rows(file, table.name, wanted, faults)
            return
        text, delimiter, odd = _text(file, table)
        if odd:
            faults.append(Fault(table.name, odd))
        header = True
        for line, cells, fault in _records(text, delimiter):
            if fault:
                faults.append(Fault(f"{table.name}: row {line}", fault))
            elif not header:
                yield line, cells
            header = header and bool(fault)


# -- text --------------------------------------------------------------------------------------------------------------


def _text(file: BinaryIO, table: TableFile) -> tuple[TextIO, str, str]:
    """The file as text, its delimiter, and what is odd about its encoding."""
    encoding, odd = _encoding(file)
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, errors="surrogateescape" if encoding == "utf-8" else "replace", newline="")
    head = text.readline(LINE)
    if "\0" in head:
        raise DataError("not text, but bytes", where=table.name, fix="Save it as CSV, UTF-8.")
    if len(head) == LINE:
        fix = "Write one row a line, and the names of the columns in the first."
        raise DataError(f"the first line has more than {LINE:,} characters", where=table.name, fix=fix)
    text.seek(0)
    return text, "\t" if table.name.lower().endswith(".tsv") else max(",;\t", key=head.count), odd


def _encoding(file: BinaryIO) -> tuple[str, str]:
    """By its first bytes, else by whether more letters are right than wrong as UTF-8."""
    head = file.read(4096)
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, ""
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = head[first::2]
        if len(half) > 3 and half.count(0) > 0.6 * len(half) and not head[1 - first :: 2].count(0):
            return name, ""
    right = wrong = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    while head:
        if not head.isascii():
            text = decoder.decode(head)
            bad = sum("\udc80" <= c <= "\udcff" for c in text)
            right, wrong = right + len(text) - bad - sum(map(str.isascii, text)), wrong + bad
        head = file.read(1 << 20)
    if wrong > right:
        return "cp1252", "not UTF-8: read as Western European (Windows-1252); save it as UTF-8 if names look wrong"
    return "utf-8", ""


def _records(text: TextIO, delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """Line number, cells, and why the line is no row ('' = it is one).  Blank lines are passed over.

    A quote that is never closed costs its own line, not the rest of the file.
    """
    ahead: deque[str] = deque()
    line = 0
    while first := ahead.popleft() if ahead else text.readline(LINE):
        line += 1
        if len(first) == LINE and not first.endswith(("\n", "\r")):
            while (rest := text.readline(LINE)) and not rest.endswith(("\n", "\r")):
                pass
            yield line, [], f"a line of more than {LINE:,} characters"
            continue
        if '"' not in first:
            cells = first.rstrip("\r\n").split(delimiter)
            used = 1
        else:
            cells, used, fault = _quoted(first, delimiter, text, ahead)
            if fault:
                yield line, [], fault
                continue
        if any(c and not c.isspace() for c in cells):
            yield line, [unguard(c) if c[:1] == "'" else c for c in cells], ""
        line += used - 1


def _quoted(first: str, delimiter: str, text: TextIO, ahead: deque[str]) -> tuple[list[str], int, str]:
    """Cells of a row with quotes, over how many lines it runs, and why it is no row; lines it did not need go ahead."""
    lines, quotes, size = [first], first.count('"'), len(first)
    while (
        quotes % 2
        and len(lines) < _WITHIN
        and size < LINE
        and (more := ahead.popleft() if ahead else text.readline(LINE))
    ):
        lines.append(more)
        quotes, size = quotes + more.count('"'), size + len(more)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    cells, used, fault = [], 1, ""
    try:
        cells = next(reader)
        used = reader.line_num
    except csv.Error as error:
        reason = "a quote that is not closed" if "unexpected end" in str(error) else str(error)
        fault = f"not a row of a table: {reason}"
    ahead.extendleft(reversed(lines[used:]))
    return cells, used, fault


# -- Parquet -----------------------------------------------------------------------------------------------------------


def parquet(source: BinaryIO | Path) -> pq.ParquetFile:
    """A Parquet file with bounds on what its footer may ask for; raises what pyarrow raises."""
    return pq.ParquetFile(source, thrift_string_size_limit=_STRINGS, thrift_container_size_limit=1_000_000)


def scalar(kind: pa.DataType) -> bool:
    """Whether a column holds words, numbers or dates, which can be a cell: no lists, structs or bytes."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    words = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(words or numbers or pa.types.is_date(kind))


def cell_of(value: Any) -> str:
    """A value of a scalar column as a cell."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _parquet_rows(
    file: BinaryIO, name: str, wanted: Sequence[int], faults: list[Fault]
) -> Iterator[tuple[int, list[str]]]:
    table = parquet(file)
    schema = table.schema_arrow
    nested = [schema.names[i] for i in wanted if not scalar(schema.field(i).type)]
    faults += [Fault(f"{name}: {n}", "neither words nor numbers: the column is not used") for n in nested]
    columns = [i for i in wanted if schema.names[i] not in nested]
    line = 0
    for batch in table.iter_batches(batch_size=4096, columns=[schema.names[i] for i in columns]):
        values = [batch.column(schema.names[i]).to_pylist() for i in columns]
        for row in zip(*values):
            line += 1
            cells = [""] * len(schema)
            for i, value in zip(columns, row):
                cells[i] = cell_of(value)
            yield line, cells


def _holds_bytes(kind: pa.DataType) -> bool:
    """Such a file holds the images themselves: no table about images elsewhere."""
    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


# -- writing -----------------------------------------------------------------------------------------------------------


def write_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """A CSV file, UTF-8, commas, lines as in RFC 4180, every cell guarded, on the disk when this returns; -> rows."""
    count = 0
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        out = csv.writer(file)
        out.writerow([guard(h) for h in heads])
        for row in rows:
            out.writerow([guard(c) for c in row])
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count
