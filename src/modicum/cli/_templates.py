"""What `modicum new` writes: for each role a small method that works and is about to be replaced, and its test.

@name@, @module@, @Class@ and @family@ are filled in.
"""

from __future__ import annotations

_CARD = """
CARD = Card(
    title="@Class@",
    role="@role@",
    idea="One sentence: who labels, which labels are believed, what the student sees.",
    needs=(@needs@,),
    makes=("@makes@",),
    year=0,
    cites=(),@more@
)
"""

_LEARN = '''"""@Class@: say in one sentence what it does.

    L = CE(y, f(x)) + weight * mean_U H(softmax f(u))          H: entropy; U counts all unlabelled images

This is entropy minimisation (Grandvalet and Bengio, 2004), to be replaced by your equation.  B labelled images a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Presets
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.settings import knob
@card@

@dataclass(frozen=True)
class @Class@(Learn):
    """Authors, year."""

    weight: float = knob(0.1, 0, 100, doc="weight of the unlabelled term")
    mu: int = knob(1, 1, 64, doc="unlabelled images for each labelled one")

    presets: ClassVar[Presets] = {"paper": {}, "small": {"mu": 4}}

    def program(self, info: Info) -> Program:
        streams = {"l": Stream("class", info.recipe.batch, ("weak",))}
        if self.weight:
            streams["u"] = Stream("all", info.recipe.batch * self.mu, ("weak",))
        return [Train(streams, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        labelled, net = batch["l"], nets["net"]
        out = {"labelled": mean(cross_entropy(net(labelled["weak"]).logits, labelled.labels.cls, reduction="none"))}
        if "u" in batch:
            logs = net(batch["u"]["weak"]).logits.float().log_softmax(1)
            out["unlabelled"] = mean(-(logs.exp() * logs).sum(1), weight=self.weight)
        return out
'''

_LEARN_TEST = '''"""@Class@ against a plain loop over images."""

from __future__ import annotations

import math

import pytest
import torch

from modicum.core.batch import Labels, Part, View
from modicum.core.loss import value
from modicum.core.net import Nets, Out
from modicum.core.program import Clock
from @package@ import @Class@


class Toy(torch.nn.Module):
    """Logits = pixels @ weights."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> Out:
        return Out(self.head(x.flatten(1)), x.flatten(1))


def part(n: int, known: bool) -> Part:
    pixels, whole = torch.rand(n, 1, 2, 2), torch.eye(2, 3).expand(n, 2, 3)
    cls = torch.arange(n) % 3 if known else torch.full((n,), -1)
    return Part(torch.arange(n), {"weak": View(pixels, whole, torch.full((n, 2), 2))}, Labels(cls))


def test_the_loss_agrees_with_a_loop() -> None:
    torch.manual_seed(0)
    net, batch = Toy(), {"l": part(3, True), "u": part(5, False)}
    got = value(@Class@(weight=0.5).loss(Nets({"net": net}), batch, Clock(0, 0, 1, 0))).item()
    known = [net(batch["l"]["weak"]).logits[i].softmax(0).tolist() for i in range(3)]
    guessed = [net(batch["u"]["weak"]).logits[i].softmax(0).tolist() for i in range(5)]
    want = sum(-math.log(p[i % 3]) for i, p in enumerate(known)) / 3
    want += 0.5 * sum(-sum(q * math.log(q) for q in p) for p in guessed) / 5
    assert got == pytest.approx(want, rel=1e-5)
'''

_SMALL = '''"""@Class@: say in one sentence what it does, and write its equation here."""

from __future__ import annotations

from dataclasses import dataclass
@imports@
@card@

@dataclass(frozen=True)
class @Class@(@base@):
    """Authors, year."""
@body@'''

_SMALL_TEST = '''"""@Class@: an answer that can be worked out by hand."""

from __future__ import annotations
@test@'''

_TABLE_TEST = """
import numpy as np

from modicum.core.dataset import Dataset, Table
from @package@ import @Class@


def table() -> Table:
    data = Dataset.build(["a.png", "b.png", "c.png"], ["x", "y"])
    return Table(data, np.arange(3), {"logits": np.array([[9.0, 0.0], [0.1, 0.0], [0.0, 2.0]])})
"""

