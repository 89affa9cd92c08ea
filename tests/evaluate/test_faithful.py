"""Faithfulness grades on networks whose answer is known, against loops, closed forms and a sparse solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from modicum.core.errors import DataError
from modicum.evaluate import faithful
from modicum.evaluate.sanity import random_maps

H, W = 6, 5


def toy(n: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, 2, H, W)).astype(np.float32), rng.random((n, H, W)), np.arange(n) % 2


def share(images: np.ndarray) -> np.ndarray:
    """A network whose probability of class 0 is the images' mean."""
    y = images.mean((1, 2, 3))
    return np.stack([y, 1 - y], 1)


def test_places_are_ranks_and_ties_fall_alike_in_every_image() -> None:
    _, maps, _ = toy()
    found = faithful.places(maps)
    for m, p in zip(maps, found):
        assert (m.ravel()[np.argsort(p.ravel())] == np.sort(m.ravel())[::-1]).all()
    flat = faithful.places(np.zeros((3, 20, 20)))
    assert (flat == flat[0]).all() and sorted(flat[0].ravel()) == list(range(400))
    assert np.abs(np.corrcoef(flat[0].ravel(), np.arange(400))[0, 1]) < 0.2, "not in reading order"
    assert (faithful.places(np.zeros((1, 20, 20)), seed=1) != flat[:1]).any()


def test_deletion_and_insertion_are_loops_over_steps() -> None:
    images, maps, targets = toy()
    gone = faithful.deletion(share, images, maps, targets, 7, fill=0.25, batch=4)
    back = faithful.insertion(share, images, maps, targets, 7, batch=5)
    soft = np.stack([[ndimage.gaussian_filter(c, 5, radius=5, mode="nearest") for c in i] for i in images])
    for i in range(3):
        order = np.argsort(-maps[i].ravel())
        removed, shown = images[i].reshape(2, -1).copy(), soft[i].reshape(2, -1).copy()
        for s in range(8):
            k = round(s * H * W / 7)
            removed[:, order[:k]] = 0.25
            shown[:, order[:k]] = images[i].reshape(2, -1)[:, order[:k]]
            for curve, x in ((gone, removed), (back, shown)):
                assert curve.probs[i, s] == pytest.approx(share(x.reshape(1, 2, H, W))[0, targets[i]], abs=1e-6)
                assert curve.shares[s] == k / (H * W)
        for curve in (gone, back):
            area = sum(
                (curve.shares[s + 1] - curve.shares[s]) * (curve.probs[i, s] + curve.probs[i, s + 1]) / 2
                for s in range(7)
            )
            assert curve.area[i] == pytest.approx(area)


