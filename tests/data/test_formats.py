from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import format_of, formats, ordered
from modicum.data.read import pixels, read
from modicum.data.samples import sample

DRAWN = ("scenes", "masks", "coco", "voc", "yolo")
RNG = np.random.default_rng(0)


def zipped(content: bytes) -> bytes:
    """Without a time stamp: parametrised tests must have the same name in every process."""
    return gzip.compress(content, mtime=0)


def test_the_registry_is_the_folder() -> None:
    import modicum.data.formats as folder

    files = sorted(p.name for p in Path(next(iter(folder.__path__))).glob("[!_]*.py"))
    assert len(formats()) == len(files) == 11
    assert set(formats()) == {"folders", "table", "parquet", "idx", "digits", "archive", *DRAWN}
    with pytest.raises(DataError, match="no format 'none'"):
        format_of(Dataset.build(["x"], reader="none"))


def test_reading_and_decoding_need_no_torch() -> None:
    code = (
        "import sys, modicum.data.read, modicum.data.cache, modicum.data.scan, modicum.data.split, modicum.data.vault;"
        "modicum.data.formats.formats(); sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ordered() -> None:
    assert ordered(["b", "a", "b"]) == ["a", "b"] and ordered(["10", "9"]) == ["9", "10"] and ordered([]) == []
    assert ordered(["10", "9", "x"]) == ["10", "9", "x"]


# -- digits ------------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    from sklearn.datasets import load_digits

    data, truth = sample("digits"), load_digits()
    assert len(data) == 1797 and data.names == tuple("0123456789") and data.field("split")[0] == ""
    np.testing.assert_array_equal(data.cls, truth.target)
    np.testing.assert_allclose(pixels(data, 7)[..., 0] / 255 * 16, truth.images[7], atol=0.04)
    some = data.take(np.array([5, 3]))
    block = format_of(some).all_pixels(some)
    assert block is not None and block.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(block[0], pixels(data, 5))
    assert block.dtype == np.uint8


# -- IDX ---------------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return (0x0800 + array.ndim).to_bytes(4, "big") + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three train images unpacked, two test images packed."""
    folder = tmp_path / "KMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", 3), ("t10k", 2)):
        for kind, array in (
            ("images-idx3", RNG.integers(0, 256, (n, 4, 5), np.uint8)),
            ("labels-idx1", np.arange(n, dtype=np.uint8)),
        ):
            name, body = f"{part}-{kind}-ubyte", idx(array)
            (folder / (name if n == 3 else name + ".gz")).write_bytes(body if n == 3 else zipped(body))
    return folder


def test_idx(raw: Path, tmp_path: Path) -> None:
    for place in (tmp_path, raw.parent, raw):
        data = read(place).data
        assert data.reader == "idx" and data.names[1] == "ki" and data.cls.tolist() == [0, 1, 2, 0, 1]
        assert data.field("split").tolist() == ["train"] * 3 + ["test"] * 2
    body = (raw / "train-images-idx3-ubyte").read_bytes()[16:]
    np.testing.assert_array_equal(pixels(data, 2), np.frombuffer(body, np.uint8).reshape(3, 4, 5, 1)[2])
    some = data.take(np.array([4, 0]))
    block = format_of(some).all_pixels(some)
    assert block is not None
    np.testing.assert_array_equal(block, np.stack([pixels(data, 4), pixels(data, 0)]))


@pytest.mark.parametrize("name, body, says", [
    ("train-images-idx3-ubyte", b"", "not an IDX file"),
    ("train-images-idx3-ubyte", idx(np.zeros((3, 4, 5), np.uint8))[:-1], "cut short: 59 of 60"),
    ("train-images-idx3-ubyte", (0x0803).to_bytes(4, "big") + np.array([3, 2**31, 2**31], ">u4").tobytes(), "claims"),
    ("t10k-images-idx3-ubyte.gz", zipped(idx(np.zeros((2, 4, 5), np.uint8)))[:-12], "cannot be unpacked"),
])  # fmt: skip
def test_damaged_idx_images(raw: Path, name: str, body: bytes, says: str) -> None:
    data = read(raw).data
    (raw / name).write_bytes(body)
    with pytest.raises(DataError, match=says):
        pixels(data, 0 if "train" in name else 4)


