"""Do no harm: `fit` compares its arms on labels they did not see, ships the best, and says how sure that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modicum.core.dataset import Dataset
from modicum.core.errors import NeedsError
from modicum.data.images import square
from modicum.data.vault import Vault
from modicum.engine.fit import Silent, fit
from modicum.engine.folds import Unseen, assign
from modicum.engine.images import images_of
from modicum.engine.keep import settle
from modicum.engine.verbs import evaluate
from modicum.methods.semi.fixmatch import FixMatch
from modicum.models import files
from modicum.runs.run import Run

QUICK: dict[str, Any] = {"steps": 30, "twins": "steps", "precision": "32", "batch": 16, "export": False}
FOLDED = ("fixmatch", "twin-weak", "twin-strong")


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose twins learn much faster than the method does in so few steps."""
    home = tmp_path_factory.mktemp("keep") / "run"
    return fit("sample:digits", home, **QUICK, labels=4, method="fixmatch", settings={"weight": "100"})


def test_few_labels_are_held_out_in_turn_and_the_best_arm_is_shipped(folded: Run) -> None:
    found, choices = folded.read("keep.json"), folded.config["choices"]
    assert (choices["judge"], choices["folds"], choices["share"]) == ("folds", 5, 0.5) and found["labels"] == 40
    arms = {p.name for p in (folded / "arms").iterdir()}
    assert arms == {*FOLDED, *(f"{a}-fold-{k}" for a in FOLDED for k in range(1, 6))}
    assert found["kept"] == max(FOLDED, key=lambda a: (found["arms"][a][0], a == "fixmatch"))
    kept = json.loads((folded / "arms" / found["kept"] / "net.json").read_text())
    assert json.loads((folded / "net.json").read_text())["sha256"] == kept["sha256"]
    assert folded.read("evaluation.json")["main"] == folded.kept == found["kept"]


def test_fold_networks_answer_labels_that_they_did_not_see(folded: Run) -> None:
    """The accuracy in keep.json is counted again from the stored networks and the folds' definition."""


    data = Dataset.load(folded / "data")
    rows = np.flatnonzero(data.cls >= 0)
    fold = assign(data.cls[rows], data.ids[rows], 5, 0)
    pixels, right = images_of(folded, data), 0
    for k in range(5):
        net = files.load(folded / "arms" / f"twin-weak-fold-{k + 1}")[0].eval()
        for row in rows[fold == k]:
            x = torch.from_numpy(square(pixels.image(int(row)), 16, 1)).permute(2, 0, 1)[None].float() / 255
            with torch.no_grad():
                right += int(net(x).logits.argmax()) == data.cls[row]
    assert right / len(rows) == pytest.approx(folded.read("keep.json")["arms"]["twin-weak"][0], abs=0.026)


def test_the_page_and_the_measures_speak_of_the_arm_that_is_shipped(folded: Run) -> None:
    page, kept = (folded / "report.html").read_text(), folded.kept
    assert "Which arm was kept" in page and "How right its own labels are" in page and "unlabelled images" in page
    guesses = folded.read("keep.json")["guesses"]
    assert guesses["looked"] == 40 and sum(c["believed"] for c in guesses["classes"]) == guesses["believed"]
    assert "59 are needed" in guesses["bound"]
    if kept != "fixmatch":
        found = folded.read("evaluation.json")
        assert found["gain"]["over"] == "fixmatch" and "which was not kept" in page
    assert evaluate(folded.folder)["main"] == kept


def test_many_labels_are_held_out_once_and_opened_once(tmp_path: Path) -> None:
    run = fit("sample:digits", tmp_path / "run", **QUICK, method="fixmatch", folds=0)
    assert run.config["choices"]["judge"] == "held-out" and run.config["choices"]["folds"] == 0
    found = run.read("keep.json")
    assert found["labels"] > 200 and found["from"] == "held-out labels" and len(found["arms"]) == 3
    assert [o["reason"] for o in Vault.load(run / "vault").openings].count(
        "which arm to keep, from held-out labels"
    ) == 1


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"labels": 1}, "with one label a class none can be held out"),
        ({"labels": 3, "judge": "none"}, "that was asked for"),
        ({"labels": 3, "twins": "none"}, "no other arm was trained"),
    ],
)
def test_where_nothing_is_compared_the_reason_is_said(asked: dict[str, Any], why: str, tmp_path: Path) -> None:
    said: list[str] = []

    class Heard(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    run = fit("sample:digits", tmp_path / "run", Heard(), **{**QUICK, "steps": 2, "method": "fixmatch", **asked})
    assert run.kept == "fixmatch" and f"fixmatch was kept without a comparison: {why}." in said
    assert not list((run / "arms").glob("*-fold-*"))


def test_too_few_labels_for_a_bound_on_wrong_guesses_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(NeedsError, match=r"40 labels cannot hold the share of wrong guesses to 5 %") as error:
        fit("sample:digits", tmp_path / "run", **QUICK, labels=4, method="fixmatch", settings={"trust": "risk"})
    assert "59 labels" in error.value.fix and not (tmp_path / "run" / "arms").exists()


def test_the_confidence_that_folds_allow_is_settled_before_training(tmp_path: Path) -> None:
    asked = {"trust": "risk:share=0.6,level=0.6"}
    given = {**QUICK, "steps": 60, "twins": "none", "labels": 10, "method": "fixmatch", "settings": asked}
    run = fit("sample:digits", tmp_path / "run", **given)
    trust = run.config["settings"]["trust"]
    assert trust.startswith("risk:share=0.6,level=0.6,tau=0.") and "Out of fold: " in run.config["why"][-1]
    assert fit("sample:digits", tmp_path / "run", **given).config["settings"]["trust"] == trust


def test_a_trust_rule_gets_the_lowest_confidence_that_holds_or_a_refusal() -> None:
    method = FixMatch(trust="risk:share=0.05")
    sure = np.linspace(2, 8, 100)
    logits = np.stack([sure, np.zeros(100)], 1).astype(np.float32)
    config: dict[str, Any] = {"method": "fixmatch", "settings": {}, "why": []}
    cls = np.zeros(100, np.int64)
    assert settle(method, Unseen(cls, {"fixmatch": logits}, False), config)
    lowest = 0.8807970779778823  # 1 / (1 + exp(-2))
    assert config["settings"]["trust"] == f"risk:share=0.05,tau={round(lowest, 6)}"
    assert not settle(FixMatch(trust=config["settings"]["trust"]), Unseen(cls, {}, False), config)
    cls[-30:] = 1  # the surest are wrong
    with pytest.raises(NeedsError, match="surest guesses are wrong"):
        settle(method, Unseen(cls, {"fixmatch": logits}, False), config)
