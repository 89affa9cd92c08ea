"""The closed table of label kinds, and facts: the words in which cards and the planner speak.

A fact is `kind[:some][@scope][~]`, or `net:kind[.part]` for a network that predicts the kind.
Default: known for all images, given by people, about the target classes.
`:some` = known for some images only; `@other` = other classes, `@source` = another domain,
`@old` = earlier sessions; `~` = made by a model.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

from modicum.core.errors import SettingsError, did_you_mean

UNKNOWN = 255  # in a class map: nobody says what the pixel is


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of knowledge about an image.

    packed: how a batch carries it (B images, C classes, V votes, M boxes).  stored: where a Dataset keeps it.
    seconds: what one image (or one class, where said) costs a person.  gives: kinds that follow from it for free.
    """

    name: str
    packed: str
    stored: str
    seconds: float
    meaning: str
    gives: tuple[str, ...] = ()


_TABLE = (
    Kind("image", "uint8 or uint16 (B,c,H,W)", "pixel cache", 0.0, "the pictures themselves"),
    Kind("names", "class list", "classes", 1.0, "the names of the classes, no image labelled"),
    Kind("text", "strings (B,)", "rows", 20.0, "a caption"),
    Kind("class", "int64 (B,), -1 unknown", "rows", 2.0, "exactly one class", gives=("tags", "names")),
    Kind(
        "tags", "int8 (B,C): 1 present, 0 absent, -1 unknown", "rows + looked", 2.0, "classes present", gives=("names",)
    ),
    Kind("probs", "float32 (B,C), rows of NaN unknown", "block", 4.0, "a probability for each class", gives=("names",)),
    Kind("candidates", "bool (B,C)", "rows", 3.0, "a set of classes, one of which is true", gives=("names",)),
    Kind(
        "votes",
        "annotator, class, image (V,)",
        "rows",
        2.0,
        "one class from each of several annotators",
        gives=("names",),
    ),
    Kind("points", "float32 (M,2), class, image", "rows", 3.0, "a point on each object", gives=("tags",)),
    Kind("scribbles", "uint8 (B,H,W), 255 unknown", "bytes", 10.0, "a stroke on each object", gives=("tags",)),
    Kind(
        "boxes",
        "float32 (M,4) xyxy, class, state, image",
        "rows",
        15.0,
        "a box around each object",
        gives=("points", "tags"),
    ),
    Kind("masks", "uint8 (B,H,W), 255 unknown", "bytes", 80.0, "a class for each pixel", gives=("tags",)),
    Kind(
        "instances",
        "a bit for each pixel, per object",
        "rows + bytes",
        80.0,
        "an outline of each object",
        gives=("boxes", "masks"),
    ),
    Kind("pairs", "i, j, same", "rows", 3.0, "whether two images show the same thing"),
    Kind("value", "float32 (B,)", "rows", 3.0, "a number for the image"),
    Kind("proposals", "float32 (M,4) xyxy, image", "column", 0.0, "boxes that may hold an object"),
    Kind("maps", "float32 (B,T,h,w)", "column", 0.0, "where a network looks"),
    Kind("features", "float32 (B,D)", "column", 0.0, "a network's description of the image"),
    Kind("scores", "float32 (B,)", "column", 0.0, "one number an image, with a direction"),
    Kind("ids", "int64 (K,)", "column", 0.0, "chosen images"),
)
KINDS: dict[str, Kind] = {k.name: k for k in _TABLE}
SCOPES = {"other": "other classes", "source": "another domain", "old": "earlier sessions"}
PARTS = {
    "features": "its features",
    "logits": "its logits",
    "maps": "its spatial maps",
    "small": "made smaller",
    "adjust": "moves boxes",
    "chosen": "picks among proposals",
}
ALONE = ("adjust", "chosen")  # parts that do not make a whole network for their kind

_GRAMMAR = re.compile(
    r"(?P<net>net:)?(?P<kind>[a-z]+)(?:\.(?P<part>[a-z]+))?(?P<some>:some)?(?:@(?P<scope>[a-z]+))?(?P<guess>~)?"
)


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """One thing that a person or a run has, or wants: see the module's grammar."""

    kind: str
    net: bool = False
    part: str = ""
    some: bool = False
    scope: str = ""
    guess: bool = False

    def __str__(self) -> str:
        return "".join(
            (
                "net:" if self.net else "",
                self.kind,
                f".{self.part}" if self.part else "",
                ":some" if self.some else "",
                f"@{self.scope}" if self.scope else "",
                "~" if self.guess else "",
            )
        )

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def parse(text: str) -> Fact:
        """Read one fact; SettingsError names the word that is wrong and the nearest right one."""
        match = _GRAMMAR.fullmatch(text.strip())
        if match is None:
            raise SettingsError(
                f"{text!r} is not a fact",
                fix="Write kind[:some][@scope][~] or net:kind[.part], as 'class:some', 'boxes@other' or 'net:class'.",
            )
        kind, part, scope = match["kind"], match["part"] or "", match["scope"] or ""
        for word, table, what in ((kind, KINDS, "kind"), (part, PARTS, "part"), (scope, SCOPES, "scope")):
            if word and word not in table:
                raise SettingsError(f"unknown {what} {word!r} in {text!r}", fix=did_you_mean(word, table))
        if part and not match["net"]:
            raise SettingsError(f"only a network has parts: {text!r}", fix=f"Write 'net:{text}'.")
        return Fact(kind, bool(match["net"]), part, bool(match["some"]), scope, bool(match["guess"]))

    def implied(self) -> tuple[Fact, ...]:
        """Facts that follow from this one for free, one step: `X` gives `X:some`, boxes tags, a part its net."""
        out = [] if self.net or self.some else [replace(self, some=True)]
        if self.net:
            return (replace(self, part=""),) if self.part and self.part not in ALONE else ()
        out += [replace(self, kind=kind) for kind in KINDS[self.kind].gives]
        return tuple(f if f.kind != "names" else Fact("names", scope=f.scope) for f in out)


def facts(text: str | tuple[str, ...]) -> tuple[Fact, ...]:
    """Several facts from 'tags,boxes@other' or from a tuple of strings."""
    words = text.split(",") if isinstance(text, str) else text
    return tuple(Fact.parse(w.strip()) for w in words if w.strip())
