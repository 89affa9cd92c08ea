"""Changed copies of real photographs are found, unlike ones are not; the parts against plain loops."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from modicum.data.duplicates import LEAST, STRICT, connected, find, grouped, likeness, members, threshold
from modicum.data.formats.scenes import paint
from modicum.data.hashes import luma, sketch, sketches

Change = Callable[[Image.Image], Image.Image]


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """Eleven unlike parts of two photographs; a twelfth is a bright sky with twigs, too plain for crops."""
    parts = [
        Image.fromarray(p[y : y + 200, x : x + 200])
        for p in load_sample_images().images
        for y in (0, 200)
        for x in (0, 200, 400)
    ]
    return parts[:2] + parts[3:]


def sketched(images: list[Image.Image]) -> np.ndarray:
    return np.stack([sketch(np.atleast_3d(np.asarray(i))) for i in images])


def jpeg(image: Image.Image, quality: int = 60) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def smaller(image: Image.Image) -> Image.Image:
    return image.resize((round(0.7 * image.width), round(0.7 * image.height)), Image.Resampling.BICUBIC)


def brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda v: min(255, 1.1 * v))


def crop(left: float, top: float, right: float, bottom: float) -> Change:
    def cut(image: Image.Image) -> Image.Image:
        return image.crop(
            (
                round(left * image.width),
                round(top * image.height),
                round(right * image.width),
                round(bottom * image.height),
            )
        )

    return cut


CHANGES: dict[str, Change] = {
    "jpeg": jpeg, "smaller": smaller, "brighter": brighter, "grey": lambda i: i.convert("L"),
    "mirror": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "squeezed": lambda i: i.resize((200, 120)),
    "corner": crop(0, 0, 0.95, 0.95), "other corner": crop(0.05, 0, 1, 0.95), "one side": crop(0.05, 0, 1, 1),
    "middle": crop(0.025, 0.025, 0.975, 0.975),
    "all": lambda i: jpeg(smaller(brighter(crop(0.01, 0.03, 0.97, 0.99)(i)))),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_changed_copies_are_found_and_nothing_else(photographs: list[Image.Image], name: str) -> None:
    count = len(photographs)
    near = find(sketched([*photographs, *map(CHANGES[name], photographs)]))
    assert near.threshold == LEAST and not near.chains
    assert near.group.tolist() == [*range(count)] * 2
    assert sorted(map(tuple, near.pairs.tolist())) == [(k, k + count) for k in range(count)]
    assert (near.likeness >= LEAST).all()


def test_unlike_photographs_are_none(photographs: list[Image.Image]) -> None:
    near = find(sketched(photographs))
    assert (near.group == -1).all() and not len(near.pairs)
    grey = luma(sketched(photographs))
    a, b = np.triu_indices(len(photographs), 1)
    assert likeness(grey[a], grey[b]).max() < 0.5


def test_another_colour_is_another_image(photographs: list[Image.Image]) -> None:
    red, blue = (np.asarray(photographs[0]).copy() for _ in range(2))
    red[..., 0], blue[..., 2] = np.maximum(red[..., 0], 200), np.maximum(blue[..., 2], 200)
    found = sketched([*photographs[1:], *map(Image.fromarray, (red, blue, red))])
    assert members(find(found).group) == [[10, 12]]
    assert likeness(luma(found[10:11]), luma(found[11:12]))[0] > LEAST


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(23)))
def test_the_order_of_rows_changes_nothing(photographs: list[Image.Image], order: list[int]) -> None:
    found = sketched([*photographs, *map(CHANGES["corner"], photographs[:6]), *photographs[:6]])
    before = {frozenset(g) for g in members(find(found).group)}
    after = {frozenset(order[r] for r in g) for g in members(find(found[order]).group)}
    assert before == after and len(before) == 6


def test_copies_of_copies_are_one_group(photographs: list[Image.Image]) -> None:
    chain = [p for i in photographs[:6] for p in (i, jpeg(i), smaller(jpeg(i)), crop(0, 0.03, 0.97, 1)(i))]
    order = np.random.default_rng(0).permutation(24)
    group = find(sketched(chain)[order]).group
    assert sorted(sorted(order[g]) for g in members(group)) == [list(range(k, k + 4)) for k in range(0, 24, 4)]


def test_empty_and_unreadable_images_are_none() -> None:
    black, noise = np.zeros((3, 1152), np.uint8), np.full((2, 1152), 128, np.uint8)
    noise[:, 0] += 1
    assert (find(np.concatenate([black, noise])).group == -1).all()
    assert find(np.zeros((0, 1152), np.uint8)).group.tolist() == []


def test_what_all_images_share_says_nothing(photographs: list[Image.Image]) -> None:
    y, x = np.mgrid[:200, :200]
    field = ((y - 99.5) ** 2 + (x - 99.5) ** 2 < 90**2)[..., None]
    parts = [
        Image.fromarray(np.roll(np.asarray(i), (40 * k, 70 * k), (0, 1)) * field.astype(np.uint8))
        for i in photographs
        for k in range(3)
    ]
    near = find(sketched([*parts, *map(jpeg, parts)]))
    assert near.group.tolist() == [*range(len(parts))] * 2


def test_where_all_look_alike_only_near_identical_pixels_count() -> None:
    digits = (load_digits().images * 15.9).astype(np.uint8)[..., None]
    noisy = np.clip(
        digits[:100].astype(int) + np.random.default_rng(0).integers(-1, 2, digits[:100].shape), 0, 255
    ).astype(np.uint8)
    found = sketches(np.concatenate([digits, noisy]))
    assert threshold(found)[1] > STRICT
    near = find(found)
    copied = near.group[:100] >= 0
    assert copied.mean() > 0.95 and (near.group[:100] == near.group[1797:])[copied].all()
    assert (near.group[100:1797] >= 0).mean() < 0.02


def test_one_thing_on_an_even_ground_is_a_duplicate_only_where_the_ground_is_the_same() -> None:
    images = [paint("plain", number) for number in (534, 891, 801, 1008)]  # a 1 and a 1, a 0 and a 0, at like places
    a, b = luma(sketched(images[::2])), luma(sketched(images[1::2]))
    assert (likeness(a, b, threshold(sketched(images))[0]) > LEAST).all(), "the details alone would say so"
    near = find(sketched([*images, *(crop(0, 0, 0.95, 0.95)(Image.fromarray(i)) for i in images)]))
    assert near.group.tolist() == [0, 1, 2, 3] * 2, "each has its own cut copy alone"


def test_scenes_of_digits_are_no_duplicates() -> None:
    pixels = [paint(("plain", "texture", "clutter")[i % 3], i) for i in range(600)]
    assert (find(sketched(pixels)).group < 0).all()


def test_a_long_chain_is_told_and_not_held_together() -> None:
    wide, other = load_sample_images().images
    film = [Image.fromarray(wide[:300, x : x + 300]) for x in range(0, 240, 10)]
    others = [Image.fromarray(other[y : y + 60, x : x + 60]) for y in range(0, 420, 60) for x in range(0, 600, 60)]
    near = find(sketched([*film, *others, film[0]]))
    assert [c.tolist() for c in near.chains] == [[*range(24), 24 + len(others)]]
    assert members(near.group) == [[0, 24 + len(others)]]


PAIRS = st.integers(1, 30).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
)


@given(PAIRS)
def test_connected_against_a_plain_search(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = case
    label = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
    found = np.array(pairs, np.int64).reshape(-1, 2)
    assert connected(count, found).tolist() == label
    groups = [[r for r in range(count) if label[r] == k] for k in sorted(set(label)) if label.count(k) > 1]
    assert members(grouped(count, found)) == groups


def test_a_path_of_thousands_is_connected() -> None:
    order = np.random.default_rng(0).permutation(20_000)
    assert (connected(20_000, np.stack([order[:-1], order[1:]], 1)) == 0).all()


# -- the bars, on sets that the numbers were not chosen on -------------------------------------------------------------


def test_flowers(shared_data: Path) -> None:
    table = pq.read_table(shared_data / "flowers17" / "flowers17.parquet")
    given_ = table["dup_group"].to_numpy()
    images = [Image.open(io.BytesIO(r["bytes"])).convert("RGB") for r in table["image"].to_pylist()]
    known = {tuple(np.flatnonzero(given_ == g)) for g in np.unique(given_) if (given_ == g).sum() == 2}
    found = {(a, b) for g in members(find(sketched(images)).group) for a in g for b in g if a < b}
    assert len(known) == 68 and len(known & found) >= 66
    # Six more are photographs that are there twice, cut, framed, signed or mirrored (looked at one by one).
    assert len(found - known) <= 6


def test_fashion(shared_data: Path) -> None:
    file = shared_data / "fashion-mnist" / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    images = np.frombuffer(gzip.decompress(file.read_bytes())[16:], np.uint8).reshape(-1, 28, 28, 1)
    near = find(np.concatenate([sketches(images[k : k + 1000]) for k in range(0, len(images), 1000)]))
    assert near.threshold > STRICT and (near.group >= 0).mean() < 0.01