@pytest.mark.parametrize("name, body, says", [
    ("train-labels-idx1-ubyte", b"\0\0\x08\x01\x7f\xff\xff\xff", "claims 2,147,483,647 bytes in a file of 8"),
    ("train-labels-idx1-ubyte", idx(np.zeros(2, np.uint8)) + b"x", "longer than its header says"),
    ("train-labels-idx1-ubyte", idx(np.zeros((3, 1), np.uint8)), "not an IDX file of bytes"),
    ("train-images-idx3-ubyte", b"\0\0\x08\x03", "not an IDX file of bytes"),
    ("train-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x02" + b"\0\0\0\x05" * 2, "2 images and 3 labels"),
])  # fmt: skip
def test_idx_headers_that_lie(raw: Path, name: str, body: bytes, says: str) -> None:
    (raw / name).write_bytes(body)
    found = read(raw)
    assert len(found.data) == 2 and says in found.faults[0].reason
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=says):
        read(raw)


def test_idx_bombs(raw: Path) -> None:
    """Fifty megabytes of zeros in fifty kilobytes, as images and as labels."""
    data = read(raw).data
    bomb = zipped((0x0803).to_bytes(4, "big") + np.array([2, 5000, 5000], ">u4").tobytes() + bytes(50_000_000))
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(bomb)
    with pytest.raises(DataError, match=r"claims 50,000,000 bytes in a file of"):
        pixels(data, 4)
    (raw / "t10k-labels-idx1-ubyte.gz").write_bytes(zipped(idx(np.zeros(50_000_000, np.uint8))))
    assert "claims" in read(raw).faults[0].reason


def test_one_part_alone_is_no_fault(raw: Path) -> None:
    for file in raw.glob("t10k*"):
        file.unlink()
    found = read(raw)
    assert not found.faults and len(found.data) == 3


@pytest.mark.parametrize("text, names, fault", [
    ("a\nb\n\nc\n", ("a", "b", "c"), ""), ("\ufeffa\r\nb\r\nc\r\nd", ("a", "b", "c", "d"), ""),
    ("a\nb\n", ("o", "ki", "su"), "2 names for 3 classes"), ("a\na\nb", ("o", "ki", "su"), "a name stands twice"),
    ("a\n\x1b[2J\nc", ("o", "ki", "su"), "control character"), (b"\xff\n", ("o", "ki", "su"), "not used"),
])  # fmt: skip
def test_class_names_beside_idx_files(raw: Path, text: str | bytes, names: tuple[str, ...], fault: str) -> None:
    (raw / "classes.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    found = read(raw)
    assert found.data.names[:3] == names[:3] and (fault in found.faults[0].reason if fault else not found.faults)


def test_damaged_idx_labels_lose_one_part(raw: Path) -> None:
    (raw / "t10k-labels-idx1-ubyte.gz").write_bytes(zipped(idx(np.zeros(7, np.uint8))))
    found = read(raw)
    assert len(found.data) == 3 and "2 images and 7 labels" in found.faults[0].reason


# -- Parquet -----------------------------------------------------------------------------------------------------------


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (3, 2), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def hub(names: list[str]) -> dict[bytes, bytes]:
    return {b"huggingface": json.dumps({"info": {"features": {"label": {"names": names}}}}).encode()}


def test_parquet_with_names_and_splits_from_file_names(tmp_path: Path) -> None:
    cells = pa.array([{"bytes": png(i), "path": None} for i in range(6)])
    labels = pa.array([1, 0, None, -1, 9, 1])
    table = pa.table({"image": cells, "label": labels}).replace_schema_metadata(hub(["cat", "dog"]))
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet", row_group_size=4)
    pq.write_table(table.slice(0, 1), tmp_path / "validation-00000.parquet")
    found = read(tmp_path)
    assert found.data.reader == "parquet" and found.data.names == ("cat", "dog")
    assert found.data.cls.tolist() == [1, 0, -1, -1, -1, 1, 1]
    assert found.data.field("split").tolist() == ["train"] * 6 + ["val"]
    assert [(f.where, f.reason) for f in found.faults] == [
        ("train-00000-of-00001.parquet#4", "label 9, but there are 2 classes")
    ]
    assert [int(pixels(found.data, r)[0, 0, 0]) for r in range(7)] == [0, 1, 2, 3, 4, 5, 0]
    assert pixels(found.data.take(np.array([5])), 0)[0, 0, 0] == 5


def test_parquet_of_binaries_with_words(tmp_path: Path) -> None:
    table = pa.table({
        "img": pa.array([png(0), None, b"noise", png(3)]), "label": ["b", "b", "a", ""],
        "split": ["train", "train", "", "Test"], "group": [7, 8, 9, None],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet")
    data = found.data
    assert data.ids.tolist() == ["x.parquet#0", "x.parquet#2", "x.parquet#3"] and data.names == ("a", "b")
    assert data.cls.tolist() == [1, 0, -1] and data.field("split").tolist() == ["train", "", "test"]
    assert data.field("group").tolist() == ["7", "9", ""] and found.faults[0].where == "x.parquet#1"
    with pytest.raises(DataError, match=r"x\.parquet#2"):
        pixels(data, 1)


def test_numbers_without_names_and_broken_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(0), png(1)], "label": [0, 1]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 noise")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "c.parquet")
    found = read(tmp_path)
    assert found.data.names == ("0", "1") and [f.where for f in found.faults] == ["b.parquet", "c.parquet"]
    gone = found.data
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        pixels(gone, 0)


def test_columns_that_cannot_be_believed(tmp_path: Path) -> None:
    columns = {
        "image": [png(i) for i in range(4)], "label": [0.0, float("nan"), float("inf"), 1.5], "split": [["a"]] * 4,
        "group": [1.0, float("nan"), None, 2.0], "domain": ["ok", "a\x1b[2J", "b" * 999, "<b>"],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    found = read(tmp_path)
    data = found.data
    assert data.cls.tolist() == [0, -1, -1, -1] and data.field("group").tolist() == ["1.0", "", "", "2.0"]
    assert data.field("domain").tolist() == ["ok", "", "", "<b>"]
    assert [(f.where, f.reason.split(":")[0]) for f in found.faults] == [
        ("x.parquet: split", "neither words nor numbers"), ("x.parquet#1", "domain 'a\\x1b[2J'"),
        ("x.parquet#2", f"domain '{'b' * 80}'"), ("x.parquet#2", "label inf, but there are 1 classes"),
        ("x.parquet#3", "label 1.5, but there are 1 classes"),
    ]  # fmt: skip


def test_huge_and_negative_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(0)] * 3, "label": [0, 2**62, -7]}), tmp_path / "x.parquet")
    found = read(tmp_path)
    assert found.data.cls.tolist() == [0, -1, -1] and found.data.names == ("0",) and len(found.faults) == 2