_PARTS = {
    "wrap": {
        "needs": '"net:class"', "makes": "net:class", "base": "Wrap",
        "imports": "\nfrom modicum.core.card import Card\nfrom modicum.core.method import Wrap\n"
        "from modicum.core.program import Info, Program",
        "body": '''
    def program(self, info: Info) -> Program:
        return [self.enter(phase) for phase in self.inner.program(info)]
''',
        "test": '''
from modicum.core.method import Learn
from modicum.core.program import Info, Train
from @package@ import @Class@


def test_the_inner_phases_are_run_inside() -> None:
    (phase,) = @Class@(inner=Learn()).program(Info(("a",), (1,), 1, 1))
    assert isinstance(phase, Train) and phase.at == "inner" and phase.turns[0].loss == "inner.loss"
''',
    },
    "label": {
        "needs": '"image", "net:class"', "makes": "class:some~", "base": "Label",
        "imports": "\nfrom modicum.core.card import Card\nfrom modicum.core.dataset import MODEL, Dataset, Table\n"
        "from modicum.core.method import Label\nfrom modicum.core.settings import knob",
        "body": '''
    tau: float = knob(0.9, 0, 1, doc="least confidence of a label")

    def label(self, table: Table) -> Dataset:
        probs = table.probs
        cls = np.full(len(table.data), -1)
        cls[table.rows] = np.where(probs.max(1) >= self.tau, probs.argmax(1), -1)
        return table.data.delta_class(cls, source="@name@", who=MODEL)
''',
        "test": _TABLE_TEST + '''

def test_only_sure_rows_are_labelled() -> None:
    data = table().data
    assert (data + @Class@(tau=0.8).label(table())).cls.tolist() == [0, -1, 1]
''',
    },
    "score": {
        "needs": '"image", "net:class"', "makes": "scores", "base": "Score",
        "more": '\n    higher="less sure",',
        "imports": "\nimport numpy as np\n\nfrom modicum.core.card import Card\n"
        "from modicum.core.dataset import Table\n"
        "from modicum.core.method import Score",
        "body": '''
    def score(self, table: Table) -> np.ndarray:
        return np.asarray(1 - table.probs.max(1))
''',
        "test": _TABLE_TEST + '''

def test_the_least_sure_row_scores_highest() -> None:
    assert @Class@().score(table()).argsort().tolist() == [0, 2, 1]
''',
    },
    "select": {
        "needs": '"image", "net:class"', "makes": "ids", "base": "Select",
        "imports": "\nimport numpy as np\n\nfrom modicum.core.card import Card\n"
        "from modicum.core.dataset import Table\n"
        "from modicum.core.method import Select",
        "body": '''
    def select(self, table: Table, budget: int, rng: np.random.Generator) -> np.ndarray:
        open_ = np.flatnonzero(table.cls < 0)
        return open_[np.argsort(table.probs.max(1)[open_], kind="stable")][:budget]
''',
        "test": _TABLE_TEST + '''

def test_the_least_sure_rows_come_first() -> None:
    assert @Class@().select(table(), 2, np.random.default_rng(0)).tolist() == [1, 2]
''',
    },
    "explain": {
        "needs": '"image", "net:class"', "makes": "maps", "base": "Explain",
        "imports": "\nfrom torch import Tensor\n\nfrom modicum.core.card import Card\n"
        "from modicum.core.method import Explain, Seen",
        "body": '''
    def weigh(self, seen: Seen) -> Tensor:
        return (seen.acts[:, None] * seen.gradient("@name@")).sum(2)
''',
        "test": '''
from dataclasses import replace

import torch

from modicum.testing.stand_ins import captured
from @package@ import @Class@


def test_a_constant_gradient_sums_the_channels() -> None:
    seen = captured()
    maps = @Class@().weigh(replace(seen, grads=torch.ones(4, 2, 6, 5, 5)))
    assert torch.allclose(maps[:, 0], sum(seen.acts[:, k] for k in range(6)))
''',
    },
    "imagine": {
        "needs": '"names"', "makes": "image", "base": "Imagine",
        "imports": "\nfrom collections.abc import Iterator, Sequence\n\nimport numpy as np\n\n"
        "from modicum.core.card import Card\nfrom modicum.core.errors import NeedsError\n"
        "from modicum.core.method import Doors, Imagine, Imagined\nfrom modicum.core.settings import knob",
        "body": '''
    number: int = knob(10, 1, 100_000, doc="images of a class")

    def many(self, classes: int, real: int) -> int:
        return self.number

    def imagine(
        self, names: Sequence[str], number: int, rng: np.random.Generator, doors: Doors
    ) -> Iterator[Imagined]:
        if not names:
            raise NeedsError("there are no names of classes", where="@name@", fix="Name the classes.")
        for cls, name in enumerate(names):
            for _ in range(number):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                yield Imagined(pixels, np.eye(len(names), dtype=np.int8)[cls], f"noise called {name}")
''',
        "test": '''
import numpy as np

from modicum.testing.stand_ins import doors
from @package@ import @Class@


def test_each_class_gets_its_images() -> None:
    found = [*@Class@().imagine(("a", "b"), 2, np.random.default_rng(0), doors())]
    assert [p.tags.tolist() for p in found] == [[1, 0], [1, 0], [0, 1], [0, 1]]
''',
    },
    "change": {
        "needs": '"image", "net:class"', "makes": "net:class.small", "base": "Reshape",
        "imports": "\nfrom modicum.core.card import Card\nfrom modicum.core.method import Reshape\n"
        "from modicum.core.net import Nets\nfrom modicum.core.program import Change, Info, Program",
        "body": '''
    def program(self, info: Info) -> Program:
        return [Change("shrink")]

    def shrink(self, nets: Nets) -> Nets:
        return nets
''',
        "test": '''
from modicum.core.program import Change, Info
from @package@ import @Class@


def test_the_program_ends_in_a_change() -> None:
    assert isinstance(@Class@().program(Info(("a",), (1,), 1, 1))[-1], Change)
''',
    },
}  # fmt: skip
_PARTS["label"]["imports"] = "\nimport numpy as np\n" + _PARTS["label"]["imports"]

