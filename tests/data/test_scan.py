from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from modicum.core.card import TRAITS
from modicum.core.dataset import Dataset
from modicum.core.tables import ANNOTATIONS, SOURCES, table
from modicum.data.cache import Pixels
from modicum.data.read import read
from modicum.data.scan import scan, traits

Put = Callable[..., Path]
SMALL = np.array([(28, 28)] * 10, [("height", "i4"), ("width", "i4")])


@pytest.fixture
def found(put: Put) -> Path:
    """Equal pixels: cat/1 = cat/2 (one class), cat/3 = dog/1 (two classes), train/x = test/x (two splits)."""
    for name, value in (
        ("train/cat/1", 1),
        ("train/cat/2", 1),
        ("train/cat/3", 3),
        ("train/dog/1", 3),
        ("train/dog/x", 4),
        ("test/dog/x", 4),
    ):
        root = put(name + ".png", value)
    put("train/dog/9.png", 9, size=(8, 30))
    (root / "test/dog/bad.png").write_bytes(b"noise")
    return root


@pytest.mark.parametrize("cached", [False, True])
def test_facts_and_duplicates(found: Path, tmp_path: Path, cached: bool) -> None:
    got = read(found)
    pixels = Pixels.build(got.data, tmp_path / ".cache", side=6) if cached else None
    seen = scan(got.data, pixels, faults=got.faults)
    ids = seen.data.ids
    assert {tuple(ids[g]) for g in seen.duplicates} == {
        ("train/cat/1.png", "train/cat/2.png"), ("train/cat/3.png", "train/dog/1.png"),
        ("test/dog/x.png", "train/dog/x.png"),
    }  # fmt: skip
    assert [tuple(ids[g]) for g in seen.contradicting] == [("train/cat/3.png", "train/dog/1.png")]
    assert [tuple(ids[g]) for g in seen.crossing] == [("test/dog/x.png", "train/dog/x.png")]
    assert seen.looked == 7 and seen.counts == {"cat": 3, "dog": 5} and seen.splits == {"test": 2, "train": 6}
    assert seen.sizes == {
        "height_min": 4,
        "height_median": 4,
        "height_max": 30,
        "width_min": 5,
        "width_median": 5,
        "width_max": 8,
    }
    assert seen.channels == {3: 7} and seen.bits == {8: 7} and seen.unlabelled == 0 and seen.kinds == {"class": 8}
    assert [f.where for f in seen.faults] == ["test/dog/bad.png"]
    assert sorted(seen.data.field("height")[~np.isnan(seen.data.field("height"))]) == [4] * 6 + [30]
    assert seen.data.field("hash")[0] == "" and len(set(seen.data.field("hash"))) == 5
    plain = json.loads(json.dumps(seen.to_dict()))
    assert plain["images"] == 8 and plain["duplicates"]["groups"] == 3 and plain["fault_count"] == 1


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """One photograph in train/a and, saved anew, in test/b, train/b and unlabelled; one in train/a and unlabelled."""
    china, flower = (Image.fromarray(p[:200, :300]) for p in load_sample_images().images)
    for name, image, quality in (
        ("train/a/1.png", china, 0), ("test/b/2.jpg", china, 60), ("train/b/3.jpg", china, 80),
        ("unlabelled/4.jpg", china, 70), ("train/a/5.png", flower, 0), ("unlabelled/6.jpg", flower, 60),
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / name, **({"quality": quality} if quality else {}))
    return tmp_path


@pytest.mark.parametrize("cached", [False, True])
def test_near_duplicates_leaks_and_doubts(film: Path, tmp_path: Path, cached: bool) -> None:
    data = read(film).data
    seen = scan(data, Pixels.build(data, tmp_path / ".cache", side=96) if cached else None)
    ids = seen.data.ids
    assert seen.duplicates == [] and seen.chains == []
    assert [set(ids[g]) for g in seen.near] == [
        {"test/b/2.jpg", "train/a/1.png", "train/b/3.jpg", "unlabelled/4.jpg"}, {"train/a/5.png", "unlabelled/6.jpg"},
    ]  # fmt: skip
    assert seen.crossing == seen.near[:1] and seen.contradicting == seen.near[:1]  # train and unlabelled is no leak
    assert [seen.together[g].tolist() for g in seen.near] == [[0] * 4, [1] * 2]
    lines = seen.lines()
    assert "1 group of one picture in several splits: what is tested was seen in training" in lines
    assert "  test/b/2.jpg (test) = train/a/1.png (train) = train/b/3.jpg (train) = unlabelled/4.jpg (train)" in lines
    assert "  test/b/2.jpg (b) = train/a/1.png (a) = train/b/3.jpg (b) = unlabelled/4.jpg (-)" in lines
    plain = json.loads(json.dumps(seen.to_dict(most=1)))
    assert plain["near"]["groups"] == 2 and len(plain["near"]["first"]) == 1 and plain["likeness"] == 0.8
    assert sorted(plain["crossing"]["splits"][0]) == ["test", "train", "train", "train"]


