"""Pictures of maps: what is where on a panel, the contour, captions, sheets."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from modicum.report import panels
from modicum.report.panels import GAP, PAPER, Panel, Sheet, joined, over, plain, png, writable


def quarter() -> np.ndarray:
    heat = np.zeros((8, 8), np.float32)
    heat[:4, :4] = 1
    return heat


def test_small_pictures_stay_sharp_and_others_reach_the_side() -> None:
    tiny = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert plain(tiny).shape == (224, 224, 3)
    np.testing.assert_array_equal(plain(tiny)[::28, ::28, 0], tiny)
    assert plain(np.zeros((96, 144, 3), np.uint8)).shape == (149, 224, 3)
    assert plain(np.zeros((600, 300, 3), np.uint8)).shape == (224, 112, 3)
    assert plain(np.zeros((1, 500, 1), np.uint8)).shape == (1, 224, 3)


def test_the_contour_runs_where_the_map_falls_below_half() -> None:
    picture = plain(np.full((56, 56), 128, np.uint8))
    line = over(picture, quarter())
    bare = over(picture, quarter(), contour=False)
    white, dark = (np.argwhere((line == v).all(2)) for v in (255, 20))
    assert len(white) and len(dark) and not (bare == 255).all(2).any()
    for points in (white, dark):  # the border of the quarter, half a cell wide because the map is stretched smoothly
        assert np.abs(np.max(points, 1) - 112).max() <= 14
    assert bare[50, 50].sum() > bare[180, 180].sum() + 150
    np.testing.assert_array_equal(over(picture, -quarter()), over(picture, -quarter(), contour=False))


def test_panels_line_up_and_captions_lie_under_them() -> None:
    red, blue = (np.full((40, 60, 3), c, np.uint8) for c in ([255, 0, 0], [0, 0, 255]))
    page = np.asarray(joined([[Panel(red, ("cat 0.97", "cam")), Panel(blue)], [Panel(blue), Panel(red), Panel(red)]]))
    assert page.shape[1] == 3 * 60 + 4 * GAP
    assert (page[GAP, GAP] == [255, 0, 0]).all() and (page[GAP, 2 * GAP + 60] == [0, 0, 255]).all()
    under = page[GAP + 40 : GAP + 40 + 2 * panels._LINE, GAP : GAP + 60]
    assert (under < 128).any(2).sum() > 30, "letters"
    assert (page[GAP + 40 : GAP + 40 + 2 * panels._LINE, 2 * GAP + 60 :] == PAPER[0]).all(), "no caption, no ink"
    second = 2 * GAP + 40 + 2 * panels._LINE
    assert (page[second + 5, GAP] == [0, 0, 255]).all() and (page[second + 5, 3 * GAP + 130] == [255, 0, 0]).all()


def test_a_long_caption_is_cut_in_the_middle() -> None:
    cut = panels._cut("a-very-long-name-of-some-file-0001.png", 120)
    assert cut.startswith("a-very") and cut.endswith(".png") and "…" in cut and panels._font().getlength(cut) <= 120
    assert panels._cut("short", 120) == "short"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("cat 0.97", "cat 0.97"), ("Löwe é", "Lowe e"), ("花", "class 3"), ("кот", "class 3"), ("x\u202ey", "class 3")],
)
def test_what_the_font_lacks_is_not_drawn_as_boxes(text: str, shown: str) -> None:
    assert writable(text, "class 3") == shown


def test_a_sheet_holds_its_number_and_starts_anew() -> None:
    sheet = Sheet()
    for _ in range(panels.ACROSS * panels.DOWN):
        assert not sheet.full
        sheet.add(np.zeros((50, 100), np.uint8), quarter(), ("name",))
    assert sheet.full
    page = sheet.take()
    assert page.size[0] == panels.ACROSS * (2 * panels.THUMB + GAP) + GAP and not sheet.pairs
    with Image.open(io.BytesIO(png(page))) as file:
        np.testing.assert_array_equal(np.asarray(file), np.asarray(page))
