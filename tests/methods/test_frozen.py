"""Classifiers on frozen features: against scikit-learn and a plain loop, through files, and through all of `fit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from modicum.core import registry
from modicum.core.errors import ModelError, NeedsError
from modicum.core.kinds import Fact, facts
from modicum.core.plan import plan
from modicum.core.program import Change, Collect
from modicum.deploy.export import export
from modicum.engine.fit import fit
from modicum.engine.loop import Loop
from modicum.functional.linear import fit_linear
from modicum.models import files
from modicum.models.doors import make
from modicum.nn.probe import FLOOR, Neighbours, neighbours_head, probe_head
from modicum.testing import toy
from modicum.testing.case import Case


def examples(rows: int = 60, inside: int = 12, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    cls = rng.integers(0, classes, rows)
    return rng.normal(size=(rows, inside)) + np.eye(classes, inside)[cls], cls


@pytest.mark.parametrize("inside", [12, 90], ids=["more examples", "more features"])
@pytest.mark.parametrize("c", [0.1, 1.0, 100.0])
def test_the_svm_is_that_of_liblinear(c: float, inside: int) -> None:
    x, cls = examples(inside=inside)
    weight, bias = fit_linear(torch.from_numpy(x), torch.from_numpy(cls), 4, c=c)
    theirs = LinearSVC(C=c, dual=False, tol=1e-10, max_iter=10**5).fit(x, cls)
    np.testing.assert_allclose(weight, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(bias, theirs.intercept_, atol=1e-5)


def test_balanced_classes_weigh_alike() -> None:
    x, cls = examples()
    kept = (cls > 0) | (np.arange(60) % 4 == 0)
    x, cls = x[kept], cls[kept]
    each = len(cls) / (4 * np.bincount(cls))[cls]
    weight, _ = fit_linear(torch.from_numpy(x), torch.from_numpy(cls), 4, balanced=True)
    theirs = LinearSVC(C=1.0, dual=False, tol=1e-10).fit(x, cls, sample_weight=each)
    np.testing.assert_allclose(weight, theirs.coef_, atol=1e-5)
    assert not np.allclose(weight, fit_linear(torch.from_numpy(x), torch.from_numpy(cls), 4)[0], atol=1e-3)


@pytest.mark.parametrize("c", [0.1, 100.0])
def test_logistic_regression_is_that_of_scikit_learn(c: float) -> None:
    x, cls = examples()
    weight, bias = fit_linear(torch.from_numpy(x), torch.from_numpy(cls), 4, loss="logistic", c=c)
    theirs = LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=10**4).fit(np.c_[x, np.ones(60)], cls)
    np.testing.assert_allclose(np.c_[weight, bias[:, None]], theirs.coef_, atol=1e-4)


def test_a_class_without_examples_and_a_single_example_have_a_solution() -> None:
    for loss in ("svm", "logistic"):
        weight, bias = fit_linear(torch.ones(1, 5), torch.tensor([2]), 4, loss=loss)
        logits = weight.sum(1) + bias
        assert logits.isfinite().all() and logits.argmax() == 2


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_votes_are_those_of_a_plain_loop(metric: str, weights: str) -> None:
    x, cls = (torch.from_numpy(a) for a in examples())
    head = Neighbours(70, 12, 4, k=7, metric=metric, weights=weights, temperature=0.2).double()
    head.add(x[:20], cls[:20])
    head.add(x[20:50], cls[20:50])
    found = head(x[50:]).softmax(1)
    scale = x[:50].square().sum(1).mean()
    for query, row in zip(x[50:], found):
        alike = []
        for kept in x[:50]:
            cosine = query @ kept / (query.norm() * kept.norm())
            alike.append(cosine if metric == "cosine" else -(query - kept).square().sum() / (2 * scale))
        votes = torch.zeros(4, dtype=torch.float64)
        for i in sorted(range(50), key=lambda i: -float(alike[i]))[:7]:
            votes[cls[i]] += 1 if weights == "uniform" else (alike[i] / 0.2).exp()
        shares = (votes / votes.sum()).clamp_min(FLOOR)
        assert torch.allclose(row, shares / shares.sum(), atol=1e-9)


def test_plain_neighbours_are_those_of_scikit_learn() -> None:
    x, cls = examples(200)
    head = Neighbours(150, 12, 4, k=5, metric="l2", weights="uniform").double()
    head.add(torch.from_numpy(x[:150]), torch.from_numpy(cls[:150]))
    theirs = KNeighborsClassifier(5).fit(x[:150], cls[:150]).predict_proba(x[150:])
    np.testing.assert_allclose(head(torch.from_numpy(x[150:])).softmax(1), theirs, atol=1e-5)


def test_as_near_as_the_last_vote_votes_too() -> None:
    head = Neighbours(3, 2, 3, k=1, weights="uniform")
    head.add(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 2]))
    shares = head(torch.tensor([[2.0, 0.1]])).softmax(1)[0]
    assert shares[:2].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)


def ran(name: str, **settings: Any) -> Loop:
    case = Case.open(name)
    loop = case.loop(method=case.method(**settings))
    loop.run()
    return loop


def seen(loop: Loop) -> tuple[torch.Tensor, np.ndarray]:
    """Features of the labelled toy images, and their classes."""
    rows = np.flatnonzero(loop.feed.data.cls >= 0)
    with torch.no_grad():
        pixels = next(iter(loop.feed.sweep(rows, len(rows))))["plain"]
        return loop.nets["net"].body(pixels), loop.feed.data.cls[rows]


def test_the_probe_is_the_svm_of_its_features_and_the_body_is_as_it_was() -> None:
    before = {k: v.clone() for k, v in Case.open("linear-probe").loop().nets["net"].state_dict().items()}
    loop = ran("linear-probe", C=3.0)
    features, cls = seen(loop)
    unit = (features / features.norm(dim=1, keepdim=True)).numpy()
    theirs = LinearSVC(C=3.0, dual=False, tol=1e-8, max_iter=10**5).fit(unit, cls)
    head = loop.nets["net"].head
    np.testing.assert_allclose(head.weight, theirs.coef_, atol=1e-3)
    np.testing.assert_allclose(head(features), theirs.decision_function(unit), atol=1e-3)
    after = loop.nets["net"].state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if not k.startswith("head."))


@pytest.mark.parametrize("name", ["linear-probe", "knn"])
def test_weak_views_are_further_examples(name: str) -> None:
    case = Case.open(name)
    program = case.loop(method=case.method(looks=2)).program
    passes = [p for p in program if isinstance(p, Collect)]
    assert [(p.stream.views, p.draw) for p in passes] == [(("plain",), 0), (("weak",), 1), (("weak",), 2)]
    assert [type(p) for p in program[3:]] == ([Change] if name == "linear-probe" else [])
    nets = ran(name, looks=2).nets
    memory = nets["memory"] if "memory" in nets else nets["net"].head
    plain, first, second = memory.features.chunk(3)
    assert (memory.cls >= 0).all() and torch.equal(*(memory.cls.chunk(3)[i] for i in (0, 2)))
    assert not torch.allclose(plain, first) and not torch.allclose(first, second)


@pytest.mark.parametrize("name", ["linear-probe", "knn"])
def test_there_and_back_and_into_onnx(name: str, tmp_path: Path) -> None:
    loop = ran(name)
    net = loop.method.deliver(loop.nets).eval()
    images = toy.pictures()[0][: toy.POOL]
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    meta = files.save(net, tmp_path, classes=toy.CLASSES)
    again, _ = files.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(x).logits, net(x).logits)
    assert type(again.head) is type(net.head) and again.spec == net.spec
    assert export(net, dict(meta), images, tmp_path / "m.onnx", runs=2)["largest_difference"] < 1e-4


def test_what_a_head_cannot_be_is_refused() -> None:
    size = {"classes": 3, "channels": 1, "side": 16}
    with pytest.raises(ModelError, match="norm 'l7'"):
        probe_head(make("tiny-conv", **size), "l7")
    with pytest.raises(ModelError, match="rows is not allowed"):
        neighbours_head(make("tiny-conv", **size), 0, 5, "cosine", "uniform", 0.1)
    with pytest.raises(ModelError, match="not linear"):
        probe_head(neighbours_head(make("tiny-conv", **size), 4, 5, "cosine", "uniform", 0.1))


def test_a_wrapper_of_steps_goes_around_no_program_without_any() -> None:
    case = Case.open("ema")
    with pytest.raises(NeedsError, match="takes none"):
        case.loop(method=case.cls.of({"inner": Case.open("knn").method()}))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to start from."""
    folder = tmp_path_factory.mktemp("weights")
    files.save(make("tiny-conv:width=4", classes=10, channels=1, side=16).eval(), folder)
    return folder / "net.safetensors"


