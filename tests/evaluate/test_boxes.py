"""Average precision and its kin against a plain loop written from COCO's definition, and against closed forms."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modicum.core.errors import DataError
from modicum.evaluate import boxes as ev
from modicum.evaluate.boxes import Found, Truth, evaluate_boxes
from modicum.evaluate.intervals import wilson

NAMES = ("cat", "dog", "owl")
Box = tuple[float, float, float, float]


def scenes(n: int = 14, seed: int = 0, *, ties: bool = False) -> tuple[Found, Truth]:
    """Images with 0 to 5 objects, found boxes near them and elsewhere; some ignored, some not looked through; no owl
    in any of them, though owls are found."""
    luck = np.random.default_rng(seed)
    true, found = [], []
    for i in range(n):
        for _ in range(luck.integers(0, 6)):
            corner, side = luck.uniform(0, 60, 2), luck.uniform(8, 30, 2)
            cls, state = luck.choice([0, 1, -1], p=[0.5, 0.45, 0.05]), luck.random() < 0.85
            true.append([*corner, *(corner + side), cls, state, i])
            for _ in range(luck.integers(0, 4)):
                box = true[-1][:4] + luck.normal(0, 2, 4)
                said = cls if cls >= 0 and luck.random() < 0.8 else luck.integers(0, 3)
                found.append([*box, said, luck.random(), i])
        for _ in range(luck.integers(0, 4)):
            corner, side = luck.uniform(0, 60, 2), luck.uniform(8, 30, 2)
            found.append([*corner, *(corner + side), luck.integers(0, 3), luck.random(), i])
    t, f = np.array(true), np.array(found)[luck.permutation(len(found))]
    score = np.round(f[:, 5] * 4) / 4 if ties else f[:, 5]
    looked = luck.random((n, 3)) < 0.85
    size = np.full((n, 2), 90)
    truth = Truth(t[:, :4], t[:, 4].astype(int), t[:, 5].astype(int), t[:, 6].astype(int), looked, size)
    return Found(f[:, :4], f[:, 4].astype(int), score, f[:, 6].astype(int)), truth


def area(box: Box) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def both(a: Box, b: Box) -> float:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def plain_labels(
    found: Found, truth: Truth, cls: int, least: float, rows: list[int]
) -> tuple[list[tuple[float, bool]], int]:
    """COCO's loop: (score, right) of each box that counts, and the number of objects.  rows: images, some twice."""
    out, objects = [], 0
    for i in rows:
        if not truth.looked[i, cls]:
            continue
        given = [k for k in range(len(truth.cls)) if truth.image[k] == i and truth.cls[k] in (cls, -1)]
        crowd = {k: bool(truth.state[k] == 0 or truth.cls[k] == -1) for k in given}
        objects += sum(not crowd[k] for k in given)
        mine = [k for k in range(len(found.cls)) if found.image[k] == i and found.cls[k] == cls]
        taken: set[int] = set()
        for d in sorted(mine, key=lambda d: -found.score[d])[:100]:
            box, best, which = tuple(found.xyxy[d]), least, -1
            for k in sorted(given, key=lambda k: crowd[k]):
                if k in taken and not crowd[k]:
                    continue
                if which >= 0 and not crowd[which] and crowd[k]:
                    break
                other = tuple(truth.xyxy[k])
                common = both(box, other)
                share = common / area(box) if crowd[k] else common / (area(box) + area(other) - common)
                if share >= best:
                    best, which = share, k
            taken.add(which)
            if which < 0 or not crowd[which]:
                out.append((float(found.score[d]), which >= 0))
    return out, objects


