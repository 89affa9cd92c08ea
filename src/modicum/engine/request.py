"""What a person can ask of `fit`: one frozen record, kept in the run, so that resuming needs no question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modicum.core.errors import SettingsError
from modicum.core.kinds import Fact
from modicum.core.settings import Settings, knob

DEVICES = ("auto", "cpu", "cuda", "mps")
GOALS = ("class", "tags", "masks", "boxes")
CLASHES = (
    ("steps", "minutes", "Give the one you mean: minutes are turned into steps."),
    ("pretrained", "weights", "Give one: --weights starts from a file, --pretrained from what was published."),
)


@dataclass(frozen=True)
class Request(Settings):
    """Settings of `modicum fit`.  Empty or 0 means: choose by the rules, and write down what was chosen.

    settings: of the method, by name.  recipe: parts of its recipe, by dotted name, such as "optim.lr".  Both may be
    given as values or as the words of the command line; they are kept as words.
    """

    data: str = knob("", doc="folder, table or file of images, or sample:digits")
    want: str = knob(
        "", doc="what the network is to tell; '' = class where known, else boxes, masks, tags", choices=("", *GOALS)
    )
    have: tuple[str, ...] = knob((), doc="what to learn from, such as tags or boxes@other; () = all there is")
    other: str = knob("", doc="images with labels of other classes, or a run that learned from such")
    method: str = knob("", doc="learn method; '' = chosen by cards and measured traits")
    via: tuple[str, ...] = knob((), doc="methods for steps before the last, each for the planned one of its role")
    settings: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, str] = field(default_factory=dict)
    preset: str = knob("small", doc="settings and recipe to start from", choices=("small", "paper"))
    net: str = knob("", doc="network: tiny-conv, tiny-res:depth=16,width=2 or any timm name")
    weights: str = knob("", doc="safetensors file to start from")
    pretrained: bool = knob(False, doc="start from published weights (needs the hub)")
    steps: int = knob(0, 0, 10**12, doc="gradient steps of the method")
    minutes: float = knob(0.0, 0, 10**6, doc="time for the method's training; turned into steps once", unit="minutes")
    batch: int = knob(0, 0, 65536, doc="labelled images a step")
    side: int = knob(0, 0, 4096, doc="side of the network's input", unit="pixels")
    flip: str = knob("auto", doc="mirror images in training; auto = colour images only", choices=("auto", "yes", "no"))
    twins: str = knob(
        "time",
        doc="labels-only twins trained beside: as long, as many steps, or none",
        choices=("time", "steps", "none"),
    )
    judge: str = knob(
        "auto",
        doc="compare the arms on unseen labels and keep the best; none = keep the method",
        choices=("auto", "none"),
    )
    labels: int = knob(0, 0, doc="keep this many labels a class and hide the rest, to try how few would do")
    test: float = knob(0.2, 0, 0.9, doc="share of labelled images held out where the data have no test split")
    folds: int = knob(
        0, 0, 20, doc="train every arm so many times more on parts of the labels: compares, and calibrates"
    )
    precision: str = knob(
        "auto", doc="32 or bf16; auto = bf16 where it is measured to be faster", choices=("auto", "32", "bf16")
    )
    device: str = knob("auto", doc="where to train; auto = a GPU where there is one", choices=DEVICES)
    checkpoint: float = knob(10.0, 0, 10**9, doc="time between checkpoints", unit="seconds")
    seed: int = knob(0, 0, doc="seed of every draw")
    export: bool = knob(True, doc="write model.onnx")

    def __post_init__(self) -> None:
        for name in ("settings", "recipe"):
            given = getattr(self, name)
            if isinstance(given, Mapping):
                object.__setattr__(self, name, {k: _word(v) for k, v in given.items()})
        try:
            super().__post_init__()
        except SettingsError as error:  # a person knows them as options
            raise SettingsError(error.found, where=error.where.replace("Request.", "--"), fix=error.fix) from None
        for one, other, fix in CLASHES:
            if getattr(self, one) and getattr(self, other):
                raise SettingsError(f"--{one} and --{other} contradict each other", where="fit", fix=fix)
        for fact in map(_fact, self.have):
            if fact.scope and not self.other:
                found = f"{fact} is about other images than those of the data"
                raise SettingsError(found, where="--have", fix="Say where they are: --other FOLDER.")
        if self.folds == 1:
            fix = "Give 0 for none, or 2 to 20."
            raise SettingsError("one fold would hold out all labels at once", where="--folds", fix=fix)

    def kinds(self, scope: str = "") -> tuple[str, ...]:
        """Kinds of labels of `have` that are about the data, or about other images; () = all."""
        return tuple(f.kind for f in map(_fact, self.have) if f.scope == scope)


def _fact(text: str) -> Fact:
    """A fact of `have`: a kind, of the data or of other images."""
    try:
        fact = Fact.parse(text)
    except SettingsError as error:
        raise SettingsError(error.found, where="--have", fix=error.fix) from None
    if fact.net or fact.guess or fact.scope not in ("", "other"):
        fix = "Write a kind, such as tags, or KIND@other for labels of the images of --other."
        raise SettingsError(f"{text} is neither a kind of label nor one of other images", where="--have", fix=fix)
    return fact


def _word(value: object) -> object:
    """A plain value as the command line writes it; anything else is left to be refused."""
    if isinstance(value, list | tuple):
        return "+".join(str(_word(v)) for v in value)
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, int | float) else value