QUICK: dict[str, Any] = {"net": "tiny-conv:width=4", "side": 16, "steps": 6, "labels": 3, "batch": 8, "export": False}


def test_fit_takes_no_step_and_its_twins_do(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "cache"))
    run = fit("sample:digits", tmp_path / "run", method="linear-probe", weights=str(weights), judge="none", **QUICK)
    assert [a["steps"] for a in run.config["arms"]] == [0, 6, 6] and run.config["choices"]["precision"] == "32-true"
    assert any("the method itself takes none" in w for w in run.config["why"])
    started, probed = (files.load(p)[0].state_dict() for p in (weights.parent, run.folder))
    assert all(torch.equal(started[k], probed[k]) for k in started if not k.startswith("head."))
    found = run.read("evaluation.json")["arms"]
    assert found["linear-probe"]["accuracy"][0] > 0.3 and set(found) >= {"twin-weak", "twin-strong"}
    assert fit(
        "sample:digits", run.folder, method="linear-probe", weights=str(weights), judge="none", **QUICK
    ).config == run.config  # fmt: skip


def test_an_interrupted_fit_of_passes_goes_on(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "cache"))
    asked = {**QUICK, "method": "knn", "weights": str(weights), "twins": "none", "settings": {"looks": 1}}
    whole, phase, passed = fit("sample:digits", tmp_path / "whole", **asked), Loop.phase, []

    def once(self: Loop, given: Any, number: int) -> None:
        if number == 1 and not passed:
            passed.append(number)
            raise KeyboardInterrupt
        phase(self, given, number)

    monkeypatch.setattr(Loop, "phase", once)
    with pytest.raises(KeyboardInterrupt):
        fit("sample:digits", tmp_path / "cut", **asked)
    assert list((tmp_path / "cut").glob("arms/knn/checkpoints/at-*"))
    cut = fit("sample:digits", tmp_path / "cut", **asked)
    one, other = (files.load(r.folder)[0].state_dict() for r in (whole, cut))
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_without_a_network_that_has_learned_something_it_is_refused_and_not_chosen(tmp_path: Path) -> None:
    with pytest.raises(NeedsError, match="has learned something; this one begins at random\nGive --weights"):
        fit("sample:digits", tmp_path / "run", method="knn")
    assert not (tmp_path / "run").exists()
    offered = plan(facts("image,class:some"), Fact.parse("net:class"), registry.cards()).chains
    names = {n for c in offered for s in c.steps for n in s.names}
    assert "supervised" in names and not names & {"knn", "linear-probe", "few-shot-tuning"}


HOSTILE = ({"rows": 5}, {"rows": 10**9}, {"k": 0}, {"metric": "angle"}, {"temperature": "warm"})


@pytest.mark.parametrize("changed", HOSTILE)
def test_a_page_that_tells_of_another_head_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    net = neighbours_head(make("tiny-conv", classes=3, channels=1, side=16), 4, 2, "cosine", "uniform", 0.1).eval()
    files.save(net, tmp_path)
    page = json.loads((tmp_path / "net.json").read_text())
    page["edits"][0].update(changed)
    (tmp_path / "net.json").write_text(json.dumps(page))
    with pytest.raises(ModelError):
        files.load(tmp_path)


def test_classes_that_there_are_not_have_no_vote() -> None:
    head = Neighbours(2, 2, 3, k=1)
    head.add(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([7, 1]))
    logits = head(torch.tensor([[1.0, 0.1], [0.1, 1.0]]))
    assert logits.isfinite().all() and logits[0].unique().numel() == 1 and logits[1].argmax() == 1
