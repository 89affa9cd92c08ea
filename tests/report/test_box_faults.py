"""The page of a network that finds boxes: its curves, its kinds of mistakes, and pictures of what it misses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.evaluate.box_faults import faults
from modicum.evaluate.boxes import Found, Truth, evaluate_boxes
from modicum.report import boxes, page
from modicum.report.read import read

NAMES = ("<b>cat</b>", "dog")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three images: in the first the cat is found, in the second called a dog, in the third nothing is found."""
    cat, dog = (10.0, 10, 40, 40), (50.0, 50, 90, 90)
    true = np.array([cat, dog, cat, cat, dog])
    image, looked, size = np.array([0, 0, 1, 2, 2]), np.ones((3, 2), bool), np.full((3, 2), 100)
    truth = Truth(true, np.array([0, 1, 0, 0, 1]), np.ones(5, int), image, looked, size)
    found = Found(np.array([cat, cat]), np.array([0, 1]), np.array([0.9, 0.8]), np.array([0, 1]))
    proposals = np.repeat(np.array([cat])[None], 3, 0)
    sheet = evaluate_boxes(found, truth, NAMES, main="detector", resamples=20)
    sheet["boxes"] = faults(found, truth, NAMES, np.arange(3), proposals)
    ids, sides = ["a.png", "b.png", "c.png"], {"height": size[:, 0], "width": size[:, 1]}
    data = Dataset.build(ids, NAMES, root="x", split=["test"] * 3, **sides)
    data.save(tmp_path / "data")
    (tmp_path / "config.json").write_text(json.dumps({"want": "boxes", "method": "detector"}), encoding="utf-8")
    (tmp_path / "evaluation.json").write_text(json.dumps(sheet), encoding="utf-8")
    return tmp_path


def shown(run: Path) -> str:
    return page.build(run, lambda row: np.full((50, 50, 3), 90, np.uint8)).read_text(encoding="utf-8")


def test_a_page_says_what_is_found_doubled_and_missed(run: Path) -> None:
    text = shown(run)
    section = text[text.index('<section id="kinds"') : text.index("</section>", text.index('<section id="kinds"'))]
    assert "Of 5 objects" in section and "20.0\u00a0% are found" in section and "2 surest boxes" in section
    assert "50.0\u00a0% are on another class" in section
    assert section.index("2 of 2 missed") < section.index("1 of 2 missed"), "the worst picture comes first"
    assert section.index("<b>dog 0.80</b> another class") < section.index("2 of 2 missed"), "the one wrong box"
    assert section.count("<img") == 2 + 3 * 3 and "&lt;b&gt;cat&lt;/b&gt;" in section and "<b>cat" not in section


def test_what_to_do_next_is_about_boxes(run: Path) -> None:
    text = shown(run)
    further = text[text.index('<section id="next"') :]
    assert "Label 50 more images, chosen by the model, about 12 min of work" in further, "15 seconds an image"
    assert "Weakest now: dog and &lt;b&gt;cat" in further


def test_a_page_has_a_curve_a_class_and_the_ceiling_of_proposals(run: Path) -> None:
    text = shown(run)
    section = text[text.index('<section id="curves"') : text.index('<section id="kinds"')]
    assert section.count("<svg") == 3 and section.count("<polyline") == 3
    assert "In 3 test pictures they reach 60.0\u00a0% of the objects" in section


def test_boxes_that_are_too_faint_are_not_drawn_but_said(run: Path) -> None:
    drawn = {"rows": np.array([0, 1]), "image": np.array([0]), "xyxy": np.array([[10.0, 10, 40, 40]]),
             "cls": np.array([0]), "state": np.array([1])}  # fmt: skip
    for score, faint, names in ((0.42, "0.42", "nothing"), (0.8, "", "dog 0.80")):
        found = {"row": np.array([1, 2]), "class": np.array([1, 1]), "score": np.array([score, 0.9])}
        found |= {k: np.full(2, v) for k, v in (("x0", 5.0), ("y0", 5.0), ("x1", 30.0), ("y1", 30.0))}
        given = replace(read(run), found=found, drawn=drawn)
        section = boxes.boxes(given, lambda row: np.full((50, 50, 3), 90, np.uint8), 112)
        assert section["faint"] == faint and [m["names"] for m in section["shown"]] == ["nothing", names]
    given = replace(given, found={**found, "score": np.array([0.42, 0.9])})
    assert "the best has 0.42." in page.render(given, lambda row: np.zeros((9, 9, 3), np.uint8))


def test_a_damaged_entry_is_said_and_the_page_stands(run: Path) -> None:
    before = shown(run).count("This section could not be made")
    sheet = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    sheet["boxes"] = {"precision": "none", "recall": [], "kinds": [{}], "worst": [{"row": -5}], "surest": 3}
    (run / "evaluation.json").write_text(json.dumps(sheet), encoding="utf-8")
    assert shown(run).count("This section could not be made") == before + 2
    del sheet["boxes"]
    (run / "evaluation.json").write_text(json.dumps(sheet), encoding="utf-8")
    assert shown(run).count("Curves and mistakes of boxes were not measured") == 2


def test_a_dashed_frame_has_gaps_and_a_plain_one_none() -> None:
    grey = np.full((100, 100, 3), 90, np.uint8)
    box, cls = np.array([[20.0, 20, 60, 60]]), np.array([0])
    plain, broken = (boxes.framed(grey, box, cls, 112, np.array([dash])) for dash in (False, True))
    top = [(part[20, 20:60] != 90).any(-1) for part in (plain, broken)]
    assert top[0].all() and 0.4 < top[1].mean() < 0.7 and np.flatnonzero(np.diff(top[1].astype(int))).size > 6
    outside = [(part[:, 60:] == 90).all() and (part[:20] == 90).all() for part in (plain, broken)]
    assert all(outside)
    far = boxes.framed(grey, np.array([[-1e300, -9.0, 1e300, 300]]), cls, 112, np.array([True]))
    assert far.shape == (100, 100, 3), "a box far outside is drawn at the edge"
    assert Image.fromarray(broken).size == (100, 100)
