"""Pictures, sheets and the table that `draw` writes: of files, folders and sets, broken ones among them; cut short."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modicum.core.errors import DataError, SettingsError
from modicum.data.convert import convert
from modicum.data.read import pixels
from modicum.data.samples import sample
from modicum.engine import draw as drawing
from modicum.engine.draw import COLUMNS, TABLE, draw
from modicum.engine.explain import Asked, looks
from modicum.engine.fit import fit
from modicum.engine.inputs import Inputs
from modicum.engine.table import Finished
from modicum.evaluate.calibration import softmax

pytestmark = pytest.mark.xdist_group("draw")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patch, home = pytest.MonkeyPatch(), tmp_path_factory.mktemp("draw")
    patch.setenv("MODICUM_CACHE", str(home / "cache"))
    quick: dict[str, Any] = {"labels": 3, "twins": "none", "judge": "none", "export": False, "precision": "32"}
    folder = fit("sample:digits", home / "run", steps=40, batch=16, **quick).folder
    patch.undo()
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 digits, and three files that are none."""
    folder, data = tmp_path_factory.mktemp("images"), sample("digits")
    for row in range(30):
        Image.fromarray(pixels(data, row)[:, :, 0]).resize((16, 8)).save(folder / f"{row:02d}.png")
    for name in ("03b", "11b", "99"):
        (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_that_can_be_read_has_a_picture_and_a_row(run: Path, images: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = draw(run, [images], tmp_path, batch=8, told=lambda n, of, picture, seen: told.append((n, of)))
    rows, files = table(tmp_path), sorted(p.name for p in tmp_path.glob("[0-9]*.png"))
    assert done.count == len(rows) == len(files) == 30 and [r["picture"] for r in rows] == files
    assert [Path(where).name for where, _ in done.faults] == ["03b.png", "11b.png", "99.png"]
    assert all("the file is" in why for _, why in done.faults)
    assert told[-1][1] == 33 and [n for n, _ in told] == sorted(n for n, _ in told) and told[-1][0] == 33
    assert [Image.open(tmp_path / f"grid-{k:03d}.png").size[0] for k in (0, 1)] == [936, 936]
    assert not list(tmp_path.glob(".*")) and tuple(rows[0]) == COLUMNS
    with Image.open(tmp_path / files[0]) as picture:
        assert picture.size == (2 * 224 + 3 * 8, 112 + 2 * 18 + 2 * 8), "the image, and one map, of 16 x 8 pixels each"


def test_the_table_says_what_the_network_and_the_map_say(run: Path, images: Path, tmp_path: Path) -> None:
    draw(run, [images / "00.png", images / "01.png"], tmp_path)
    net = Finished.open(run)
    x = net.batch([np.asarray(Image.open(images / f"0{k}.png"))[..., None] for k in range(2)])
    with torch.no_grad():
        logits = net.net(x).logits.numpy()
    probs = softmax(logits / (net.meta["temperature"] or 1))
    for k, row in enumerate(table(tmp_path)):
        first, second = np.argsort(-probs[k])[:2]
        names = net.meta["classes"]
        assert (row["class"], row["rival"]) == (names[first], names[second])
        assert float(row["probability"]) == pytest.approx(probs[k, first], abs=1e-4)
        assert float(row["rival_probability"]) == pytest.approx(probs[k, second], abs=1e-4)
        assert float(row["score"]) == pytest.approx(logits[k, first], rel=1e-3)
        assert 0 < float(row["peak_x"]) < 16 and 0 < float(row["peak_y"]) < 8
        assert row["sentence"].startswith(f"{row['class']} ({probs[k, first]:.2f}): half of its evidence lies in")
        assert f"lies in {100 * float(row['half_area']):.0f} %" in row["sentence"] and row["fault"] == ""


def test_classes_methods_and_layers_side_by_side(run: Path, images: Path, tmp_path: Path) -> None:
    asked = Asked("3,8", methods=("cam", "eigen-cam"))
    draw(run, [images / "00.png"], tmp_path, asked)
    found = [(r["class"], r["method"]) for r in table(tmp_path)]
    assert found == [("3", "cam"), ("3", "eigen-cam"), ("8", "cam"), ("8", "eigen-cam")]
    with Image.open(tmp_path / "0000-00.png") as picture:
        assert picture.size == (3 * 224 + 4 * 8, 2 * (112 + 2 * 18) + 3 * 8)
    draw(run, [images / "00.png"], tmp_path / "top", Asked(top=3))
    probs = [float(r["probability"]) for r in table(tmp_path / "top")]
    assert len(probs) == 3 and probs == sorted(probs, reverse=True)
    draw(run, [images / "00.png"], tmp_path / "two", Asked(layers=("stages.2", "spatial"), methods=("grad-cam",)))
    assert {r["layer"] for r in table(tmp_path / "two")} == {"stages.2", "spatial"}
    with pytest.raises(DataError, match="no class 'cat'"):
        draw(run, [images], tmp_path / "none", Asked("3,cat"))
    with pytest.raises(SettingsError, match="11 classes are asked for"):
        draw(run, [images], tmp_path / "none", Asked(top=11))
    assert not (tmp_path / "none").exists()


def test_a_class_whose_name_has_a_comma() -> None:
    assert Asked("a,b").classes(["a,b", "a", "b"]) == [0] and Asked("b, a,b").classes(["a", "b"]) == [1, 0]


def test_rivals_and_their_overlap(run: Path) -> None:
    net = Finished.open(run)
    x = net.batch([pixels(sample("digits"), row) for row in range(6)])
    names = net.meta["classes"]
    found, maps = looks(net.net, x, Asked("5"), names, net.meta)
    heat = maps.maps["cam", "spatial"]
    for b, (look,) in enumerate(found):
        others = [c for c in net.net(x)[0][b].argsort(descending=True).tolist() if c != 5]
        assert look.cls == 5 and look.rival == others[0]
        at = maps.targets[b].tolist().index(look.rival)
        a, c = (np.clip(heat[b, t].numpy(), 0, None).ravel() for t in (0, at))
        if a.any() and c.any():
            half = [np.isin(m, np.sort(m)[::-1][: np.searchsorted(np.cumsum(np.sort(m)[::-1]), m.sum() / 2) + 1])
                    for m in (a, c)]  # fmt: skip
            assert look.overlap == pytest.approx((half[0] & half[1]).sum() / (half[0] | half[1]).sum())


def test_what_fit_reads_is_explained(run: Path, images: Path, tmp_path: Path) -> None:
    for kind in ("parquet", "table", "idx"):
        convert("sample:digits", tmp_path / kind, kind)
        seen = list(Inputs.of([tmp_path / kind]).some(range(2)))
        assert len(seen) == 2 and all(s.pixels is not None and s.data is not None for s in seen)
    few = Inputs.of([tmp_path / "parquet", images / "00.png"])
    assert len(few) == 1798 and [s.name for s in few.some({1797})] == [str(images / "00.png")]
    (one,) = Inputs.of([images / "00.png"])
    assert one.data is None and one.row == -1
    with pytest.raises(DataError, match="no such file or folder"):
        Inputs.of([tmp_path / "nowhere"])


def test_labels_and_tags_are_on_the_picture(tmp_path: Path) -> None:
    ((digit,), (scene,)) = (Inputs.of([f"sample:{s}"]).some({3}) for s in ("digits", "scenes"))
    assert drawing._label(digit) == "3" and scene.data is not None
    said = drawing._label(scene).split(", ")
    assert said == [n for n, t in zip(scene.data.names, scene.data.tags[3]) if t == 1] and said


def test_ctrl_c_leaves_the_pictures_and_their_table(run: Path, images: Path, tmp_path: Path) -> None:
    def stop(n: int, of: int, picture: str, seen: object) -> None:
        if n > 16:
            raise KeyboardInterrupt

    done = draw(run, [images], tmp_path, batch=8, told=stop)
    rows = table(tmp_path)
    assert done.stopped and 8 <= done.count == len(rows) == len(list(tmp_path.glob("[0-9]*.png"))) < 30
    assert (tmp_path / "grid-000.png").is_file() and not list(tmp_path.glob(".*"))


def test_none_readable_is_an_error_and_writes_nothing(run: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 images can be read"):
        draw(run, [images / "99.png"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_images_are_held_a_batch_at_a_time(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,797 images no more than a batch is between decoding and drawing."""
    alive = most = 0
    first = drawing._one

    def counted(given: Any) -> Any:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return first(given)

    def drawn(*args: Any) -> None:
        nonlocal alive
        alive -= 1

    monkeypatch.setattr(drawing, "_one", counted)
    monkeypatch.setattr(drawing, "page", lambda *args: b"")
    done = draw(run, ["sample:digits"], tmp_path, batch=16, told=drawn)
    assert done.count == 1797 and most == 16


def test_maps_that_mark_nothing_are_counted_over_all_batches(run: Path, images: Path, tmp_path: Path) -> None:
    done = draw(run, [images], tmp_path, Asked("5"), batch=8)
    flat = sum(r["fault"] == "nothing" for r in table(tmp_path))
    said = [w for w in done.warnings if "hold nothing in favour of their class" in w]
    assert said == ([f"cam at spatial: {flat} of 30 maps hold nothing in favour of their class"] if flat else [])
    early = draw(run, [images], tmp_path, Asked(methods=("eigen-cam",), layers=("stages.0",)), batch=8)
    assert any("eigen-cam at stages.0: drawing the top layers anew hardly changes" in w for w in early.warnings)
    assert any("over 32 maps" in w or "over 30 maps" in w for w in early.warnings), "of several batches"
