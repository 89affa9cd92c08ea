"""Laws of methods that make images: as many as were asked for, named by their captions, and the same for one rng."""

from __future__ import annotations

import numpy as np

from modicum.core.errors import ModicumError, NeedsError
from modicum.core.method import Imagined
from modicum.testing import toy
from modicum.testing.case import Case
from modicum.testing.compare import same
from modicum.testing.results import check, demand
from modicum.testing.stand_ins import doors

IMAGINE = ("imagine",)
NUMBER = 4  # images of a class


def made(case: Case, seed: int = 0, number: int = NUMBER) -> list[Imagined]:
    """Images of the toy classes."""
    return [*case.method().imagine(toy.CLASSES, number, np.random.default_rng(seed), doors())]


@check("imagined", IMAGINE, "Tags of another length, floats in place of bytes, or images that a filter turned down.")
def imagined(case: Case) -> None:
    """As many images of each class as were asked for, in order, all of one size, with tags of all classes."""
    found = [p for p in made(case) if p.kept]
    demand(len(found) == NUMBER * len(toy.CLASSES), f"{NUMBER} of {len(toy.CLASSES)} classes give {len(found)}")
    shape = found[0].pixels.shape
    demand(len(shape) == 3 and shape[0] == shape[1] and shape[2] == 3, f"pixels of shape {shape}")
    for i, one in enumerate(found):
        demand(one.pixels.dtype == np.uint8 and one.pixels.shape == shape, f"image {i}: another size or type")
        demand(one.tags.shape == (len(toy.CLASSES),), f"image {i}: tags of shape {one.tags.shape}")
        demand(bool(np.isin(one.tags, (0, 1)).all()), f"image {i}: a tag that is neither 0 nor 1")
        demand(one.tags[i // NUMBER] == 1, f"image {i}: the class that was asked for is no tag of it")


@check("captions", IMAGINE, "Tags come from somewhere else than the sentence that the image was made from.")
def captions(case: Case) -> None:
    """A caption names every class that is tagged, and no other."""
    for one in made(case):
        for name, tag in zip(toy.CLASSES, one.tags.tolist(), strict=True):
            demand((name in one.caption) == bool(tag), f"{one.caption!r} has the tag {tag} for {name}")


@check("imagined by rng", IMAGINE, "A global generator, or a set or dict whose order decides.")
def reproducible(case: Case) -> None:
    """The same generator gives the same images, another one others, and more images begin as fewer do."""
    one, two, other = made(case, 3), made(case, 3), made(case, 4)
    for a, b in zip(one, two, strict=True):
        same(a.pixels, b.pixels, "images of the same generator")
        demand(a.caption == b.caption, "captions of the same generator differ")
    demand(any((a.pixels != b.pixels).any() for a, b in zip(one, other)), "another generator gives the same images")
    more = made(case, 3, NUMBER + 1)[:NUMBER]
    same(np.stack([p.pixels for p in one[:NUMBER]]), np.stack([p.pixels for p in more]), "the first images of more")


@check("how many", IMAGINE, "`many` is 0 for few real images.")
def many(case: Case) -> None:
    """At least one image of each class, whatever number of real ones there is, and never fewer for more of them."""
    counts = [case.method().many(3, real) for real in (1, 10, 100, 1000)]
    demand(min([case.method().many(3, 0), *counts]) >= 1, f"{counts} images of a class")
    demand(counts == sorted(counts), f"more real images, fewer imaginary ones: {counts}")


@check("shut doors", IMAGINE, "A door that does not open is passed over, or shows as another error.")
def shut(case: Case) -> None:
    """Where nothing is behind any door the method refuses in words, or needs none."""

    def closed(*given: object) -> object:
        raise NeedsError("there is nothing behind this door", where="doors", fix="This one is shut for the test.")

    try:
        found = [*case.method().imagine(toy.CLASSES, 1, np.random.default_rng(0), type(doors())(*[closed] * 4))]  # type: ignore[arg-type]
    except ModicumError:
        return
    demand(len(found) == len(toy.CLASSES), f"{len(found)} images")