_TRUST = '''"""@Class@: say which guesses it believes, and how much.  Authors, year.

    w_u = max(0, p_max - 1/C) / (1 - 1/C)          a rule to be replaced: a guess is believed as far as it beats chance
"""

from __future__ import annotations

from torch import Tensor

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.trust import Pseudo, Trust


class @Class@(Trust):
    """power: how sharply doubt counts, 0 to 10.  Whatever the rule remembers is a buffer (`register_buffer`)."""

    def __init__(self, info: Info, *, power: float = 1.0) -> None:
        super().__init__(info)
        self.power = within("trust @name@.power", power, 0, 10)

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        """probs (U,C), rows (U,) -> target (U,), weight (U,)."""
        confidence, target = probs.max(1)
        chance = 1 / probs.shape[1]
        return Pseudo(target, ((confidence - chance) / (1 - chance)).clamp_min(0) ** self.power)
'''

_TRUST_TEST = '''"""@Class@: the laws of all trust rules, and the extremes by hand."""

from __future__ import annotations

import torch

from modicum.core.program import Info
from modicum.nn.trust import make_trust
from modicum.testing import check_method


def test_the_laws_hold() -> None:
    for result in check_method("trust/@name@", skip=("part on two ranks",)):
        assert result.ok, f"{result.check}: {result.message}\\nusual cause: {result.cause}"


def test_certainty_is_believed_and_chance_is_not() -> None:
    rule = make_trust("@name@:power=2", Info(("a", "b"), (1, 1), 10, 2))
    target, weight = rule(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]]), torch.arange(3))
    assert target.tolist()[::2] == [0, 1]
    assert torch.allclose(weight, torch.tensor([1.0, 0.0, 0.25]))
'''


def method(role: str, words: dict[str, str]) -> tuple[str, str]:
    """A method's file and its test."""
    if role == "learn":
        card = {
            "needs": '"image", "class:some"',
            "makes": "net:class",
            "more": '\n    least={"class": 1},\n    off={"weight": 0.0},',
        }
        return _fill(_LEARN, {**words, **card, "card": _CARD, "role": role}), _fill(_LEARN_TEST, words)
    parts = {"more": "", **_PARTS[role], "card": _CARD, "role": role, **words}
    return _fill(_SMALL, parts), _fill(_SMALL_TEST, parts)


def trust(words: dict[str, str]) -> tuple[str, str]:
    """A trust rule's file and its test."""
    return _fill(_TRUST, words), _fill(_TRUST_TEST, words)


def _fill(text: str, words: dict[str, str]) -> str:
    for _ in range(3):
        for key, value in words.items():
            text = text.replace(f"@{key}@", value)
    return text
