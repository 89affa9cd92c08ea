"""Drafts of boxes and masks from planted maps: where, of which class, how sure, and what is left alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from modicum.core.dataset import HUMAN, MODEL, Dataset, Table
from modicum.core.errors import DataError, NeedsError
from modicum.core.kinds import Fact
from modicum.data.masks import Painter
from modicum.functional.drafts import drafts, frame, png
from modicum.methods.regions import map_masks
from modicum.methods.regions.map_boxes import MapBoxes
from modicum.methods.regions.map_masks import MapMasks

from .toy import everything

SIZES = np.array([[40, 80], [40, 80], [30, 30], [60, 20]])


def planted() -> Dataset:
    """Four images of two classes with maps (4,2,10,10): a block of class 0 on the left, of class 1 lower right.

    Image 0 has both classes by tags, 1 has class 1, 2 is unknown, 3 has class 0 but no map.
    """
    maps = np.zeros((4, 2, 10, 10), np.float32)
    maps[:, 0, 2:6, 1:4], maps[:, 1, 6:9, 5:9] = 2, 1
    maps[3] = np.nan
    cls = np.array([-1, 1, -1, 0])
    data = Dataset.build([f"{i}.png" for i in range(4)], ["cat", "dog"], cls=cls, columns={"maps": maps},
                         height=SIZES[:, 0], width=SIZES[:, 1])  # fmt: skip
    said = {"row": np.zeros(2, int), "kind": "tags", "value": np.ones(2), "class": np.arange(2)}
    return data + data.delta(source="human", who=HUMAN, **said)


def boxes_of(data: Dataset, kind: str = "boxes") -> list[tuple[int, int, list[float]]]:
    return [(b["row"], b["class"], [b[k] for k in ("x0", "y0", "x1", "y1")]) for b in data.of_kind(kind).to_pylist()]


def test_boxes_lie_around_the_blocks_in_pixels_of_the_image() -> None:
    data = planted()
    delta = MapBoxes(tau=0.5).label(everything(data))
    found = boxes_of(delta)
    assert [f[:2] for f in found] == [(0, 0), (0, 1), (1, 1)]
    for (_, _, box), cells in zip(found, ([1, 2, 4, 6], [5, 6, 9, 9], [5, 6, 9, 9]), strict=True):
        assert box == pytest.approx(np.array(cells) * [8, 4, 8, 4], abs=1), "cells of 8 x 4 pixels"
    assert set((data + delta).who()[-3:]) == {MODEL} and delta.sources["name"].to_pylist() == ["map-boxes"]
    sure = delta.annotations["confidence"].to_numpy()
    heat = F.interpolate(torch.from_numpy(data.columns["maps"][:1]), (40, 80), mode="bilinear")[0, 0].numpy()
    x0, y0, x1, y1 = map(int, found[0][2])
    assert sure[0] == pytest.approx(heat[y0:y1, x0:x1].mean() / heat.max(), abs=1e-5)


def test_large_images_are_cut_small_and_boxes_still_fit() -> None:
    data = planted().with_images(height=SIZES[:, 0] * 50, width=SIZES[:, 1] * 50)
    small, large = (boxes_of(MapBoxes(tau=0.5, side=s).label(everything(data))) for s in (160, 4000))
    for (*_, a), (*_, b) in zip(small, large, strict=True):
        assert a == pytest.approx(b, abs=50), "a pixel of the small one"


def test_every_region_or_the_largest_and_none_that_is_small() -> None:
    data = planted()
    maps = data.columns["maps"].copy()
    maps[1, 1, 0, 0] = 1
    data = data.with_column("maps", maps)
    rows = Table(data, np.array([1]))
    assert len(boxes_of(MapBoxes(tau=0.5, least=0).label(rows))) == 2
    assert len(boxes_of(MapBoxes(tau=0.5, least=0, every=False).label(rows))) == 1
    assert len(boxes_of(MapBoxes(tau=0.5, least=0.05).label(rows))) == 1


def test_masks_are_pngs_of_the_images_size_that_do_not_overlap() -> None:
    data = planted()
    delta = MapMasks(tau=0.5).label(everything(data))
    found = delta.of_kind("masks").to_pylist()
    assert [(f["row"], f["class"]) for f in found] == [(0, 0), (0, 1), (1, 1)]
    masks = [np.asarray(Image.open(io.BytesIO(f["data"]))) for f in found]
    assert all(m.shape == (40, 80) and m.dtype == bool for m in masks)
    assert not (masks[0] & masks[1]).any() and (masks[1] == masks[2]).all()
    assert masks[0][12:20, 12:28].all() and not masks[0][:, 40:].any()
    for (_, _, box), mask in zip(boxes_of(delta, "masks"), masks, strict=True):
        assert box == list(frame(mask))
    assert all(0.5 < f["confidence"] <= 1 for f in found)
    less = MapMasks(alpha=8.0).label(everything(data)).of_kind("masks").to_pylist()
    assert sum(np.asarray(Image.open(io.BytesIO(f["data"]))).sum() for f in less) > sum(m.sum() for m in masks)


@pytest.mark.parametrize(("method", "kind"), [(MapBoxes(), "boxes"), (MapMasks(), "masks")])
def test_what_a_person_drew_stays_alone(method: MapBoxes | MapMasks, kind: str) -> None:
    data = planted()
    drawn = data.delta(source="human", who=HUMAN, row=np.array([0]), kind=kind, x0=1.0, y0=1.0, x1=2.0, y1=2.0,
                       data=[png(np.ones((2, 2), bool))], **{"class": np.array([1])})  # fmt: skip
    said = (data + drawn) + method.label(everything(data + drawn))
    assert [b[:2] for b in boxes_of(said, kind)] == [(0, 1), (1, 1)]
    assert [b[0] for b in boxes_of(method.label(Table(data + drawn, np.array([1, 0]))), kind)] == [1]
    guessed = data + method.label(everything(data))
    again = method.label(everything(guessed))
    assert again.annotations.num_rows == 3, "a model's own drafts are drawn anew"


def test_a_table_is_rows_of_the_data() -> None:
    data = planted()
    table = Table(data, np.array([3, 1]), {"maps": data.columns["maps"][[3, 1]]})
    assert [b[:2] for b in boxes_of(MapBoxes().label(table))] == [(1, 1)]
    assert Fact("maps", some=True) in data.facts(), "a row without a map is not known"
    found = drafts(table, "boxes")
    assert (
        found.rows.tolist() == [1] and found.size.tolist() == [[40, 80]] and found.present.tolist() == [[False, True]]
    )


@pytest.mark.parametrize("method", [MapBoxes(), MapMasks()])
def test_nothing_to_draw_and_nothing_to_draw_from(method: MapBoxes | MapMasks) -> None:
    data = planted()
    flat = data.with_column("maps", np.ones((4, 2, 10, 10), np.float32))
    assert not method.label(everything(flat)).annotations.num_rows
    with pytest.raises(NeedsError, match="tags or a class"):
        method.label(Table(data, np.array([2])))
    with pytest.raises(DataError, match=r"one map \(h,w\) for each image and class"):
        method.label(everything(data.with_column("maps", np.ones((4, 3, 10, 10), np.float32))))
    with pytest.raises(DataError, match=r"0\.png: the size"):
        method.label(everything(data.with_images(height=np.zeros(4, int))))


def read(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_images_that_are_drawn_were_looked_through_and_low_pixels_stay_unknown() -> None:
    """Class maps of the drafts: a class where its map is at least `clear`, background below tau, unknown between."""
    data = planted()
    for method, low, high in ((MapMasks(tau=0.2, clear=0.7), 0.2, 0.7), (MapMasks(tau=0.3), 0.3, 0.3)):
        said = data + method.label(everything(data))
        assert said.looked["row"].to_pylist() == [0, 1] and set(said.looked["complete"].to_pylist()) == {1}
        assert said.rows("masks").tolist() == [0, 1]
        unit = data.columns["maps"][1, 1] / data.columns["maps"][1, 1].max()
        heat = np.asarray(F.interpolate(torch.from_numpy(unit)[None, None], (40, 80), mode="bilinear")[0, 0])
        expected = np.where(heat > low, np.where(heat >= high, 2, 255), 0)
        near = np.minimum(np.abs(heat - low), np.abs(heat - high)) < 1e-5
        found = Painter(said).whole(1)
        assert (found == expected)[~near].all() and (expected == 255).any() == (high > low)
    unsure = MapMasks(tau=0.2, clear=0.7).label(everything(data)).of_kind("masks").to_pylist()
    assert [(m["row"], m["class"], m["value"]) for m in unsure if m["class"] < 0] == [(0, -1, 0.0), (1, -1, 0.0)]


def test_an_image_in_which_no_class_has_a_pixel_is_not_called_background() -> None:
    maps = planted().columns["maps"].copy()
    maps[1] = 1
    delta = MapMasks().label(everything(planted().with_column("maps", maps)))
    assert delta.looked["row"].to_pylist() == [0] and set(delta.annotations["row"].to_pylist()) == {0}


@pytest.mark.parametrize("how", ["pamr", "par", "walk"])
def test_refined_masks_follow_the_image(how: str) -> None:
    """A coarse map that leans over a sharp edge: with the pixels, more of the mask lies on the bright side."""
    maps = np.zeros((1, 1, 5, 5), np.float32)
    maps[0, 0, 1:4, 1:4] = 1
    data = Dataset.build(["x.png"], ["cat"], cls=np.zeros(1, int), columns={"maps": maps}, height=40, width=40)
    image = np.full((40, 40, 3), 40, np.uint8)
    image[8:32, 8:26] = 220
    shares = []
    for refine in ("none", how):
        table = Table(data, np.array([0]), pixels=lambda row: image)
        (mask,) = MapMasks(tau=0.4, refine=refine).label(table).of_kind("masks")["data"].to_pylist()
        thing, found = image[..., 0] > 100, read(mask)
        shares.append((found & thing).sum() / (found | thing).sum())
    assert shares[1] > shares[0]
    with pytest.raises(NeedsError, match="images are not at hand"):
        MapMasks(refine=how).label(Table(data, np.array([0])))


def test_large_images_are_refined_small_and_masks_fit_all_the_same() -> None:
    maps = np.zeros((1, 1, 5, 5), np.float32)
    maps[0, 0, 1:4, 1:4] = 1
    data = Dataset.build(["x.png"], ["cat"], cls=np.zeros(1, int), columns={"maps": maps}, height=900, width=300)
    deep = np.random.default_rng(0).integers(0, 65536, (900, 300, 1), np.uint16)
    (mask,) = MapMasks(refine="pamr").label(Table(data, np.array([0]), {}, lambda row: deep)).of_kind("masks")["data"]
    assert read(mask.as_py()).shape == (900, 300)


@pytest.mark.parametrize("how", ["pamr", "walk"])
def test_images_refined_together_are_what_they_are_alone(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    luck, data = np.random.default_rng(4), planted()
    pictures = {row: luck.integers(0, 256, (*SIZES[row], 3), np.uint8) for row in range(4)}
    table = Table(data, np.array([0, 1, 3]), {}, pictures.__getitem__)
    together = MapMasks(tau=0.4, refine=how).label(table).annotations
    monkeypatch.setattr(map_masks, "BLOCK", 1)
    assert together.equals(MapMasks(tau=0.4, refine=how).label(table).annotations) and together.num_rows == 3
