"""Dawid-Skene against EM written as plain loops, and on annotators whose habits are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from modicum.core.dataset import HUMAN, MODEL, Table
from modicum.core.errors import NeedsError
from modicum.functional.votes import votes_of
from modicum.methods.crowd.dawid_skene import DawidSkene
from modicum.methods.crowd.majority import Majority

from .toy import crowd, everything, voted

NOBODY = np.full(40, -1)


def slow(
    votes: list[tuple[int, int, int]], tasks: int, people: int, classes: int, off: float, diagonal: float, rounds: int
) -> tuple[list[list[float]], list[float]]:
    """Posterior and bounds, one vote at a time."""
    post = [[0.0] * classes for _ in range(tasks)]
    for t, _, label in votes:
        post[t][label] += 1
    post = [[v / sum(row) for v in row] for row in post]
    bounds = []
    for _ in range(rounds):
        prior = [sum(post[t][k] for t in range(tasks)) / tasks for k in range(classes)]
        e = [[[diagonal if k == j else off for j in range(classes)] for k in range(classes)] for _ in range(people)]
        for t, w, label in votes:
            for k in range(classes):
                e[w][k][label] += post[t][k]
        e = [[[v / sum(row) for v in row] for row in person] for person in e]
        bound = sum(
            (diagonal if k == j else off) * math.log(e[w][k][j])
            for w in range(people) for k in range(classes) for j in range(classes)
        )  # fmt: skip
        for t in range(tasks):
            joint = [prior[k] * math.prod(e[w][k][label] for s, w, label in votes if s == t) for k in range(classes)]
            post[t] = [j / sum(joint) for j in joint]
            bound += sum(
                q * (math.log(j) - math.log(q)) for q, j in zip(post[t], joint) if q > 0
            )  # the bound as it is defined, not the evidence it equals
        bounds.append(bound)
    return post, bounds


def test_em_is_that_of_plain_loops() -> None:
    task, annotator, label, _ = crowd([0.9, 0.8, 0.6, 0.4, 0.3], 40, 3, 3)
    votes = votes_of(everything(voted(task, annotator, label, 40, 3)))
    found = DawidSkene(off=0.2, diagonal=1.5, rounds=7, tol=0).fit(votes, NOBODY)
    post, bounds = slow(list(zip(task, annotator, label)), 40, 5, 3, 0.2, 1.5, 7)
    assert np.allclose(found.post, post, atol=1e-10) and np.allclose(found.bounds, bounds, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_never_falls(seed: int) -> None:
    task, annotator, label, _ = crowd([0.9, 0.7, 0.4, 0.3, 0.2], 40, 4, 3, seed)
    found = DawidSkene(rounds=60, tol=0).fit(votes_of(everything(voted(task, annotator, label, 40, 4))), NOBODY)
    assert (np.diff(found.bounds) >= -1e-9).all() and found.bounds[-1] > found.bounds[0]
    assert np.allclose(found.post.sum(1), 1) and np.allclose(found.confusion.sum(2), 1)


def test_planted_annotators_are_found_and_beat_the_majority() -> None:
    skills = [0.95, 0.9, 0.6, 0.5, 0.4, 0.4, 0.35]
    task, annotator, label, truth = crowd(skills, 600, 3, 5, seed=1)
    data = voted(task, annotator, label, 600, 3)
    ours, theirs = (data + m.label(everything(data)) for m in (DawidSkene(), Majority()))
    assert (ours.cls == truth).mean() > (theirs.cls == truth).mean() + 0.05
    found = DawidSkene().fit(votes_of(everything(data)), np.full(600, -1))
    right = np.einsum("wkk,k->w", found.confusion, found.prior)
    assert np.abs(right - skills).max() < 0.1


def test_spammers_are_ignored_and_liars_are_used() -> None:
    task, annotator, label, truth = crowd([0.85, 0.85, 0.85, 0.5, 0.5, 0.05], 400, 2, 6, seed=2)
    spam = (annotator == 3) | (annotator == 4)
    label[spam] = 0
    found = DawidSkene().fit(votes_of(everything(voted(task, annotator, label, 400, 2))), np.full(400, -1))
    assert np.abs(found.confusion[3:5, 0] - found.confusion[3:5, 1]).max() < 0.05
    assert (np.diag(found.confusion[5]) < 0.2).all()
    counts = np.zeros((400, 2))
    np.add.at(counts, (task, label), 1)
    assert (found.post.argmax(1) == truth).mean() > (counts.argmax(1) == truth).mean() + 0.03
    honest = annotator < 3
    few = voted(task[honest], annotator[honest], label[honest], 400, 2)
    alone = DawidSkene().fit(votes_of(everything(few)), np.full(400, -1))
    assert (found.post.argmax(1) == truth).mean() > (alone.post.argmax(1) == truth).mean()


def test_the_order_of_votes_and_the_numbers_of_annotators_do_not_matter() -> None:
    task, annotator, label, _ = crowd([0.9, 0.7, 0.6, 0.5], 40, 3, 3)
    order, names = np.random.default_rng(0).permutation(len(task)), np.array([3, 0, 2, 1])
    one = DawidSkene().label(everything(voted(task, annotator, label, 40, 3)))
    other = DawidSkene().label(everything(voted(task[order], names[annotator[order]], label[order], 40, 3)))
    assert np.allclose(one.columns["probs"], other.columns["probs"], atol=1e-6)
    again = DawidSkene().label(everything(voted(task, annotator, label, 40, 3)))
    assert np.array_equal(one.columns["probs"], again.columns["probs"]) and one.version == again.version


@pytest.mark.parametrize("method", [DawidSkene(), Majority()])
def test_the_delta_speaks_of_voted_images_that_no_person_labelled(method: DawidSkene | Majority) -> None:
    task, annotator, label = np.array([0, 0, 1, 1, 4, 3]), np.array([0, 1, 0, 1, 0, 1]), np.array([1, 1, 0, 2, 2, -1])
    data = voted(task, annotator, label, 5, 3, np.array([-1, 2, -1, -1, -1]))
    after = data + method.label(everything(data))
    assert after.cls.tolist() == [1, 2, -1, -1, 2]
    assert (~np.isnan(after.columns["probs"]).any(1)).tolist() == [True, False, False, False, True]
    assert after.columns["probs"][[0, 4]].argmax(1).tolist() == [1, 2]
    new = after.of_kind("class").slice(1)
    assert (after.who()[[k == "class" for k in after.annotations["kind"].to_pylist()]] == [HUMAN, MODEL, MODEL]).all()
    assert np.allclose(new["confidence"].to_numpy(), after.columns["probs"][[0, 4]].max(1))
    assert np.array_equal(after.resolve().cls, after.cls)


def test_labelling_again_replaces_what_a_model_said_and_not_what_people_said() -> None:
    task, annotator, label, _ = crowd([0.9, 0.7, 0.6], 6, 2, 2)
    given = np.full((6, 2), np.nan, np.float32)
    given[0] = [0.25, 0.75]
    data = voted(task, annotator, label, 6, 2).with_column("probs", given)
    first = data + Majority().label(everything(data))
    second = first + DawidSkene().label(everything(first))
    assert second.columns["probs"][0].tolist() == [0.25, 0.75] and 0 not in second.of_kind("class")["row"].to_pylist()
    alone = voted(task, annotator, label, 6, 2)
    wanted = (alone + DawidSkene().label(everything(alone))).columns["probs"]
    assert np.array_equal(second.columns["probs"][1:], wanted[1:])


def test_only_votes_on_the_rows_of_the_table_count() -> None:
    task, annotator, label, _ = crowd([0.9, 0.7, 0.6, 0.5], 20, 3, 3)
    data = voted(task, annotator, label, 20, 3)
    mine = task < 12
    part = DawidSkene().label(Table(data, np.arange(12)))
    alone = DawidSkene().label(everything(voted(task[mine], annotator[mine], label[mine], 12, 3)))
    assert np.array_equal(part.columns["probs"][:12], alone.columns["probs"])
    assert np.isnan(part.columns["probs"][12:]).all()


def test_images_without_votes_take_the_prior_and_known_classes_are_fixed() -> None:
    task, annotator, label, truth = crowd([0.8, 0.7, 0.2], 40, 2, 3)
    votes = votes_of(everything(voted(task[9:], annotator[9:], label[9:], 40, 2)))
    found = DawidSkene().fit(votes, NOBODY)
    assert np.allclose(found.post[:3], found.prior)
    gold = np.where(np.arange(40) < 20, truth, -1)
    fixed = DawidSkene(tol=0, rounds=30).fit(votes, gold)
    assert np.array_equal(fixed.post[:20].argmax(1), truth[:20]) and set(fixed.post[:20].max(1)) == {1.0}
    assert (np.diff(fixed.bounds) >= -1e-9).all()
    deaf = DawidSkene(people=False).label(everything(voted(task, annotator, label, 40, 2, gold)))
    alone = DawidSkene().label(everything(voted(task, annotator, label, 40, 2)))
    assert np.array_equal(deaf.columns["probs"][20:], alone.columns["probs"][20:])


@pytest.mark.parametrize(("off", "diagonal"), [(0.0, 0.0), (0.0, 1.0), (100.0, 100.0)])
def test_extremes_stay_finite(off: float, diagonal: float) -> None:
    method = DawidSkene(off=off, diagonal=diagonal, rounds=5)
    for task, annotator, label in (([0], [0], [1]), ([0, 1, 1], [0, 0, 0], [2, 2, 2]), ([0, 0], [0, 1], [0, 1])):
        data = voted(np.array(task), np.array(annotator), np.array(label), 3, 3)
        after = data + method.label(everything(data))
        known = after.columns["probs"][after.known("class")]
        assert np.isfinite(known).all() and np.allclose(known.sum(1), 1, atol=1e-6)


def test_no_vote_at_all_is_refused() -> None:
    data = voted(np.array([0]), np.array([0]), np.array([1]), 3, 2)
    with pytest.raises(NeedsError, match="none of 2 images has a vote"):
        DawidSkene().label(Table(data, np.array([1, 2])))


@pytest.mark.parametrize(("name", "least"), [("bluebird", 0.88), ("dog", 0.835), ("labelme", 0.785)])
def test_real_crowds(shared_data: Path, name: str, least: float) -> None:
    votes = pq.read_table(shared_data / "crowd" / f"{name}_votes.parquet")
    task, annotator, label = (votes[c].to_numpy().astype(np.int64) for c in ("item", "worker", "label"))
    truth = np.zeros(task.max() + 1, np.int64)
    if "truth" in votes.schema.names:
        truth[task] = votes["truth"].to_numpy()
    else:
        file = shared_data / "crowd" / "labelme_vgg16_avgpool.npz"
        truth = np.load(file, allow_pickle=False)["y_train"].astype(np.int64)
    data = voted(task, annotator, label, len(truth), int(max(truth.max(), label.max())) + 1)
    ours, theirs = ((data + m.label(everything(data))).cls for m in (DawidSkene(), Majority()))
    assert (ours == truth).mean() >= least and (ours == truth).mean() > (theirs == truth).mean() + 0.02


