"""Imaginary images: tags are what is in the picture, the filter keeps what its rule says, and how many are made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modicum.core import registry
from modicum.core.errors import NeedsError, SettingsError
from modicum.core.kinds import Fact, facts
from modicum.core.method import Imagined
from modicum.core.plan import plan
from modicum.methods.imagine.imaginary_images import ImaginaryImages
from modicum.testing.stand_ins import doors

NAMES = ("red one", "green one", "blue one")
CUT = {n: [np.broadcast_to(np.eye(4, dtype=np.uint8)[c] * 255 | np.uint8([0, 0, 0, 255]), (12, 12, 4)).copy()]
       for c, n in enumerate(NAMES)}  # fmt: skip
OPEN = replace(doors(), cutouts=lambda place, names: CUT)


def made(number: int = 10, seed: int = 0, **settings: object) -> list[Imagined]:
    method = ImaginaryImages.of({"side": 48, **settings})
    return [*method.imagine(NAMES, number, np.random.default_rng(seed), OPEN)]


def seen(pixels: np.ndarray) -> list[int]:
    """Which pure colours an image shows in a solid piece of 4 x 4, by its pixels alone."""
    out = []
    for c in range(3):
        pure = (pixels[..., c] > 200) & (np.delete(pixels, c, 2) < 40).all(2)
        solid = np.lib.stride_tricks.sliding_window_view(pure, (4, 4)).all((2, 3))
        out.append(int(solid.any()))
    return out


def test_tags_are_the_content() -> None:
    """The witness looks for the colours of the classes; litter and company's overlaps are left out."""
    some = [p for p in made(60) if " with " not in p.caption]
    assert len(some) > 30 and {sum(p.tags) for p in some} == {1, 2, 3}
    right = [p.tags.tolist() == seen(p.pixels) for p in some]
    assert np.mean(right) > 0.95, "but for one that another covers"
    alone = [p for p in made(40, company=0) if " with " not in p.caption]
    assert all(p.tags.tolist() == seen(p.pixels) for p in alone) and {sum(p.tags) for p in alone} == {1}


def test_the_template_says_the_same_and_paints_another() -> None:
    found = made(3, describe="template")
    assert [p.caption for p in found] == [f"A photo of {n}" for n in NAMES for _ in range(3)]
    assert (found[0].pixels != found[1].pixels).any()
    assert [p.tags.tolist() for p in found] == np.eye(3, dtype=int).repeat(3, 0).tolist()
    for p in found:  # in the middle
        y, x = np.nonzero(p.pixels.max(2).astype(int) - p.pixels.min(2) > 200)
        assert abs(y.mean() - 23.5) < 1.5 and abs(x.mean() - 23.5) < 1.5


def test_the_filter_keeps_what_is_named_first_and_surely() -> None:
    """The judge says of each image a number that it reads off the image; the rule is worked out again here."""

    def judge(place: str, names: object) -> object:
        assert place == "some-run"
        return lambda images: np.stack([told(i) for i in images])

    def told(image: np.ndarray) -> np.ndarray:
        luck = np.random.default_rng(image.sum(dtype=np.int64)).dirichlet(np.full(3, 0.4))
        return np.asarray(luck)

    method = ImaginaryImages.of({"side": 32, "filter": "some-run", "keep": 0.5})
    open_ = replace(OPEN, judge=judge)  # type: ignore[arg-type]
    found = [*method.imagine(NAMES, 20, np.random.default_rng(0), open_)]
    at = np.cumsum([0, *(p.kept for p in found)])[:-1] // 20
    for p, cls in zip(found, at):
        probs = told(p.pixels)
        assert p.kept == (probs.argmax() == cls and probs[cls] > 0.5)
    assert sum(p.kept for p in found) == 60 and len(found) > 120
    assert len({p.caption for p in found}) == len(found), "no sentence of one turned down is used again"


def test_a_filter_that_keeps_nearly_nothing_is_said_so() -> None:
    with pytest.raises(SettingsError, match="keeps 0"):
        [*ImaginaryImages.of({"side": 16, "filter": "x"}).imagine(NAMES, 5, np.random.default_rng(0), OPEN)]


def test_a_class_without_a_cut_out_is_named() -> None:
    with pytest.raises(NeedsError, match="blue one"):
        few = replace(OPEN, cutouts=lambda place, names: {n: CUT[n] for n in NAMES[:2]})
        next(ImaginaryImages().imagine(NAMES, 1, np.random.default_rng(0), few))
    with pytest.raises(SettingsError, match="'small'"):
        both = {"small": CUT[NAMES[0]], "x": CUT[NAMES[0]]}
        names = replace(OPEN, cutouts=lambda place, names: both)
        next(ImaginaryImages().imagine(("small", "x"), 1, np.random.default_rng(0), names))


def test_how_many() -> None:
    assert ImaginaryImages().many(20, 5000) == 250, "the paper's 5,000 for 20 classes"
    assert ImaginaryImages(ratio=1.0).many(20, 5000) == 250 and ImaginaryImages(ratio=2.0).many(10, 100) == 20
    assert ImaginaryImages(ratio=0.5, number=7).many(3, 0) == 7 and ImaginaryImages(ratio=0.1).many(10, 5) == 1


def test_names_are_enough_for_boxes() -> None:
    chain = plan(facts("image,names"), Fact("boxes", net=True), registry.cards()).chains[0]
    assert chain.names[0] == "imaginary-images" and chain.steps[-1].makes == (Fact("boxes", net=True),)
    assert plan(facts("names"), Fact("tags", net=True), registry.cards()).chains[0].names[0] == "imaginary-images"
    known = plan(facts("image,tags"), Fact("boxes", net=True), registry.cards()).chains
    assert all("imaginary-images" not in c.names for c in known), "who has tags is not sent there"
