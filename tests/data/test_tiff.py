from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.errors import DataError
from modicum.data.images import decode
from modicum.data.looks import look
from modicum.data.read import pixels, read
from modicum.data.stream import content
from modicum.data.tiff import page_of, pages

RNG = np.random.default_rng(0)
STACK = [RNG.integers(0, 65536, (5, 7 + n)).astype(np.uint16) for n in range(12)]


def stack(path: Path, arrays: list[np.ndarray], **options: object) -> Path:
    first, *rest = (Image.fromarray(a) for a in arrays)
    first.save(path, save_all=True, append_images=rest, **options)
    return path


def directories(order: str, big: bool, kinds: list[int], loop: bool = False) -> bytes:
    """A TIFF from its specification: one 1 x 1 page of grey 10, 11, ... each, of the given NewSubfileType."""
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    count, word = ("Q", "Q") if big else ("H", "I")
    size = struct.calcsize(count) + 8 * (20 if big else 12) + struct.calcsize(word) + 1
    out = head
    for n, kind in enumerate(kinds):
        start = len(head) + n * size
        tags = {254: kind, 256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: start + size - 1, 279: 1}
        values = [struct.pack(order + "I", v).ljust(8 if big else 4, b"\0") for v in tags.values()]
        body = b"".join(struct.pack(order + f"HH{word}", t, 4, 1) + v for t, v in zip(tags, values))
        last = n == len(kinds) - 1
        following = (len(head) if loop else 0) if last else start + size
        out += struct.pack(order + count, len(tags)) + body + struct.pack(order + word, following) + bytes([10 + n])
    return out


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"big_tiff": True}])
def test_every_page_is_an_image(tmp_path: Path, options: dict[str, object]) -> None:
    (tmp_path / "cat").mkdir()
    stack(tmp_path / "cat" / "stack.tif", STACK, **options)
    stack(tmp_path / "cat" / "one.tiff", STACK[:1], **options)
    Image.fromarray(STACK[0]).save(tmp_path / "x.png")
    data = read(tmp_path).data
    want = ["cat/one.tiff", *(f"cat/stack.tif#{n}" for n in range(12)), "x.png"]
    assert data.ids.tolist() == want
    for row, array in enumerate([STACK[0], *STACK, STACK[0]]):
        np.testing.assert_array_equal(pixels(data, row)[..., 0], array)
    seen = look(data)
    assert not seen.faults and seen.facts["width"].tolist() == [7, *range(7, 19), 7]
    assert seen.facts["hash"][1].decode() == content(STACK[0][..., None])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_both_byte_orders_and_both_sizes(tmp_path: Path, order: str, big: bool) -> None:
    (tmp_path / "a.tif").write_bytes(directories(order, big, [0, 0, 0]))
    assert list(pages(tmp_path / "a.tif")) == [0, 1, 2]
    if big and order == ">":  # which Pillow does not read
        with pytest.raises(DataError, match=r"not a readable .* but a BigTIFF of the other byte order"):
            decode(tmp_path / "a.tif#0")
    else:
        assert [decode(f"{tmp_path}/a.tif#{n}").item() for n in range(3)] == [10, 11, 12]


def test_smaller_copies_and_masks_are_no_images(tmp_path: Path) -> None:
    for kinds, want in (([0, 1, 1], [0]), ([0, 1, 0, 4, 2], [0, 2, 4]), ([1, 1], [0])):
        (tmp_path / "a.tif").write_bytes(directories("<", False, kinds))
        assert list(pages(tmp_path / "a.tif")) == want
        ids = [f"a.tif#{n}" for n in want] if len(want) > 1 else ["a.tif"]
        assert read(tmp_path).data.ids.tolist() == ids


def test_a_chain_that_bites_its_tail_ends(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(directories("<", False, [0, 0], loop=True))
    assert list(pages(tmp_path / "a.tif")) == [0, 1]


@pytest.mark.parametrize("big", [False, True])
def test_cut_anywhere_it_gives_the_pages_that_are_whole(tmp_path: Path, big: bool) -> None:
    whole = directories("<", big, [0, 0, 0])
    (tmp_path / "a.tif").write_bytes(whole)
    ends = [at + (len(whole) - (16 if big else 8)) // 3 - 1 for at in pages(tmp_path / "a.tif").values()]
    for size in range(len(whole)):
        (tmp_path / "a.tif").write_bytes(whole[:size])
        assert len(pages(tmp_path / "a.tif")) == sum(end <= size for end in ends)


def test_a_page_that_is_not_there_any_more(tmp_path: Path) -> None:
    stack(tmp_path / "a.tif", STACK[:2])
    with pytest.raises(DataError, match=r"a\.tif#2: the file has no page 2: scan the folder again"):
        decode(tmp_path / "a.tif#2")
    with pytest.raises(DataError, match="no such file"):
        decode(tmp_path / "b.tif#0")


def test_names_of_pages() -> None:
    assert page_of("a/b.tif#12") == ("a/b.tif", 12) and page_of("b.TIFF#0") == ("b.TIFF", 0)
    for name in ("b.tif", "b.tif#", "b.tif#x", "b.png#1", "x.parquet#3", "#1", "b.tif#1.png", "b.tif#-1", "b.tif#²"):
        assert page_of(name) == (name, -1)