def test_all_steps_go_through_the_network_in_few_calls_and_an_image_alone_grades_alike() -> None:
    images, maps, targets = toy()
    sizes: list[int] = []

    def counted(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return share(x)

    both = faithful.deletion(counted, images, maps, targets, 49, batch=128)
    assert sizes == [128, 22]
    assert (faithful.deletion(share, images[1:2], maps[1:2], targets[1:2], 49).probs == both.probs[1:2]).all()
    graded = faithful.road(share, images, maps, targets)
    alone = faithful.road(share, images[1:2], maps[1:2], targets[1:2])
    assert alone.score == pytest.approx(graded.score[1:2], abs=1e-6)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_a_sparse_map_loses_exactly_k_pixels(quantile: float) -> None:
    """The trap: cut at a percentile's value, a map of few non-zero pixels loses every pixel at once."""
    seen: list[np.ndarray] = []

    def watch(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return share(x)

    maps = np.zeros((1, 30, 30))
    maps[0, 3, 4:9] = [1, 2, 3, 4, 5]
    images = np.full((1, 1, 30, 30), 0.5, np.float32) + np.random.default_rng(0).random((1, 1, 30, 30), np.float32) / 9
    faithful.road(watch, images, maps, np.array([0]), (quantile,))
    (x,) = seen
    gone = (x != images[[0, 0]])[:, 0]
    assert gone.sum((1, 2)).tolist() == [round(900 * quantile)] * 2
    assert gone[0, 3, 4:9].all() and (quantile == 0.9 or not gone[1, 3, 4:9].any())


def exact(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """One colour (H,W): each unknown pixel the weighted mean of its neighbours, as a sparse system."""
    height, width = known.shape
    rows, right = sparse.lil_matrix((known.size, known.size)), np.zeros(known.size)
    for y, x in np.ndindex(height, width):
        me = y * width + x
        rows[me, me] = 1
        if known[y, x]:
            right[me] = image[y, x]
            continue
        near = [
            (y + a, x + b, (1 / 6 if a * b == 0 else 1 / 12))
            for a in (-1, 0, 1)
            for b in (-1, 0, 1)
            if (a, b) != (0, 0)
        ]
        near = [(v, u, w) for v, u, w in near if 0 <= v < height and 0 <= u < width]
        for v, u, w in near:
            rows[me, v * width + u] = -w / sum(n[2] for n in near)
    return spsolve(rows.tocsr(), right).reshape(height, width)


@pytest.mark.parametrize("size", [(9, 12), (2, 7), (1, 5)])
def test_imputation_ends_in_the_solution_of_the_sparse_system(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((4, 2, *size)).astype(np.float32)
    known = rng.random((4, *size)) < np.array([0.8, 0.5, 0.2, 0.1])[:, None, None]
    known[:, 0, 0] = True
    found = faithful.imputed(images, known, rounds=300)
    for i, c in np.ndindex(4, 2):
        assert found[i, c] == pytest.approx(exact(images[i, c], known[i]), abs=2e-5)


def test_few_rounds_are_near_the_solution_also_across_large_holes() -> None:
    rng = np.random.default_rng(1)
    image = ndimage.gaussian_filter(rng.random((48, 48)), 3).astype(np.float32)
    image = (image - image.min()) / (image.max() - image.min())
    y, x = np.mgrid[:48, :48]
    known = np.hypot(y - 20, x - 25) > 18
    error = np.abs(faithful.imputed(image[None, None], known[None])[0, 0] - exact(image, known))
    assert error.max() < 0.02 and error.mean() < 0.002, "against noise of 0.01 and colours of 0 to 1"


def test_imputation_of_all_and_of_nothing() -> None:
    images, _, _ = toy(1)
    assert (faithful.imputed(images, np.ones((1, H, W), bool)) == images).all()
    assert not faithful.imputed(images, np.zeros((1, H, W), bool)).any()
    flat = np.full((1, 1, 9, 9), 0.7, np.float32)
    known = np.zeros((1, 9, 9), bool)
    known[0, 4, 4] = True
    assert faithful.imputed(flat, known) == pytest.approx(flat, abs=1e-5)


def test_road_is_the_mean_half_difference_and_a_random_map_scores_0() -> None:
    images, maps, targets = toy(8)
    found = faithful.road(share, images, maps, targets, (0.2, 0.5), batch=7)
    assert found.score == pytest.approx(((found.least - found.most) / 2).mean(1))
    opposite = faithful.road(share, images, -maps, targets, (0.2, 0.5))
    assert opposite.score == pytest.approx(-found.score, abs=1e-6)
    whole = faithful.road(share, images, maps, targets, (0.0,))
    want = share(images)[np.arange(8), targets][:, None]
    assert whole.most == pytest.approx(want) and whole.least == pytest.approx(want)


def test_a_networks_true_weights_beat_chance_in_every_grade() -> None:
    """Digits and logistic regression: pixel times weight is what the network relies on, exactly."""
    data = load_digits()
    model = LogisticRegression(max_iter=300).fit(data.data[300:1000] / 16, data.target[300:1000])
    images = (data.data[:80] / 16).reshape(-1, 1, 8, 8).astype(np.float32)

    def predict(x: np.ndarray) -> np.ndarray:
        return model.predict_proba(x.reshape(len(x), -1))

    targets = predict(images).argmax(1)
    true = images[:, 0] * model.coef_[targets].reshape(-1, 8, 8)
    chance = random_maps(80, (8, 8))
    good, bad = (faithful.deletion(predict, images, m, targets, 32).area.mean() for m in (true, chance))
    assert good < bad - 0.1
    good, bad = (faithful.insertion(predict, images, m, targets, 32).area.mean() for m in (true, chance))
    assert good > bad + 0.1
    good, bad = (faithful.road(predict, images, m, targets).score.mean() for m in (true, chance))
    assert good > bad + 0.1 and abs(bad) < 0.05


def test_drop_and_increase_by_hand() -> None:
    y, o = np.array([0.5, 0.8, 0.2, 0.0]), np.array([0.25, 0.9, 0.2, 0.3])
    assert faithful.drop(y, o) == pytest.approx([0.5, 0, 0, 0]), "divided by y: half of it is lost, not a quarter"
    assert faithful.increase(y, o) == 0.5


def test_masked_images_are_scaled_by_the_scaled_map() -> None:
    images, maps, _ = toy()
    heat = (maps - maps.min((1, 2), keepdims=True)) / np.ptp(maps, (1, 2), keepdims=True)
    assert faithful.masked(images, 7 * maps - 3) == pytest.approx(images * heat[:, None], abs=1e-6)


def test_adcc_is_the_harmonic_mean_of_its_three_parts() -> None:
    _, maps, _ = toy()
    again = maps + 0.3 * random_maps(3, (H, W))
    y, o = np.array([0.5, 0.5, 0.5]), np.array([0.4, 0.6, 0.0])
    found = faithful.adcc(maps, again, y, o)
    for i in range(2):
        likeness = (np.corrcoef(maps[i].ravel(), again[i].ravel())[0, 1] + 1) / 2
        complexity = ((maps[i] - maps[i].min()) / np.ptp(maps[i])).mean()
        parts = [likeness, 1 - complexity, 1 - max(0, y[i] - o[i]) / y[i]]
        assert found[i] == pytest.approx(3 / sum(1 / p for p in parts))
    assert found[2] == 0, "all of the probability is lost"
    assert faithful.coherency(maps[:1], maps[:1]) == pytest.approx(1)
    assert faithful.coherency(maps[:1], 0 * maps[:1]) == 0.5


def test_errors_say_what_does_not_fit() -> None:
    images, maps, targets = toy()
    with pytest.raises(DataError, match="maps at the images' size"):
        faithful.deletion(share, images, maps[:, :3], targets)
    with pytest.raises(DataError, match="one row"):
        faithful.deletion(lambda x: share(x)[:1], images, maps, targets)
    maps[2, 0, 0] = np.inf
    with pytest.raises(DataError, match="image 2"):
        faithful.road(share, images, maps, targets)
