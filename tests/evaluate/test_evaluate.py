"""The content of evaluation.json: the rule for the twin, the verdict, and what is not known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modicum.core.errors import DataError
from modicum.evaluate import metrics
from modicum.evaluate.calibration import Temperature
from modicum.evaluate.evaluate import evaluate
from modicum.evaluate.intervals import paired
from modicum.evaluate.sheet import WORDS

from .test_metrics import draw

NAMES = ("a", "b", "c", "d")


def arms(n: int = 400) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A good arm and two twins, the weak one better on these images."""
    rng = np.random.default_rng(1)
    cls = rng.integers(0, 4, n)
    out = {}
    for name, skill in (("fixmatch", 3.0), ("twin-weak", 1.5), ("twin-strong", 1.0)):
        z = rng.normal(size=(n, 4))
        z[np.arange(n), cls] += skill
        out[name] = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return out, cls


def test_is_json_and_says_better() -> None:
    given, cls = arms()
    references = {"majority": np.full((400, 4), 0.25)}
    found = evaluate(given, cls, NAMES, main="fixmatch", baselines=references, labels_from="the split")
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found
    right = {n: p.argmax(1) == cls for n, p in given.items()}
    assert found["gain"]["accuracy"] == pytest.approx(list(paired(right["fixmatch"], right["twin-weak"])))
    assert set(found["gain"]["all"]) == {"twin-weak", "twin-strong"} and found["gain"]["harshest"] == "twin-weak"
    assert found["gain"]["only_main"] - found["gain"]["only_twin"] == round(400 * found["gain"]["accuracy"][0])
    assert found["verdict"]["word"] == "better" and "+" in found["verdict"]["sentence"]
    assert {n: a["role"] for n, a in found["arms"].items()} == {
        "fixmatch": "main", "twin-weak": "twin", "twin-strong": "twin", "majority": "baseline",
    }  # fmt: skip
    for name, value in metrics.measure(given["fixmatch"], cls).items():
        assert found["arms"]["fixmatch"][name][0] == pytest.approx(value)
    assert np.sum(found["confusion"]) == 400 == sum(r["support"] for r in found["per_class"])
    assert found["test"]["labels_from"] == "the split"


def test_the_twin_is_chosen_by_rule() -> None:
    given, cls = arms()
    scores = {"twin-weak": 0.5, "twin-strong": 0.6}
    scored = evaluate(given, cls, NAMES, main="fixmatch", scores=scores, better="twin-weak")
    assert scored["twin"]["name"] == "twin-strong" and scored["gain"]["harshest"] == "twin-weak"
    told = evaluate(given, cls, NAMES, main="fixmatch", better="twin-strong", better_why="it was so elsewhere")
    assert told["twin"] == {"name": "twin-strong", "why": "it was so elsewhere", "scores": None}
    left = evaluate(given, cls, NAMES, main="fixmatch")
    assert left["twin"]["name"] == "twin-weak" and "harshest" in left["twin"]["why"]
    with pytest.raises(DataError, match="twin-strong"):
        evaluate(given, cls, NAMES, main="fixmatch", better="twin-stong")


def test_worse_equal_and_alone() -> None:
    given, cls = arms()
    word = {}
    word["worse"] = evaluate({"m": given["twin-strong"], "twin-a": given["fixmatch"]}, cls, NAMES, main="m")
    word["not distinguishable"] = evaluate({"m": given["fixmatch"], "twin-a": given["fixmatch"]}, cls, NAMES, main="m")
    word["not compared"] = evaluate({"m": given["fixmatch"]}, cls, NAMES, main="m")
    for expected, found in word.items():
        assert found["verdict"]["word"] == expected and expected in WORDS
    assert word["not compared"]["gain"] is None


def test_unlabelled_rows_are_left_out_and_none_is_a_verdict() -> None:
    given, cls = arms()
    part = np.where(np.arange(400) < 250, cls, -1)
    found = evaluate(given, part, NAMES, main="fixmatch")
    head = evaluate({k: v[:250] for k, v in given.items()}, cls[:250], NAMES, main="fixmatch")
    assert found["arms"] == head["arms"] and found["test"]["unlabelled"] == 150
    refused = Temperature(1.0, 0, "not calibrated: none")
    none = evaluate(given, np.full(400, -1), NAMES, main="fixmatch", calibrated=refused)
    assert none["verdict"]["word"] == WORDS[-1] and none["arms"] == {} and none["gain"] is None
    assert none["calibration"]["temperature"]["note"] == "not calibrated: none"


def test_temperature_is_applied() -> None:
    probs, cls = draw(300, 4)
    sharp = probs**3 / (probs**3).sum(1, keepdims=True)
    found = evaluate({"m": sharp}, cls, NAMES, main="m", calibrated=Temperature(3.0, 100))
    assert found["calibration"]["after"]["nll"][0] == pytest.approx(metrics.nll(probs, cls))
    refused = evaluate({"m": sharp}, cls, NAMES, main="m", calibrated=Temperature(1.0, 0, "too few"))
    assert refused["calibration"]["after"] is None and refused["calibration"]["curve"]


def test_the_surest_mistakes_are_listed_by_row() -> None:
    given, cls = arms()
    part = np.where(np.arange(400) % 2 == 0, cls, -1)
    found = evaluate(given, part, NAMES, main="fixmatch", rows=np.arange(400) + 1000, resamples=10)["mistakes"]
    probs = given["fixmatch"]
    slow = [(-probs[i].max(), i) for i in range(0, 400, 2) if probs[i].argmax() != cls[i]]
    assert [m["row"] - 1000 for m in found["first"]] == [i for _, i in sorted(slow)][:100]
    assert found["wrong"] == len(slow) and found["sure"] == sum(s <= -0.95 for s, _ in slow)
    assert all(m["said"] != m["true"] == cls[m["row"] - 1000] for m in found["first"])


def test_accuracy_without_copies_of_training_images() -> None:
    given, cls = arms()
    probs, copied = given["fixmatch"], np.arange(400) < 150
    part = np.where(np.arange(400) % 3 == 0, -1, cls)
    found = evaluate(given, part, NAMES, main="fixmatch", copied=copied, resamples=50)["copies"]
    others = [i for i in range(150, 400) if i % 3]
    right = sum(int(probs[i].argmax() == cls[i]) for i in others) / len(others)
    assert found["images"] == 100 and found["others"] == len(others)
    value, low, high = found["accuracy"]
    assert value == pytest.approx(right) and low < right < high
    many = f"100 of {100 + len(others)} test images are near-duplicates of training images"
    assert found["sentence"].startswith(f"{many}; without them the accuracy is {100 * right:.1f} %")
    every = evaluate(given, cls, NAMES, main="fixmatch", copied=np.ones(400, bool), resamples=5)["copies"]
    assert every["accuracy"] is None and every["others"] == 0 and every["sentence"].endswith("training images.")
    none = evaluate(given, cls, NAMES, main="fixmatch", copied=np.zeros(400, bool), resamples=5)["copies"]
    assert none["images"] == 0 and "without" not in none["sentence"]
    assert evaluate(given, cls, NAMES, main="fixmatch", resamples=5)["copies"] is None


def test_wrong_shapes_and_names_are_refused() -> None:
    given, cls = arms()
    with pytest.raises(DataError, match="fixmatch"):
        evaluate(given, cls, NAMES, main="fixmatsh")
    with pytest.raises(DataError, match="twin-weak"):
        evaluate({**given, "twin-weak": given["twin-weak"][:, :3]}, cls, NAMES, main="fixmatch")
