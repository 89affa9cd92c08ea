from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modicum.core.errors import DataError
from modicum.data.hashes import sketch
from modicum.data.read import pixels, read
from modicum.data.samples import sample
from modicum.data.stream import Part, content, content_of, stream

Put = Callable[..., Path]
RNG = np.random.default_rng(0)


def whole(parts: list[Part]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.concatenate([getattr(p, n) for p in parts]) for n in ("rows", "facts", "sketches"))  # type: ignore[return-value]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("side", [None, 0, 7])
def test_all_that_is_said_is_true_in_order_and_whatever_the_threads(put: Put, threads: int, side: int | None) -> None:
    """Small and large images in turns, so that parts are done here and by threads; witness: one image at a time."""
    for i in range(60):
        root = put(f"{i:03d}.png", i, size=(130 + i, 140) if i // 15 % 2 else (9 + i, 8))
    for i in (3, 20, 59):
        (root / f"{i:03d}.png").write_bytes(b"noise")
    data, order = read(root).data, RNG.permutation(60)
    told: list[tuple[int, int]] = []
    parts = list(stream(data, order, side, threads, lambda done, total: told.append((done, total))))
    rows, facts, sketches = whole(parts)
    assert rows.tolist() == order.tolist() and told[-1] == (60, 60) and sorted(told) == told
    assert {f.where for p in parts for f in p.faults} == {"003.png", "020.png", "059.png"}
    small = [a for p in parts for a in p.pixels]
    for at, row in enumerate(order.tolist()):
        if row in (3, 20, 59):
            assert facts[at] == np.zeros((), facts.dtype) and not sketches[at].any() and small[at] is None
            continue
        array = pixels(data, row)
        assert facts[at].tolist()[:4] == (*array.shape, 8)
        assert facts[at]["hash"].decode() == hashlib.blake2b(
            (root / data.ids[row]).read_bytes(), digest_size=16
        ).hexdigest() == content_of(data, row)  # fmt: skip
        np.testing.assert_array_equal(sketches[at], sketch(array))
        kept = small[at]
        assert (kept is None) == (side is None)
        if kept is not None:
            assert min(kept.shape[:2]) == (min(array.shape[:2]) if side == 0 else min(7, *array.shape[:2]))


def test_a_reduced_jpeg_says_the_same_of_the_whole(put: Put) -> None:
    root = put("a.png")
    smooth = Image.fromarray(RNG.integers(0, 256, (12, 16, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    for name, image in (("b.jpg", smooth), ("c.jpg", smooth.convert("L")), ("d.jpg", smooth.convert("CMYK"))):
        image.save(root / name, quality=90)
    data = read(root).data
    (_, quick, sketches), (_, slow, exact) = (whole(list(stream(data, range(4), side))) for side in (None, 0))
    assert quick.tolist() == slow.tolist() and quick["channels"].tolist() == [3, 3, 1, 3]
    assert np.abs(sketches.astype(int) - exact).mean(1).max() < 2


def test_content_is_of_bytes_where_there_are_some_else_of_pixels(tmp_path: Path) -> None:
    cells, arrays = [], [RNG.integers(0, 256, (5, 4), np.uint8) for _ in range(3)]
    for array in arrays:
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG")
        cells.append(file.getvalue())
    pq.write_table(pa.table({"image": [{"bytes": c, "path": ""} for c in cells]}), tmp_path / "a.parquet")
    _, facts, _ = whole(list(stream(read(tmp_path).data, range(3))))
    assert facts["hash"].astype(str).tolist() == [content(c) for c in cells]
    digits = sample("digits")
    _, facts, sketches = whole(list(stream(digits, range(100))))
    assert facts["hash"][7].decode() == content(pixels(digits, 7)) == content_of(digits, 7) != content(cells[0])
    np.testing.assert_array_equal(sketches[7], sketch(pixels(digits, 7)))


def test_content_tells_shape_and_type_apart() -> None:
    values = np.arange(12, dtype=np.uint8)
    other = (values.reshape(3, 4, 1), values.reshape(4, 3, 1), values.reshape(2, 2, 3), values.view(np.uint16))
    assert len({content(o) for o in other}) == 4 and content(other[0]) == content(np.asfortranarray(other[0]))


def test_strict_stops_before_the_images_behind_the_fault(put: Put) -> None:
    for i in range(300):
        root = put(f"{i:03d}.png", i)
    (root / "100.png").write_bytes(b"")
    seen = 0
    with pytest.raises(DataError, match=r"100\.png: the file is empty.*\n.*leave out --strict"):
        for part in stream(read(root).data, range(300), strict=True):
            seen += len(part.rows)
    assert 0 < seen <= 100


def test_nothing_asked_for_is_nothing(put: Put) -> None:
    assert list(stream(read(put("a.png")).data, [])) == []