def plain_ap(labels: list[tuple[float, bool]], objects: int, points: int | None = 101) -> float:
    """For each of 101 recalls the best precision at that recall or above, or the area under that staircase."""
    if not objects:
        return np.nan
    curve = []
    for cut in sorted({s for s, _ in labels}, reverse=True):
        right = [r for s, r in labels if s >= cut]
        curve.append((sum(right) / objects, sum(right) / len(right)))

    def best(least: float) -> float:
        return max((p for r, p in curve if r >= least - 1e-9), default=0.0)

    if points:
        return float(np.mean([best(k / (points - 1)) for k in range(points)]))
    return sum(best((k + 1) / objects) for k in range(objects)) / objects


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_agrees_with_the_plain_loop(ties: bool) -> None:
    found, truth = scenes(ties=ties)
    sheet = evaluate_boxes(found, truth, NAMES, resamples=5)
    table = np.array([
        [plain_ap(*plain_labels(found, truth, c, t, list(range(14)))) for t in ev.THRESHOLDS] for c in range(3)
    ])  # fmt: skip
    assert np.isnan(table[2]).all() and np.ptp(table[:2]) > 0.3
    main = sheet["arms"]["main"]
    assert main["ap50"][0] == pytest.approx(table[:2, 0].mean())
    assert main["ap75"][0] == pytest.approx(table[:2, 5].mean())
    assert main["ap"][0] == pytest.approx(table[:2].mean())
    assert [p["ap50"][0] for p in sheet["per_class"]] == [pytest.approx(table[0, 0]), pytest.approx(table[1, 0]), None]
    labels, counts = zip(*(plain_labels(found, truth, c, 0.5, list(range(14))) for c in range(3)), strict=True)
    assert main["recall"][0] == pytest.approx(sum(r for part in labels for _, r in part) / sum(counts))
    assert [p["support"] for p in sheet["per_class"]] == list(counts)
    assert json.loads(json.dumps(sheet, allow_nan=False)) == sheet


def test_the_area_agrees_with_the_plain_staircase() -> None:
    found, truth = scenes(seed=4)
    for c in (0, 1):
        m = ev.matched(found, truth, c)
        ours = ev.average_precision(m.score, m.image, m.right[0], m.wrong[0], m.objects, np.ones((1, 14)), None)
        assert ours[0] == pytest.approx(plain_ap(*plain_labels(found, truth, c, 0.5, list(range(14))), None))


def test_weights_are_images_drawn_again() -> None:
    """A resample of images, matched once and counted by weight, is the plain loop on the images themselves."""
    found, truth = scenes(seed=2)
    luck = np.random.default_rng(1)
    drawn = [luck.integers(0, 14, 14).tolist() for _ in range(8)]
    weight = np.array([np.bincount(rows, minlength=14) for rows in drawn])
    _, own = ev.measures([ev.matched(found, truth, c) for c in range(2)], weight)
    for r, rows in enumerate(drawn):
        for c in range(2):
            want = plain_ap(*plain_labels(found, truth, c, 0.5, rows))
            assert own[r, c] == pytest.approx(want, nan_ok=True)


def test_intervals_hold_the_value_and_grow_with_fewer_images() -> None:
    wide, narrow = (evaluate_boxes(*scenes(n, 3), NAMES, resamples=200)["arms"]["main"]["ap50"] for n in (8, 60))
    assert wide[1] <= wide[0] <= wide[2] and narrow[1] < narrow[0] < narrow[2]
    assert narrow[2] - narrow[1] < wide[2] - wide[1]
    alone = evaluate_boxes(*scenes(1, 8), NAMES)["arms"]["main"]["ap50"]
    assert alone[0] is not None and alone[1:] == [None, None]


def test_many_classes_in_few_images_get_an_interval_about_the_value() -> None:
    """Each of 60 classes is shown in 3 images of 12, by 3 of its 33 boxes; scores are chance."""
    luck = np.random.default_rng(0)
    n, classes = 12, 60
    image, cls = np.concatenate([luck.permutation(n)[:3] for _ in range(classes)]), np.repeat(np.arange(classes), 3)
    true = np.tile([0.0, 0, 20, 20], (len(cls), 1))
    looked, size = np.ones((n, classes), bool), np.full((n, 2), 100)
    truth = Truth(true, cls, np.ones_like(cls), image, looked, size)
    m = 30 * classes
    found = Found(
        np.r_[true, np.tile([70.0, 90, 75, 95], (m, 1))], np.r_[cls, luck.integers(0, classes, m)],
        luck.random(len(cls) + m), np.r_[image, luck.integers(0, n, m)],
    )  # fmt: skip
    names = [f"c{i}" for i in range(classes)]
    value, low, high = evaluate_boxes(found, truth, names, resamples=100)["arms"]["main"]["ap50"]
    draws, _ = ev.resampled([ev.matched(found, truth, c) for c in range(classes)], np.arange(n), n, 100, 0)
    assert np.quantile(draws["ap50"], 0.025) > value, "images that come twice raise what is drawn"
    assert low < value - 0.05 and value + 0.01 < high