def test_other_splits_need_no_second_look(film: Path) -> None:
    seen = scan(read(film).data)
    hidden = seen.data.without("class", np.arange(6)).with_images(split=["train"] * 3 + ["val"] * 3)
    again = seen.again(hidden)
    assert again.contradicting == [] and len(again.crossing) == 2 and again.splits == {"train": 3, "val": 3}
    assert again.near == seen.near and again.sizes == seen.sizes
    assert again.drawn(seen) == ["Drew 3 of 6 images for val"]
    apart = seen.again(seen.data.with_images(split=["val" if r in seen.near[0] else "train" for r in range(6)]))
    assert apart.drawn(seen)[1:] == ["The 6 images of 2 groups of one picture each were kept on one side"]


def test_a_sample_looks_at_no_more(found: Path) -> None:
    told: list[tuple[int, int]] = []
    seen = scan(read(found).data, sample=3, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3) and seen.looked + len(seen.faults) == 3


def test_grey_and_its_colour_copy_are_not_equal(tmp_path: Path) -> None:
    grey = Image.new("L", (4, 4), 90)
    grey.save(tmp_path / "a.png")
    grey.convert("RGB").save(tmp_path / "b.png")
    assert scan(read(tmp_path).data).duplicates == []


def test_lines_speak_of_the_kinds_that_there_are(put: Put) -> None:
    for name in ("a.png", "b.png", "c.png"):
        root = put(name)
    (root / "t.csv").write_text("image,annotator,class\na,x,bag\na,y,boot\nb,x,bag\n")
    lines = scan(read(root).data).lines()
    assert "Votes: 2 images" in lines and not any(line.startswith("Labels:") for line in lines)
    (root / "t.csv").write_text("image,class\na,bag\nb,boot\nc,bag\n")
    assert "Labels: bag 2, boot 1" in scan(read(root).data).lines()


# -- traits ------------------------------------------------------------------------------------------------------------


def made(cls: list[int], **more: object) -> Dataset:
    return Dataset.build([f"i{n}" for n in range(len(cls))], ["a", "b"], cls=np.array(cls), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("data, want", [
    (made([0] * 5 + [1] * 5 + [-1] * 50), {"few"}),
    (made([0] * 5 + [1] * 5 + [-1] * 49), set()),
    (made([0] * 100 + [1] * 100 + [-1] * 1000), set()),
    (made([0] * 50 + [1] * 50 + [-1] * 5), {"full"}),
    (made([0] * 50 + [1] * 50 + [-1] * 6), set()),
    (made([0] * 30 + [1] * 3), {"full"}),
    (made([0] * 31 + [1] * 3), {"full", "tail"}),
    (made([-1] * 4), {"none"}),
    (made([0, 1] + [-1] * 10 + [0] * 90, split=["train"] * 12 + ["test"] * 90), {"few"}),
    (made([-1] * 3, columns={"probs": np.array([[0.5, 0.5], [1, 0], [0, 1]], np.float32)}), {"full", "soft"}),
])  # fmt: skip
def test_traits_at_their_borders(data: Dataset, want: set[str]) -> None:
    assert set(traits(data, SMALL, [], [])) - {"tiny"} == want
    assert set(traits(data, SMALL, [], [])) <= set(TRAITS)


def test_numbers_are_short_and_plain() -> None:
    rare = made([0, 1] * 3 + [-1] * 100_000)
    assert traits(rare, SMALL, [], [])["few"].startswith("3 labels a class, 16,667 images without")
    assert ", 49.2 images" in traits(made([0] * 20 + [-1] * 984), SMALL, [], [])["few"]


def test_crowd_needs_two_annotators() -> None:
    data, both = made([-1, -1]), np.array([0, 1])
    for people, want in ((1, False), (2, True)):
        delta = replace(
            data.empty(), classes=data.classes, sources=table(SOURCES, name=["x", "y"], who="annotator"),
            annotations=table(ANNOTATIONS, kind="votes", **{"row": both, "class": both, "source": both * (people - 1)}),
        )  # fmt: skip
        assert ("crowd" in traits(data + delta, SMALL, [], [])) is want


def test_tiny_is_up_to_64_for_nearly_all() -> None:
    facts = np.array([(64, 60)] * 96 + [(900, 900)] * 4, SMALL.dtype)
    assert "tiny" in traits(made([0, 1]), facts, [], [])
    facts["width"][:10] = 65
    assert "tiny" not in traits(made([0, 1]), facts, [], [])


def test_noisy_is_told_by_contradicting_copies() -> None:
    data = made([0, 1] * 20)
    groups = [[2 * i, 2 * i + 1] for i in range(20)]
    assert "noisy" in traits(data, SMALL, groups, groups[:3])
    assert "noisy" not in traits(data, SMALL, groups, groups[:2])
