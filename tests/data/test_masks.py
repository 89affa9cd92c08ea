"""Class maps of annotations, against a plain loop; and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from modicum.core.batch import Labels
from modicum.core.dataset import HUMAN, MODEL, Dataset
from modicum.core.errors import DataError
from modicum.core.tables import LOOKED, table
from modicum.data import masks as module
from modicum.data.feed import Feed
from modicum.data.masks import Painter
from modicum.functional.drafts import png
from modicum.testing.toy import pixels_of

SIZES = ((6, 9), (8, 8), (1, 1), (12, 5), (4, 4), (7, 3))


def bare(sizes: tuple[tuple[int, int], ...] = SIZES) -> Dataset:
    h, w = zip(*sizes)
    return Dataset.build([f"{i}.png" for i in range(len(sizes))], ("a", "b", "c"), height=list(h), width=list(w))


def say(
    data: Dataset, who: str = HUMAN, /, looked: tuple[int, ...] = (), about: object = None, **columns: object
) -> Dataset:  # fmt: skip
    delta = data.delta(source=who, who=who, **{"kind": "masks", **columns})
    seen = table(LOOKED, row=list(looked), kind="masks", complete=1, source=0, **{"class": about})
    return data + replace(delta, looked=seen) if looked else data + delta


def drawn(size: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(size) < 0.5


def test_maps_are_what_a_plain_loop_paints() -> None:
    """Statements in no order of images, by a model and a person, sure and unsure, of a class and of none."""
    luck, data, said = np.random.default_rng(1), bare(), []
    for who, count in ((HUMAN, 8), (MODEL, 12)):
        rows = luck.integers(0, 6, count)
        cls, value, sure = luck.integers(-1, 3, count), luck.integers(0, 2, count), luck.random(count)
        unsure = np.where(luck.random(count) < 0.3, None, sure.astype(np.float32)).tolist()
        held = [drawn(SIZES[r], int(luck.integers(99))) for r in rows]
        data = say(
            data, who, row=rows.tolist(), value=value.astype(float).tolist(), confidence=unsure,
            data=[png(m) for m in held], **{"class": cls.tolist()},
        )  # fmt: skip
        said += list(zip(rows, cls, value, unsure, held, [who] * count))
    data = data + replace(
        data.delta(source="x", who=HUMAN), looked=table(LOOKED, row=[0, 2, 4], kind="masks", complete=1, source=0)
    )
    painter = Painter(data)
    for least in (0.0, 0.4):
        for row, size in enumerate(SIZES):
            expected = np.full(size, 0 if row in (0, 2, 4) else 255)
            for turn in (MODEL, HUMAN):
                for r, c, v, s, mask, who in said:
                    if r == row and who == turn:
                        believed = c >= 0 and v and (s is None or s >= least)
                        expected[mask] = c + 1 if believed else 255
            assert np.array_equal(painter.whole(row, least), expected), (row, least)


def test_a_batch_is_the_nearest_pixel_of_the_stored_image() -> None:
    data = say(bare(), row=[0, 3], data=[png(drawn(SIZES[0], 1)), png(drawn(SIZES[3], 2))], **{"class": [0, 2]})
    painter = Painter(data, 8)
    found = painter.batch(torch.tensor([3, 0, 1]))
    assert found.shape == (3, 8, 8) and found.dtype == torch.uint8
    for got, row in zip(found, (3, 0, 1)):
        whole, (h, w) = painter.whole(row), SIZES[row]
        for y in range(8):
            for x in range(8):
                assert got[y, x] == whole[int((y + 0.5) * h / 8), int((x + 0.5) * w / 8)]


def test_who_never_asks_never_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = say(
        bare(((4, 4),) * 3), row=[0, 1, 1], data=[png(drawn((4, 4), i)) for i in range(3)], **{"class": [0, 1, 2]}
    )
    decoded: list[int] = []
    monkeypatch.setattr(module, "decode", lambda *a, **k: decoded.append(1) or np.zeros((4, 4, 1), np.uint8))
    feed = Feed(data, pixels_of(np.zeros((3, 4, 4, 3), np.uint8)), np.ones(3, bool), views={}, side=4, seed=0)
    labels = feed.labels(torch.arange(3))
    assert not decoded
    first, again = labels.masks(), labels.masks()
    assert len(decoded) == 3 and torch.equal(first, again), "once each, then remembered"
    assert Labels(torch.zeros(1)).masks() is None
    empty = Feed(bare(), pixels_of(np.zeros((6, 4, 4, 3), np.uint8)), np.ones(6, bool), views={}, side=4, seed=0)
    assert empty.labels(torch.arange(2)).masks() is None


def test_instances_serve_where_an_image_has_no_masks() -> None:
    one, two, three = drawn((8, 8), 1), drawn((8, 8), 2), drawn((8, 8), 3)
    data = bare(((8, 8), (8, 8)))
    data = say(data, kind="instances", row=[0, 0, 1], data=[png(m) for m in (one, two, one)], **{"class": [0, 1, 2]})
    data = say(data, row=[1], data=[png(three)], **{"class": [1]})
    painter = Painter(data)
    expected = np.full((8, 8), 255)
    expected[one], expected[two] = 1, 2
    assert np.array_equal(painter.whole(0), expected)
    assert np.array_equal(painter.whole(1), np.where(three, 2, 255)), "the class's mask says all of it"


def test_an_image_that_shows_nothing_is_known_until_its_labels_are_hidden() -> None:
    data = say(bare(), row=[0], data=[png(drawn(SIZES[0], 1))], looked=(1,), **{"class": [0]})
    assert data.rows("masks").tolist() == [0, 1]
    assert not Painter(data).whole(1).any()
    hidden = data.without("masks", np.array([0, 1]))
    assert not len(hidden.rows("masks")) and not Painter(hidden)
    assert (Painter(hidden).whole(1) == 255).all()
    partly = say(bare(), row=[0], data=[png(drawn(SIZES[0], 1))], looked=(1, 1), about=[0, 2], **{"class": [0]})
    assert (Painter(partly).whole(1) == 255).all(), "the second class was not looked for"
    wholly = say(bare(), row=[0], data=[png(drawn(SIZES[0], 1))], looked=(1, 1, 1), about=[0, 2, 1], **{"class": [0]})
    assert not Painter(wholly).whole(1).any()


def one_bit(width: int, height: int, body: bytes = b"", depth: int = 1, colour: int = 0) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("L", (9, 6), 255).save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PNG", jpeg(), png(np.ones((9, 6), bool)), png(np.ones((6, 9), bool))[:40], one_bit(9, 6),
        one_bit(60_000, 60_000), one_bit(2**31 - 1, 1), one_bit(9, 6, b"\0" * 60, depth=8),
        one_bit(9, 6, b"\0" * 60, colour=3), one_bit(0, 0), png(np.ones((6, 9), bool)).replace(b"IDAT", b"XDAT"),
    ],
    ids=[*"abcdefghijkl"],
)  # fmt: skip
def test_a_hostile_mask_names_its_image(content: bytes) -> None:
    data = say(bare(), row=[0], data=[content], **{"class": [0]})
    with pytest.raises(DataError, match=r"0\.png"):
        Painter(data).whole(0)
    assert (Painter(data).whole(1) == 255).all(), "other images stay readable"


def test_an_image_of_unknown_size_has_that_of_its_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dataset.build(["x.png"], ("a",))
    said = say(data, row=[0], data=[png(drawn((5, 7), 1))], **{"class": [0]})
    assert np.array_equal(Painter(said).whole(0), np.where(drawn((5, 7), 1), 1, 255))
    two = say(said, row=[0], data=[png(drawn((7, 5), 1))], **{"class": [0]})
    with pytest.raises(DataError, match=r"x\.png.*5 x 7 and 7 x 5"):
        Painter(two).whole(0)
    monkeypatch.setenv("MODICUM_MAX_PIXELS", "30")
    with pytest.raises(DataError, match="7 x 5"):
        Painter(said).whole(0)


def test_more_classes_than_a_map_holds_are_refused() -> None:
    data = Dataset.build(["x.png"], [str(i) for i in range(255)], height=2, width=2)
    assert not Painter(data), "without masks they may be as many as one likes"
    with pytest.raises(DataError, match="255 classes"):
        Painter(say(data, row=[0], data=[png(np.ones((2, 2), bool))], **{"class": [0]}))