def one(xyxy: list[Box], score: list[float], truth: list[tuple[Box, int]], looked: bool = True) -> dict[str, float]:
    """Metrics of one image of 100 x 100 with one class; truth: boxes with their state."""
    m, g = len(xyxy), len(truth)
    found = Found(np.array(xyxy).reshape(-1, 4), np.zeros(m, int), np.array(score), np.zeros(m, int))
    there = Truth(
        np.array([b for b, _ in truth]).reshape(-1, 4), np.zeros(g, int), np.array([s for _, s in truth], int),
        np.zeros(g, int), np.array([[looked]]), np.array([[100, 100]]),
    )  # fmt: skip
    main = evaluate_boxes(found, there, ["cat"])["arms"].get("main", {})
    return {k: v[0] for k, v in main.items() if k != "role"}


A, B, FAR = (0.0, 0, 10, 10), (50.0, 50, 60, 60), (80.0, 0, 90, 10)


def test_small_cases_by_hand() -> None:
    assert one([A, B], [0.9, 0.8], [(A, 1), (B, 1)]) == dict.fromkeys(ev.METRICS, 1.0)
    twice = one([A, A, B], [0.9, 0.8, 0.7], [(A, 1), (B, 1)])
    assert twice["ap50"] == pytest.approx((51 + 50 * 2 / 3) / 101), "the same object found again is wrong"
    late = one([FAR, A], [0.9, 0.8], [(A, 1)])
    assert late["ap50"] == pytest.approx(0.5) and late["corloc"] == 0 and late["recall"] == 1
    assert one([], [], [(A, 1)]) == dict.fromkeys(ev.METRICS, 0.0)
    assert one([A], [0.5], []) == {} and one([A], [0.5], [(A, 1)], looked=False) == {}
    flat = one([(3, 3, 3, 3), A], [0.9, 0.8], [(A, 1)])
    assert flat["ap50"] == pytest.approx(0.5), "a box without area is a box that is wrong"


def test_what_lies_in_an_ignored_box_is_neither_right_nor_wrong() -> None:
    crowd = (40.0, 40, 100, 100)
    assert one([B, B, A], [0.9, 0.8, 0.7], [(A, 1), (crowd, 0)])["ap50"] == 1
    assert one([(30, 50, 46, 60), A], [0.9, 0.7], [(A, 1), (crowd, 0)])["ap50"] == pytest.approx(0.5), "3/8 lie in it"
    assert one([A], [0.9], [(A, 1), (A, 0)])["recall"] == 1, "an object in it may still be found"


def test_the_best_hundred_boxes_count() -> None:
    many = [FAR] * 100 + [A]
    assert one(many, [0.9] * 100 + [0.1], [(A, 1)])["recall"] == 0
    assert one(many[1:], [0.9] * 99 + [0.1], [(A, 1)])["recall"] == 1


def test_a_box_in_the_middle_is_the_best_of_its_sizes() -> None:
    luck = np.random.default_rng(0)
    n, corner = 30, 50 + luck.normal(0, 3, (30, 2))
    size = np.full((n, 2), 100)
    truth = Truth(
        np.c_[corner - 30, corner + 30], np.zeros(n, int), np.ones(n, int), np.arange(n), np.ones((n, 1), bool), size
    )
    nothing = Found(np.empty((0, 4)), np.empty(0, int), np.empty(0), np.empty(0, int))
    arms = evaluate_boxes(nothing, truth, ["cat"], resamples=10)["arms"]
    assert arms["main"]["ap50"] == [0, 0, wilson(0, 30).high], "thirty failures are no proof that all fail"
    middle = arms["a box in the middle"]
    assert middle["role"] == "baseline" and middle["ap50"] == [1, None, None] and middle["corloc"][0] == 1
    assert 0 < middle["ap75"][0] < 1
    perfect = Found(truth.xyxy, truth.cls, np.ones(n), truth.image)
    sheet = evaluate_boxes(perfect, truth, ["cat"], resamples=10)
    assert sheet["arms"]["main"]["corloc"] == sheet["per_class"][0]["ap50"] == [1, wilson(30, 30).low, 1]


