"""The suite catches what it is for: each sound method passes, and each planted defect turns its check red."""

from __future__ import annotations

from pathlib import Path

import pytest

from modicum.core.errors import SettingsError
from modicum.testing import CHECKS, Result, check_method
from modicum.testing.case import Case
from modicum.testing.suite import timed

SOUND = Path(__file__).parent / "sound"
NAMES = ("learner", "scorer", "selector", "labeller", "explainer", "imaginer", "rule", "aim")
PART_RANKS = "part on two ranks"
RANKS, TOGETHER = "two ranks", pytest.mark.xdist_group("ranks")

TRAINING = {
    "reads labels that are not there": (
        "hidden labels", "entropy = -(",
        "entropy = cross_entropy(logits, unlabelled.labels.cls.clamp_min(0), reduction='none') - ("),
    "counts rows outside the pool": (
        "hidden labels", "make(\"net\")\n",
        "make(\"net\")\n        net.head.weight.data.mul_(info.images)\n"),
    "writes to its input": ("untouched", "x = unlabelled[\"weak\"]", "x = unlabelled[\"weak\"].mul_(0.5)"),
    "draws from the global generator": (
        "untouched", "x = unlabelled[\"weak\"]",
        "x = unlabelled[\"weak\"] + 0 * torch.rand(1)"),
    "changes the working folder": (
        "untouched", "x = unlabelled[\"weak\"]", "x = unlabelled[\"weak\"]; __import__('os').chdir('/')"),
    "remembers on the class": (
        "untouched", "labelled, net =",
        "vars(type(self)).get('presets')['n'] = id(batch)\n        labelled, net ="),
    "remembers between runs": (
        "same seed", "rise = min",
        "CARD.least['n'] = CARD.least.get('n', 0) + 1\n            rise = CARD.least['n'] * min"),
    "forgets a buffer": (
        "resume", "self.register_buffer(\"value\", torch.ones(()))",
        "object.__setattr__(self, 'value', torch.ones(()))"),
    "is not off": ("off", "if self.weight:", "if True:"),
    "holds a module that nobody uses": (
        "gradients", "\"mean\": Mean()",
        "\"mean\": Mean(), \"spare\": nn.Linear(2, 2)"),
    "trains its teacher": ("gradients", "\"ema\": EMA(net)", "\"ema\": EMA(net).requires_grad_()"),
    "goes up": ("loss falls", "mean(known)", "mean(-known)"),
    "divides by its own count": (
        RANKS, "mean(known)",
        "mean(known * labelled.labels.cls / labelled.labels.cls.sum().clamp_min(1))"),
    "keeps a statistic of one rank": (
        RANKS, "world_mean(x.detach().to(self.value.dtype))",
        "x.detach().to(self.value.dtype).mean()"),
    "fails on two ranks": (
        RANKS, "world_mean(x.detach()",
        "torch.zeros(2)[torch.distributed.is_initialized() * 2].add(x.detach()"),
    "depends on the place": ("permutation", "mean(known)", "mean(known * torch.arange(len(known)))"),
    "loses digits in bf16": (
        "bf16", "logits = net(x).logits.float()",
        "logits = (net(x).logits + 1024).float() - 1024"),
    "fails without a class": (
        "extremes", "make(\"net\")\n", "make(\"net\")\n        net.head.bias.data += torch.tensor(info.prior).log()\n"),
    "breaks at an end of a range": ("range ends", " if self.ramp else 1.0", ""),
    "has a preset of another method": (
        "presets", "    ramp: float",
        "    presets = {'paper': {}, 'small': {'mu': 3}}\n    ramp: float"),
    "asks for too much": ("needs necessary", "\"class:some\")", "\"class:some\", \"votes:some\")"),
    "asks for too little": ("needs sufficient", "(\"image\", \"class:some\")", "(\"image\",)"),
    "delivers another network": (
        "deliver", "    def after_step", "    def deliver(self, nets: Nets) -> nn.Module:\n        net = nets['net']\n"
        "        net.pool = lambda maps: maps.amax((2, 3))\n        return net\n\n    def after_step"),
    "prints": ("source", "x = unlabelled[\"weak\"]", "x = unlabelled[\"weak\"]; print(x)"),
    "reads the environment": ("source", "import torch\n", "import os\nimport torch\n"),
    "imports a neighbour": ("source", "import torch\n", "import modicum.methods.semi\nimport torch\n"),
    "imports the engine": ("source", "import torch\n", "from modicum.engine import loop\nimport torch\n"),
    "has a setting without a sentence": ("documented", "doc=\"weight of the entropy\"", "doc=\"\""),
    "has another card than it says": ("card", "    role=\"learn\",", "    role=\"wrap\","),
    "expects a check that there is not": (
        "xfail", "    role=\"learn\",",
        "    role=\"learn\",\n    xfail={\"gradient\": \"flat\"},"),
    "expects to fail and passes": (
        "same seed", "    role=\"learn\",",
        "    role=\"learn\",\n    xfail={\"same seed\": \"by lot\"},"),
    "changes a setting on the way in": (
        "settings round trip", "    def build",
        "    def __post_init__(self) -> None:\n        super().__post_init__()\n"
        "        object.__setattr__(self, 'weight', 0.9 * self.weight)\n\n    def build"),
    "checks no setting": (
        "bad settings", "    def build",
        "    def __post_init__(self) -> None:\n        pass\n\n    def build"),
}  # fmt: skip
SCORING = {
    "scores the wrong way": ("score direction", "(1 - probs.max(1))", "probs.max(1)"),
    "promises what no case shows": ("score direction", "\"less certain\"", "\"more interesting\""),
    "takes the logarithm of 0": ("score finite", "(1 - probs.max(1))", "-np.log(probs.max(1) - probs.min(1))"),
    "is of single precision": ("score finite", "(1 - probs.max(1))", "(1 - probs.max(1)).astype(np.float32)"),
    "scores what is not finite": ("score of bad rows", "probs = table.probs", "probs = np.nan_to_num(table.probs)"),
    "compares rows": ("score permutation", "(1 - probs.max(1))", "(1 - probs.max(1)) / probs.max()"),
    "writes to the table": ("untouched", "probs = table.probs", "table['logits'][:] *= 2\n        probs = table.probs"),
    "seeds numpy": ("untouched", "probs = table.probs", "np.random.seed(0)\n        probs = table.probs"),
}  # fmt: skip
SELECTING = {
    "chooses twice": ("selection", "[:budget]", "[:budget] * 0"),
    "gives rows": ("selection", "return free[", "return table.rows[free]["),
    "chooses labelled images": (
        "selection", "rng.permutation(unlabelled(table, budget))",
        "rng.permutation(len(table))"),
    "gives too few": ("selection", "[:budget]", "[: max(0, budget - 1)]"),
    "cuts in silence": ("selection too large", "unlabelled(table, budget)", "unlabelled(table, 0)"),
    "draws from elsewhere": (
        "selection by rng", "return free[",
        "free = np.random.default_rng().permutation(free)\n        return free[0 * "),
    "lets guesses close rows": (
        "selection after guesses", "unlabelled(table, budget))", "np.flatnonzero(table.cls < 0))"),
}  # fmt: skip
LABELLING = {
    "overwrites a person": ("labels kept", "(table.cls < 0) & ", ""),
    "labels from nothing": ("labels with evidence", "(probs.max(1) >= self.least)", "~(probs.max(1) < self.least)"),
    "labels rows beside the table": (
        "labels with evidence", "cls[table.rows[new]]",
        "cls[:] = 0\n        cls[table.rows[new]]"),
    "says it is a person": ("label delta", "who=MODEL", "who=\"human\""),
    "gives labels to positions": ("label permutation", "cls[table.rows[new]]", "cls[np.flatnonzero(new)]"),
    "labels by lot": ("same seed", "probs.max(1) >=", "probs.max(1) * np.random.default_rng().random(len(probs)) >="),
}  # fmt: skip
EXPLAINING = {
    "loses the sign": ("map of the object", "weights, acts)", "-weights, acts)"),
    "exchanges rows and columns": ("map of the object", "weights, acts)", "weights, acts).transpose(2, 3)"),
    "divides by nothing": (
        "map finite", "weights, acts)",
        "weights, acts) / acts.amax((1, 2, 3)).reshape(-1, 1, 1, 1)"),
    "drops the targets": ("map finite", "weights, acts)", "weights, acts)[:, 0]"),
    "normalises the batch": ("map of singles", "weights, acts)", "weights, acts) / acts.mean()"),
    "writes to the maps": ("untouched", "weights = ", "weights = 0 * acts.zero_().sum() + "),
    "fails in its own way": ("map without evidence", "if grads is None", "if False"),
}  # fmt: skip
TRUSTING = {
    "prints": ("source", "confidence, target = probs", "print(probs); confidence, target = probs"),
    "sees more than guesses": ("part", "rows: Tensor) -> Pseudo", "rows: Tensor, truth: object = None) -> Pseudo"),
    "has a knob without a sentence": ("part", "power: how many", "How many"),
    "takes knobs by place": ("part", "info: Info, *, ", "info: Info, "),
    "has a knob without a range": ("part knobs", "within(\"trust rule.power\", power, 1, 4)", "power"),
    "breaks at an end of a range": ("part knobs", "/ (self", "* (self.power - 1) / (self.power - 1) / (self"),
    "refuses without the name": ("part knobs", "trust rule.power", "trust.power of the rule"),
    "forgets a buffer": (
        "part state", "self.register_buffer(\"level\", torch.tensor(1 / len(info.classes)))",
        "self.level = torch.tensor(1 / len(info.classes))"),
    "does not save a buffer": ("part state", "len(info.classes)))", "len(info.classes)), persistent=False)"),
    "counts on the module": (
        "part state", "confidence, target =", "self.seen = id(probs)\n        confidence, target ="),
    "writes to its input": ("part untouched", "target = probs.max", "target = probs.mul_(0.5).max"),
    "draws from the global generator": ("part untouched", "weight.to(", "(weight + 0 * torch.rand(1)).to("),
    "loses digits": ("part types", "(confidence /", "((confidence + 4096 - 4096) /"),
    "keeps a statistic of one rank": (
        PART_RANKS, "confidence.mean()",
        "confidence[torch.distributed.is_initialized() * 1 :].sum() / len(confidence)"),
    "weighs above one": ("trust answers", ".clamp(0, 1)", ".clamp_min(0)"),
    "guesses in another type": ("trust answers", "Pseudo(target,", "Pseudo(target.int(),"),
    "compares neighbours": ("trust permutation", ".clamp(0, 1)", ".clamp(0, 1) * (confidence >= confidence.roll(1))"),
    "divides by the spread": (
        "trust extremes", "(confidence / (",
        "(confidence * confidence.std(correction=0) / confidence.std(correction=0) / ("),
    "switches the gradient on": (
        "trust gradient", "confidence, target = probs.max(1)",
        "torch.set_grad_enabled(True)\n        confidence, target = probs.max(1)"),
}  # fmt: skip
AIMING = {
    "counts in an attribute": (
        "part state", "self.register_buffer(\"weights\", torch.where(counts > 0, rare, 0))",
        "self.weights = torch.where(counts > 0, rare, 0)"),
    "trains itself": (
        "part state", "super().__init__(info)",
        "super().__init__(info); self.w = torch.nn.Parameter(torch.ones(1))"),
    "writes to its input": ("part untouched", "F.cross_entropy(logits,", "F.cross_entropy(logits.detach().sub_(1),"),
    "adds by rank": (
        PART_RANKS, "self.weights[target].to", "self.weights[target].div(1 + torch.distributed.is_initialized()).to"),
    "has no gradient": ("objective term", "F.cross_entropy(logits,", "F.cross_entropy(logits.detach(),"),
    "gives one value": ("objective term", "reduction=\"none\")", "reduction=\"mean\")"),
    "goes up": ("objective falls", "values = F", "values = 9 - F"),
    "depends on the place": ("objective permutation", "return values,", "return values * torch.arange(len(values)),"),
    "depends on a class's number": ("objective permutation", "return values,", "return values * (1 + target),"),
    "divides by a count of 0": ("objective extremes", "rare, 0)", "rare / counts.min(), 0)"),
    "takes a logarithm of 0": (
        "objective extremes", "F.cross_entropy(logits, target, reduction=\"none\")",
        "-logits.softmax(1).gather(1, target[:, None])[:, 0].log()"),
    "makes a head of one class more": (
        "objective head", "    def forward",
        "    def dress(self, net):\n        net.head = torch.nn.Linear(net.head.in_features, 5)\n        return net\n\n"
        "    def forward"),
}  # fmt: skip
IMAGINING = {
    "makes too few": ("imagined", "range(number)", "range(number - 1)"),
    "gives floats": ("imagined", "yield Imagined(pixels,", "yield Imagined(pixels / 255,"),
    "makes images of two sizes": (
        "imagined", "yield Imagined(pixels,", "yield Imagined(pixels[:: cls + 1, :: cls + 1],"),
    "forgets a class": ("imagined", "[cls], f\"", "[0], f\""),
    "says another class": ("captions", "f\"one {name}\"", "f\"one {names[0]}\""),
    "draws from elsewhere": ("imagined by rng", "rng.integers(256)", "np.random.default_rng().integers(256)"),
    "makes others where more are asked for": ("imagined by rng", "rng.integers(256)", "number * rng.integers(9)"),
    "makes none for few": ("how many", "max(1, real // classes)", "real // classes"),
    "makes fewer for more": ("how many", "max(1, real // classes)", "max(1, 99 - real)"),
    "takes a shut door for a fault": (
        "shut doors", "cut = doors.cutouts(\"\", names)",
        "try:\n            cut = doors.cutouts(\"\", names)\n        except NeedsError as error:\n"
        "            raise KeyError from error"),
    "does without names": ("needs necessary", "if not names:", "names = names or (\"bars\",)\n        if not names:"),
    "draws from numpy": ("untouched", "cut = doors", "np.random.rand()\n        cut = doors"),
}  # fmt: skip
TABLES = (TRAINING, SCORING, SELECTING, LABELLING, EXPLAINING, IMAGINING, TRUSTING, AIMING)
DEFECTS = [
    pytest.param(base, *defect, id=f"{base} {what}", marks=[TOGETHER] if defect[0] in (RANKS, PART_RANKS) else [])
    for base, table in zip(NAMES, TABLES, strict=True)
    for what, defect in table.items()
]


