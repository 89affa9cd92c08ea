"""Choices made once: by rule, from cards, and written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modicum.core import registry
from modicum.core.dataset import HUMAN, Dataset
from modicum.core.errors import NeedsError, SettingsError
from modicum.core.recipe import PLAIN
from modicum.data.samples import sample
from modicum.data.scan import traits
from modicum.data.stream import FACTS
from modicum.engine import choose
from modicum.engine.folds import assign
from modicum.engine.look import counts
from modicum.engine.request import Request
from modicum.models.doors import make


@pytest.mark.parametrize(
    ("width", "height", "asked", "side"),
    [
        (8, 8, {}, 16),
        (28, 28, {}, 28),
        (30, 21, {}, 32),
        (640, 480, {"device": "cpu"}, 64),
        (640, 480, {"device": "cuda"}, 128),
        (640, 480, {"pretrained": True}, 224),
        (640, 480, {"side": 96}, 96),
    ],
)
def test_the_side_follows_the_images_up_to_what_can_be_paid(
    width: int, height: int, asked: dict[str, object], side: int
) -> None:
    assert choose.side_of(Request.of({"device": "cpu", **asked}), width, height) == side


def test_few_labels_choose_a_method_that_says_it_suits_them() -> None:
    data = sample("digits").without("class", np.arange(40, 1797))
    chain = choose.chain(data, ("few", "tiny"), "")
    assert "few" in registry.card(chain.names[-1]).suits
    assert choose.chain(data, ("few",), "supervised").names[-1] == "supervised"
    with pytest.raises(NeedsError, match="learn"):
        choose.chain(data, (), "entropy")


def test_a_method_that_makes_something_else_is_refused_by_name() -> None:
    with pytest.raises(NeedsError, match="fixmatch makes net:class, and net:boxes is wanted") as caught:
        choose.chain(sample("digits"), (), "fixmatch", want="boxes")
    assert "detector" in caught.value.fix


def test_named_steps_choose_the_way_where_their_cards_allow_one() -> None:
    tags = Dataset.build(["a.png"] * 1, ["cat", "dog"])
    data = tags.delta(source="p", who=HUMAN, row=[0], kind="tags", **{"class": [0], "value": [1.0]})
    data = tags + data
    plain = choose.chain(data, (), "detector", want="boxes")
    assert choose.steps_of(plain, ("layer-cam",))[1:] == ["layer-cam", "map-boxes", "detector"]
    found = choose.chain(data, (), "detector", want="boxes", via=("oicr:heads=2", "found-boxes"))
    assert choose.steps_of(found, ("oicr:heads=2", "found-boxes")) == ["oicr:heads=2", "found-boxes", "detector"]
    with pytest.raises(SettingsError, match="no step before the last is left for role explain"):
        choose.steps_of(plain, ("cam", "layer-cam"))
    with pytest.raises(SettingsError, match="--via wsddn: net:tags is needed after it, which it does not make"):
        choose.steps_of(plain, ("wsddn",))


def test_a_method_tells_what_its_card_makes() -> None:
    assert choose.tells("wsddn", "boxes") and choose.tells("bas", "class") and choose.tells("segmenter", "masks")
    assert not choose.tells("wsddn", "class") and not choose.tells("cam", "boxes")
    assert not choose.tells("wsddn", "nonsense")


def test_folds_are_refused_where_no_class_is_wanted() -> None:
    with pytest.raises(NeedsError, match="folds compare classifiers alone so far, and tags are wanted"):
        choose.goal(sample("digits"), Request.of({"want": "tags", "folds": 3}))
    assert choose.goal(sample("digits"), Request.of({"folds": 3})) == "class"


def test_votes_are_not_taken_for_a_lack_of_classes() -> None:
    blank = sample("digits").without("class", np.arange(1797))
    rows = np.arange(1797)
    votes = blank.delta(source="ann", who="annotator", **{"row": rows, "kind": "votes", "class": rows % 10})
    chain = choose.chain(blank + votes, ("crowd",), "")
    assert chain.names[-1] == "supervised" and len(chain.names) == 2 and not chain.short
    assert counts(blank + votes) == {"image": 1797}
    assert counts(sample("digits").without("class", np.arange(1700)))["class"] == 9


def test_a_wrapper_is_not_a_method_to_learn_with() -> None:
    with pytest.raises(NeedsError, match=r"its role is wrap[\s\S]*--recipe wraps=ema"):
        choose.chain(sample("digits"), (), "ema")


def changed(monkeypatch: pytest.MonkeyPatch, **cards: Mapping[str, Any]) -> None:
    """Let cards say something else."""
    found = dict(registry._found())
    for name, fields in cards.items():
        card, module, path = found[name.replace("_", "-")]
        found[name.replace("_", "-")] = (replace(card, **fields), module, path)
    monkeypatch.setattr(registry, "_found", lambda: found)


def labelled(counts: Sequence[int], unlabelled: int) -> Dataset:
    """So many labels of each class, and images without one."""
    cls = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.full(unlabelled, -1)])
    return Dataset.build([f"{i}.png" for i in range(len(cls))], [f"c{i}" for i in range(len(counts))], cls=cls)


def test_the_baseline_needs_no_image_without_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    card = registry.card(choose.baseline())
    assert "full" in card.suits and not card.off and all(n[0] != "n" for n in map(str, card.needs[:1]))
    tail = {"suits": ("full", "tail")}
    changed(monkeypatch, balanced_softmax=tail, logit_adjustment=tail)
    assert choose.baseline() == card.name  # they are it where they are off


@pytest.mark.parametrize(
    ("counts", "unlabelled", "chosen"),
    [
        ((40, 40, 40), 0, "supervised"), ((400, 40, 4), 0, "logit-adjustment"), ((400, 400, 4), 4000, "bis"),
        ((4, 4, 4), 120, "fixmatch"), ((60, 20, 4), 2000, "bis"),
    ],
)  # fmt: skip
def test_a_tail_is_met_by_the_cards_that_say_so(
    counts: tuple[int, ...], unlabelled: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but `suits` is needed: what suits more of the measured traits comes first; of equals, the plainest."""
    both, tail = {"suits": ("few", "tail")}, {"suits": ("full", "tail")}
    changed(
        monkeypatch, balanced_softmax={"suits": ()}, logit_adjustment=tail, bis=both, fixmatch={"suits": ("few",)}
    )
    monkeypatch.setattr(registry, "evidence", lambda: {"bis": 0.1, "fixmatch": 0.2})
    data = labelled(counts, unlabelled)
    measured = traits(data, np.zeros(0, FACTS), [], [])
    assert choose.chain(data, tuple(measured), "").names == (chosen,)