def test_files_that_list_their_classes_in_another_order(tmp_path: Path) -> None:
    for name, listed in (("a", ["cat", "dog"]), ("b", ["dog", "cat", "owl"])):
        table = pa.table({"image": [png(0)], "label": [0]}).replace_schema_metadata(hub(listed))
        pq.write_table(table, tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"image": [png(0)], "label": ["owl"]}), tmp_path / "c.parquet")
    data = read(tmp_path).data
    assert data.names == ("cat", "dog", "owl") and data.cls.tolist() == [0, 1, 2]


def test_ids_of_our_own_files_and_their_clashes(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        table = pa.table({"id": ["x", f"only {name}"], "image": [png(value), png(value + 5)], "label": [0, 1]})
        pq.write_table(table.replace_schema_metadata({b"modicum": b"{}"}), tmp_path / f"{name}.parquet")
    found = read(tmp_path)
    assert found.data.ids.tolist() == ["x", "only a", "only b"]
    assert [(f.where, f.reason) for f in found.faults] == [("x", "two images are called so: the second is not used")]
    assert [int(pixels(found.data, r)[0, 0, 0]) for r in range(3)] == [1, 6, 7]
    alone = read(tmp_path / "b.parquet").data
    assert [int(pixels(alone, r)[0, 0, 0]) for r in range(2)] == [2, 7]


def test_parquet_that_claims_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": [png(0)] * 3}), tmp_path / "x.parquet")
    import modicum.data.formats.parquet_images as room

    data = read(tmp_path).data
    monkeypatch.setattr(room, "_LARGEST", 50)
    room._group.cache_clear()
    with pytest.raises(DataError, match=r"a row group of .* bytes; at most 50 are read at once"):
        pixels(data, 0)
    room._group.cache_clear()


# -- real sets ---------------------------------------------------------------------------------------------------------


def test_fashion_mnist(shared_data: Path) -> None:
    data = read(shared_data / "fashion-mnist").data
    assert len(data) == 70_000 and data.names[9] == "Ankle boot" and set(data.counts()) == {7000}
    assert len(data.rows("split:test")) == 10_000 and data.names[data.cls[0]] == "Ankle boot"
    assert pixels(data, 60_000).shape == (28, 28, 1)


def test_cifar_and_flowers_and_usps(shared_data: Path) -> None:
    data = read(shared_data / "cifar10").data
    assert len(data) == 60_000 and data.names[3] == "cat" and set(data.counts()) == {6000}
    assert len(data.rows("split:test")) == 10_000 and pixels(data, 59_999).shape == (32, 32, 3)
    data = read(shared_data / "flowers17").data
    assert (
        set(data.counts()) == {80} and data.names[2] == "lily of the valley" and len(data.rows("split:train")) == 1087
    )
    data = read(shared_data / "digits").data
    assert data.reader == "parquet" and len(data) == 9298 and len(data.rows("split:train")) == 7291