def test_corloc_is_of_images_that_show_the_class() -> None:
    found, truth = scenes(seed=5)
    main = evaluate_boxes(found, truth, NAMES, resamples=5)["arms"]["main"]
    shares = []
    for c in range(2):
        hits = []
        for i in range(14):
            real = [tuple(b) for b in truth.xyxy[(truth.image == i) & (truth.cls == c) & (truth.state == 1)]]
            mine = np.flatnonzero((found.image == i) & (found.cls == c))
            if real and truth.looked[i, c]:
                best = tuple(found.xyxy[mine[found.score[mine].argmax()]]) if len(mine) else (0, 0, 0, 0)
                hits.append(any(both(best, r) >= 0.5 * (area(best) + area(r) - both(best, r)) for r in real))
        shares.append(np.mean(hits))
    assert main["corloc"][0] == pytest.approx(np.mean(shares)) and 0 < main["corloc"][0] < 1


def test_reach_of_proposals_against_a_plain_loop() -> None:
    _, truth = scenes(seed=6)
    luck = np.random.default_rng(0)
    column = np.full((14, 20, 4), np.nan)
    for i in range(14):
        m = luck.integers(0, 21)
        near = truth.xyxy[luck.integers(0, len(truth.cls), m)] + luck.normal(0, 3, (m, 4))
        own = truth.xyxy[truth.image == i][:m]
        near[: len(own)] = own + luck.normal(0, 3, own.shape)
        column[i, :m] = near[luck.permutation(m)]
    found = ev.reach(column, truth, (0, 1, 5, 50), resamples=50)
    real = [k for k in range(len(truth.cls)) if truth.state[k] == 1]
    for k, count in enumerate(found.counts):
        best = []
        for g in real:
            some = [tuple(b) for b in column[truth.image[g], :count] if not np.isnan(b).any()]
            box = tuple(truth.xyxy[g])
            best.append(max((both(b, box) / (area(b) + area(box) - both(b, box)) for b in some), default=0))
        assert found.half[k].value == pytest.approx(np.mean([b >= 0.5 for b in best]))
        assert found.high[k].value == pytest.approx(np.mean([b >= 0.7 for b in best]))
        levels = np.linspace(0.5, 1, 20001)
        under = np.mean([(np.array(best) >= t).mean() for t in levels])
        assert found.average[k].value == pytest.approx(under, abs=1e-3)
    assert found.half[0] == wilson(0, len(real)) and found.half[3].low < found.half[3].value
    assert found.half[0].value == 0 < found.half[1].value < found.half[3].value
    assert found.mean[1] <= 1 and found.mean[3] == pytest.approx((~np.isnan(column[..., 0])).sum() / 14)
    with pytest.raises(DataError, match="no object"):
        ev.reach(column, truth._replace(state=np.zeros_like(truth.state)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"xyxy": np.full((2, 4), np.nan)}, "not finite"),
        ({"score": np.array([0.1, np.inf])}, "not finite"),
        ({"xyxy": np.array([[0, 0, 1, 1], [5, 5, 4, 6]])}, "inside out"),
        ({"cls": np.array([0, 3])}, "classes 0 to 3 of 3"),
        ({"cls": np.array([0, -1])}, "classes -1 to 0"),
        ({"image": np.array([0, 14])}, "images 0 to 14 of 14"),
        ({"score": np.zeros(3)}, "as many"),
    ],
)
def test_what_is_refused(change: dict[str, np.ndarray], said: str) -> None:
    _, truth = scenes()
    found = Found(np.array([A, B]), np.zeros(2, int), np.zeros(2), np.zeros(2, int))
    with pytest.raises(DataError, match=said):
        evaluate_boxes(found._replace(**change), truth, NAMES)


def test_of_no_image_nothing_is_said() -> None:
    found, truth = scenes()
    blind = evaluate_boxes(found, truth._replace(looked=np.zeros((14, 3), bool)), NAMES)
    assert not blind["arms"] and blind["test"]["unlabelled"] == 14 and "no test labels" in blind["verdict"]["word"]
    with pytest.raises(DataError, match="for 2 classes"):
        evaluate_boxes(found, truth, NAMES[:2])