def test_a_method_that_the_time_is_too_short_for_comes_after_others(monkeypatch: pytest.MonkeyPatch) -> None:
    few = (n for n, c in registry.cards("learn").items() if "few" in c.suits)
    changed(monkeypatch, **{n: {"least": {"class": 1, "step": 2000}} for n in few})
    data = labelled((4, 4), 400)
    assert "few" in registry.card(choose.chain(data, ("few",), "").names[-1]).suits
    assert "few" in registry.card(choose.chain(data, ("few",), "", 2000).names[-1]).suits
    hasty = choose.chain(data, ("few",), "", 150)
    assert "few" not in registry.card(hasty.names[-1]).suits and not hasty.short
    said = "\n".join(choose.why(hasty, {"few": "4 labels a class"}))
    assert "which suits few, comes after it: time for 2,000 labels-only steps needed, for about 150 there." in said


def test_steps_that_the_minutes_allow_are_measured_where_they_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def allowed(**asked: object) -> int:
        return choose.steps_in(Request.of({"device": "cpu", **asked}), "tiny-conv:width=4", 3, 1, 16)

    changed(monkeypatch, bis={"least": {"class": 1}}, fixmatch={"least": {"class": 1, "step": 500}})
    before = torch.random.get_rng_state()
    assert allowed() == allowed(steps=5) == allowed(minutes=1, method="fixmatch") == 0
    assert allowed(minutes=1e-9) == 1 and 10 < allowed(minutes=0.1) * 10 < 50 * allowed(minutes=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_composing_puts_the_recipes_wrappers_around() -> None:
    recipe = choose.recipe_of("fixmatch", Request(steps=5), 28, True)
    made = choose.compose("fixmatch", {"mu": 3}, recipe)
    assert made.card.role == "wrap" and made.inner.mu == 3 and made.decay == 0.995
    assert recipe.views["strong"].flip and recipe.views["plain"] == PLAIN
    with pytest.raises(SettingsError, match="not a wrapper"):
        choose.compose("fixmatch", {}, recipe.but(wraps=("supervised",)))


def test_parts_of_the_recipe_can_be_asked_for_by_name() -> None:
    asked = Request.of({"recipe": {"optim.lr": "0.5", "views.strong.rotate": "7", "wraps": ""}})
    recipe = choose.recipe_of("fixmatch", asked, 28, False)
    assert (recipe.optim.lr, recipe.views["strong"].rotate, recipe.wraps) == (0.5, 7.0, ())
    for path in ("optim.speed", "views.stronk.rotate", "batch.size"):
        with pytest.raises(SettingsError):
            choose.recipe_of("fixmatch", Request.of({"recipe": {path: "1"}}), 28, False)


def never() -> float:
    raise AssertionError("measured without need")


def test_the_faster_precision_must_be_clearly_faster() -> None:
    def chosen(probe: float, steps: float) -> str:
        return choose.faster_precision(Request(), lambda: probe, lambda: steps)[0]

    assert [chosen(1.0, share) for share in (0.5, 0.84, 0.9, 1.2)] == ["bf16-mixed"] * 2 + ["32-true"] * 2
    assert choose.faster_precision(Request(precision="32"), never, never)[0] == "32-true"


def test_where_bf16_is_emulated_no_whole_step_is_taken_in_it() -> None:
    precision, said = choose.faster_precision(Request(), lambda: 6.0, never)
    assert precision == "32-true" and "6.0 times as long" in said


def test_the_probe_of_bf16_is_a_time_ratio() -> None:
    assert 0.05 < choose.slower_bf16(make("tiny-conv", classes=3, channels=1, side=16), 1, 16) < 50


def test_channels_last_is_for_convolutions_but_not_where_torch_crashes() -> None:
    def layout(*convs: nn.Conv2d, device: str = "cpu") -> str:
        return choose.layout_of(nn.Sequential(nn.Conv2d(3, 16, 3), *convs), device)

    assert layout(nn.Conv2d(16, 16, 3)) == layout(nn.Conv2d(16, 32, 1, 2)) == "channels_last"
    assert layout() == layout(nn.Conv2d(16, 16, 3), device="mps") == ""
    for channels, wanted in ((1, "channels_last"), (2, ""), (15, ""), (16, "channels_last")):
        assert layout(nn.Conv2d(channels, 32, 1, stride=2)) == wanted
    assert layout(nn.Conv2d(3, 32, 1, stride=2), device="cuda") == layout(nn.Conv2d(3, 32, 1)) == "channels_last"


def test_minutes_become_steps() -> None:
    assert choose.budget(2.0, 0.1) == 1200 and choose.budget(0.001, 1.0) == 50


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(2, 6), st.integers(0, 3))
def test_folds_spread_every_class_evenly(cls: list[int], folds: int, seed: int) -> None:
    ids = np.array([f"{i}.png" for i in range(len(cls))], object)
    fold = assign(np.array(cls), ids, folds, seed)
    for c in set(cls):
        sizes = Counter(dict.fromkeys(range(folds), 0)) + Counter(fold[np.array(cls) == c].tolist())
        counts = [sizes.get(k, 0) for k in range(folds)]
        assert max(counts) - min(counts) <= 1
    whole = np.bincount(fold, minlength=folds)
    assert whole.max() - whole.min() <= 1
