"""Charts: well-formed, inside their frame, with the right words for those who cannot see them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modicum.report import charts

EVIL = '<script>alert("x")</script>'


def inside(svg: str) -> ElementTree.Element:
    """The parsed chart, every x of which lies in the frame."""
    root = ElementTree.fromstring(svg)
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    for node in root.iter():
        for key, value in node.attrib.items():
            if key in ("x", "x1", "x2", "cx"):
                assert -0.1 <= float(value) <= width + 0.1
            if key in ("y", "y1", "y2", "cy"):
                assert -0.1 <= float(value) <= height + 0.1
        for pair in node.attrib.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert -0.1 <= x <= width + 0.1 and -0.1 <= y <= height + 0.1
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    return root


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    found = charts.ticks(low, low + span)
    assert len(found) <= 6 and all(low - 1e-6 * span <= v <= low + span * (1 + 1e-6) for v in found)


def test_curves_go_through_their_points() -> None:
    x = np.arange(0, 1001)
    root = inside(charts.curves([(0, x, x / 10.0), (1, x[:5], np.full(5, np.nan))], EVIL))
    lines = [n for n in root.iter() if n.tag == "polyline"]
    assert len(lines) == 1 and len(lines[0].attrib["points"].split()) == 100
    assert "from 0.500 to 100" in root.attrib["aria-label"]
    assert charts.curves([], "nothing") == ""
    inside(charts.curves([(0, np.array([5.0]), np.array([-2.0]))], "one point"))


def test_whiskers_show_bounds_and_skip_what_is_not_known() -> None:
    rows = [((EVIL, "what"), [0.8, 0.7, 0.9], 0), (("b", ""), [0.5, None, None], 1), (("c", ""), [None] * 3, 2)]
    root = inside(charts.whiskers(rows, "Accuracy"))
    dots = [float(n.attrib["cx"]) for n in root.iter() if n.tag == "circle"]
    bars = [n for n in root.iter() if n.attrib.get("class", "").startswith("bar")]
    assert len(dots) == 2 and len(bars) == 3 and dots[0] > dots[1]
    assert float(bars[0].attrib["x1"]) < dots[0] < float(bars[0].attrib["x2"])
    assert charts.whiskers([], "none") == ""


@pytest.mark.parametrize("after", [False, True])
def test_reliability_draws_bins_with_enough_images(after: bool) -> None:
    curve = [
        {"low": 0.4, "high": 0.4667, "count": 2, "confidence": 0.43, "accuracy": [0.5, 0.1, 0.9]},
        {"low": 0.9333, "high": 1.0, "count": 50, "confidence": 0.97, "accuracy": [0.9, 0.8, 0.95]},
    ]
    root = inside(charts.reliability(curve, curve if after else None))
    assert len([n for n in root.iter() if n.tag == "circle"]) == 1 + after
    assert len(re.findall("images", root.attrib["aria-label"])) == 2


@pytest.mark.parametrize("small", [False, True])
def test_shares_lie_where_they_say(small: bool) -> None:
    x = np.linspace(0.5, 1, 11)
    root = inside(charts.shares([(0, x, 1 - x)], EVIL, start=0.5, small=small))
    width, tall = (float(v) for v in root.attrib["viewBox"].split()[2:])
    (line,) = [n for n in root.iter() if n.tag == "polyline"]
    ends = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    (x0, y0), (x1, y1) = ends[0], ends[-1]
    levels = [float(n.attrib["y1"]) for n in root.iter() if n.tag == "line"]
    assert (x0, x1) == (44, width - 8) and y1 == max(levels) < tall and y0 == pytest.approx(np.mean([*levels]))
    assert "50\u00a0% at 50\u00a0%" in root.attrib["aria-label"] and width == (170 if small else 340)
