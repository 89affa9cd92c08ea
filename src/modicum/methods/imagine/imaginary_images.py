"""Imaginary images: a class name becomes a sentence, the sentence a picture, whose label is what the sentence names.

    name -> describer -> sentence -> painter -> picture;    tags: 1 for each class that the sentence names, else 0
    kept, with a filter, where  c = argmax_k p_k  and  p_c > keep           p: of a classifier; c: the class asked for

Describers: `template` (the bare sentence), `grammar` (sizes, places, grounds, company and litter, drawn), or a language
model that goes on from `A photo of NAME`, cut at a full stop, line end or tab; but for the template no sentence is used
twice.  Painters: `composer`, which pastes cut-outs as the sentence says, or a text-to-image model.  Where in a picture
an object lies is not handed on, also where the composer knows: a method for image labels has to find it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from modicum.core.card import Card
from modicum.core.errors import NeedsError, SettingsError
from modicum.core.method import Doors, Imagine, Imagined, Presets
from modicum.core.settings import knob
from modicum.functional import compose, sentences

CARD = Card(
    title="Imaginary images (ImaginaryNet)",
    role="imagine",
    idea="A sentence is made of a class's name and a picture of the sentence, whose label is known for free.",
    needs=("names",),
    makes=("image", "tags:some"),
    year=2023,
    cites=("arXiv:2210.06886",),
    cost=4.0,
    changed="A grammar and pasted cut-outs stand where no generator is at hand, in place of GPT-2 and DALL-E mini or "
    "Stable Diffusion, for which there are doors.  All classes that a sentence names are its label, not only the one "
    "asked for.  The filter is any classifier of the classes, not CLIP, and pictures that it turns down are made up "
    "for by others, of new sentences.  The detector is a step of its own, any that learns from tags.",
)
LEAST = 5  # of 100 painted pictures that a filter must keep
TOGETHER = 16  # pictures that a filter sees at once


@dataclass(frozen=True)
class ImaginaryImages(Imagine):
    """Ni et al., 2023: describer, painter and filter are settings; the detector is the next method of a chain."""

    describe: str = knob("grammar", doc="template, grammar, or a causal language model: its folder, or hub:NAME")
    paint: str = knob("composer", doc="composer, or a text-to-image pipeline: its folder, or hub:NAME")
    cutouts: str = knob("", doc="cut-outs for the composer: a folder for each class, or data with boxes or masks")
    number: int = knob(250, 1, 100_000, doc="images of a class")
    ratio: float = knob(0.0, 0, 1000, doc="imaginary images for each real one, in place of `number`; 0 = `number`")
    company: int = knob(2, 0, 3, doc="other classes that a sentence of the grammar names at most")
    side: int = knob(256, 16, 1024, doc="side of the images", unit="pixels")
    filter: str = knob("", doc="run of a classifier that must agree with the class asked for; '' = none")
    keep: float = knob(0.6, 0, 1, doc="probability of the class above which the filter keeps an image")
    steps: int = knob(50, 1, 1000, doc="steps of a text-to-image pipeline")
    guidance: float = knob(9.0, 0, 100, doc="how closely a text-to-image pipeline keeps to the sentence")

    presets: ClassVar[Presets] = {"paper": {}, "small": {"number": 100, "side": 96}}

    def many(self, classes: int, real: int) -> int:
        return max(1, round(self.ratio * real / classes)) if self.ratio and real else self.number

    def imagine(
        self, names: Sequence[str], number: int, rng: np.random.Generator, doors: Doors
    ) -> Iterator[Imagined]:
        if not names:
            raise NeedsError("there are no names of classes", where="imaginary-images", fix="Name the classes.")
        paint = self._painter(names, rng, doors)
        tell = doors.judge(self.filter, names) if self.filter else None
        for cls in range(len(names)):
            painted = self._painted(cls, names, self._describer(cls, names, rng, doors), paint)
            if tell is None:
                yield from itertools.islice(painted, number)
            else:
                yield from self._filtered(cls, names[cls], painted, tell, number)

    def _describer(self, cls: int, names: Sequence[str], rng: np.random.Generator, doors: Doors) -> Iterator[str]:
        """Sentences about a class, without end where there are enough."""
        name = names[cls]
        if self.describe == "template":
            return itertools.repeat(sentences.template(name))
        if self.describe == "grammar":
            sentences.refuse(names, "--describe grammar")
            return sentences.distinct(lambda: sentences.grammar(cls, names, self.company, rng), f"grammar, {name}")
        write = doors.language(self.describe)
        said = lambda: sentences.went_on(name, write(f"{sentences.START}{name}", 15, _seed(rng)))  # noqa: E731
        return sentences.distinct(said, f"{self.describe}, {name}")

    def _painter(
        self, names: Sequence[str], rng: np.random.Generator, doors: Doors
    ) -> Callable[[str], np.ndarray]:
        """Sentence -> picture, uint8 (S,S,3)."""
        if self.paint != "composer":
            brush = doors.brush(self.paint, self.side, self.steps, self.guidance)
            return lambda sentence: brush(sentence, _seed(rng))
        known = doors.cutouts(self.cutouts, names)
        if lacking := [n for n in names if not len(known.get(n, ()))]:
            fix = "Give a folder with a folder of cut-outs for each class: --via imaginary-images:cutouts=FOLDER, or\n"
            fix += "`modicum imagine ... --cutouts FOLDER`."
            found = f"no cut-out of {', '.join(lacking[:5])}"
            raise NeedsError(found, where=f"cutouts {self.cutouts}".strip(), fix=fix)
        of = [known[n] for n in names]
        return lambda sentence: compose.compose(sentences.read(sentence, names), of, self.side, rng)[0]

    def _painted(
        self, cls: int, names: Sequence[str], said: Iterator[str], paint: Callable[[str], np.ndarray]
    ) -> Iterator[Imagined]:
        for sentence in said:
            tags = sentences.present(sentence, names)
            tags[cls] = 1
            yield Imagined(paint(sentence), tags, sentence)

    def _filtered(
        self, cls: int, name: str, painted: Iterator[Imagined], tell: Callable[[np.ndarray], np.ndarray], number: int
    ) -> Iterator[Imagined]:
        """Pictures, marked by what a classifier says of them, until `number` are kept."""
        seen = kept = 0
        while kept < number:
            some = list(itertools.islice(painted, TOGETHER))
            probs = tell(np.stack([p.pixels for p in some]))
            for picture, p in zip(some, probs, strict=True):
                good = kept < number and p.argmax() == cls and p[cls] > self.keep
                seen, kept = seen + 1, kept + good
                yield picture._replace(kept=bool(good))
                if kept == number:
                    return
            if seen > 100 and kept * 100 < seen * LEAST and kept < number:
                fix = "Lower keep, take a better classifier, or none."
                raise SettingsError(f"of {seen} images of {name!r} it keeps {kept}", where="filter", fix=fix)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