def failed(found: list[Result]) -> dict[str, str]:
    return {r.check: r.message for r in found if not r.ok}


@pytest.mark.parametrize("base", NAMES)
def test_sound_methods_pass(base: str) -> None:
    found = check_method(str(SOUND / f"{base}.py"), skip=(RANKS, PART_RANKS))
    assert not failed(found)
    assert len(found) >= 11


@TOGETHER
def test_a_sound_learner_passes_on_two_ranks() -> None:
    assert not failed(check_method(str(SOUND / "learner.py"), only=RANKS))


@TOGETHER
@pytest.mark.parametrize("base", ["rule", "aim"])
def test_a_sound_part_passes_on_two_ranks(base: str) -> None:
    assert not failed(check_method(str(SOUND / f"{base}.py"), only=PART_RANKS))


def test_a_file_of_no_method_and_no_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.py").write_text('"""Nothing."""\n')
    with pytest.raises(SettingsError, match="no CARD, and 0 trust rules"):
        check_method(str(tmp_path / "none.py"))
    with pytest.raises(SettingsError, match="no part 'fixd' in nn/trust"):
        check_method("trust/fixd")


@pytest.mark.parametrize(("base", "check", "old", "new"), DEFECTS)
def test_a_planted_defect_turns_its_check_red(
    base: str, check: str, old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (SOUND / f"{base}.py").read_text(encoding="utf-8")
    assert text.count(old) >= 1
    file = tmp_path / f"{base}.py"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    found = check_method(str(file), only=check)
    assert list(failed(found)) == [check], found
    assert found[0].cause
    assert found[0].message


def test_an_expected_failure_is_green_and_says_why(tmp_path: Path) -> None:
    text = (SOUND / "scorer.py").read_text(encoding="utf-8")
    text = text.replace("(1 - probs.max(1))", "probs.max(1)")
    text = text.replace('role="score",', 'role="score",\n    xfail={"score direction": "on purpose"},')
    (tmp_path / "scorer.py").write_text(text, encoding="utf-8")
    (found,) = check_method(str(tmp_path / "scorer.py"), only="score direction")
    assert found.ok
    assert "on purpose" in found.message


def test_time_is_enforced() -> None:
    case = Case.open(str(SOUND / "scorer.py"))
    assert timed(case, 3.9, 4.0).ok
    slow = timed(case, 4.2, 4.0)
    assert not slow.ok
    assert "4.2" in slow.message


def test_unknown_names_are_refused_with_a_hint() -> None:
    with pytest.raises(SettingsError, match="gradients"):
        check_method(str(SOUND / "learner.py"), only="gradient")
    with pytest.raises(SettingsError, match="no method"):
        check_method("no-such-method")


def test_every_check_has_a_planted_defect_or_is_known_to_have_none() -> None:
    planted = {p.values[1] for p in DEFECTS}
    assert set(CHECKS) - planted == {"cost", "export", "time", "net untouched"}
