"""Imaginary images: written as a set that is read again, made inside a run, and put beside real ones."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modicum.core.dataset import MODEL, Dataset
from modicum.core.errors import DataError, NeedsError, RunError, SettingsError
from modicum.data.cache import of_images
from modicum.data.read import pixels, read
from modicum.data.samples import sample
from modicum.engine import imagine as engine
from modicum.engine.arms import Bench
from modicum.engine.fit import fit
from modicum.engine.imagine import Made, beside, imagine, without
from modicum.runs.run import Run
from modicum.testing.stand_ins import Alone

VIA = "imaginary-images:cutouts=sample:digits,number=4,side=32"
QUICK: dict[str, Any] = {
    "steps": 4, "batch": 8, "precision": "32", "net": "tiny-conv:width=4", "side": 32, "flip": "no", "export": False,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pixel cache of our own."""
    pytest.MonkeyPatch().setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    """Forty training scenes and ten for testing."""
    data = sample("scenes-plain")
    return data.take(np.r_[:40, 1000:1010])


@pytest.fixture(scope="module")
def run(scenes: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Names are all that is known: a network for tags."""
    return fit(scenes, tmp_path_factory.mktemp("names") / "run", have=("names",), want="tags", via=(VIA,), **QUICK)


# -- as a set of its own ----------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    tell = lambda *n: told.append(n)  # noqa: E731
    made = imagine("3,8", tmp_path / "set", number=5, side=40, cutouts="sample:digits", progress=tell)
    found = read(tmp_path / "set", strict=True).data
    with (tmp_path / "set" / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = {r["image"]: r for r in csv.DictReader(file)}
    assert found.names == ("3", "8") and len(found) == 10 == len(rows) and found.tags is not None
    for row, name in enumerate(found.ids):
        assert [found.tags[row, c] for c in (0, 1)] == [f" {n} " in f"{rows[name]['caption']} " for n in "38"]
        assert pixels(found, row).shape == (40, 40, 3)
    assert set(found.field("split")) == {"train"} and set(found.field("domain")) == {"imaginary"}
    assert told == [(i, 10) for i in range(1, 11)] and made.said.startswith("10 imaginary images of 2 classes")
    with Image.open(tmp_path / "set-sheet.png") as sheet:
        assert sheet.size == (5 * 96, 2 * (96 + 16))


def test_one_seed_one_set(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        imagine(["3", "8"], tmp_path / name, number=2, side=16, cutouts="sample:digits", seed=seed)
    a, b, c = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in "abc")
    assert a == b and a["labels.csv"] != c["labels.csv"]


def test_a_set_is_whole_or_not_there(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imagine("3,8", tmp_path / "set", number=4, side=16, cutouts="sample:digits", progress=stop)
    assert not list(tmp_path.iterdir())
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("kept")
    with pytest.raises(DataError, match="something here already"):
        imagine("3,8", tmp_path / "set", number=4, side=16, cutouts="sample:digits")
    assert (tmp_path / "set" / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("names", "given", "error", "says"),
    [
        ("", {}, SettingsError, "a name is empty"), ("3,,8", {}, SettingsError, "a name is empty"),
        ("cat,Cat", {}, SettingsError, "named twice"), ("3", {"methd": "x"}, SettingsError, "methd"),
        ("3", {"method": "oicr"}, NeedsError, "not a method to make images"),
        ("3,fish", {"cutouts": "sample:digits"}, NeedsError, "no cut-out of fish"),
        ("3", {"cutouts": "nowhere"}, DataError, "nothing here"), ("3", {"number": 0}, SettingsError, "number"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, names: str, given: dict[str, Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        imagine(names, tmp_path / "set", **given)
    assert not (tmp_path / "set").exists()


def test_names_that_no_file_may_have(tmp_path: Path) -> None:
    for folder in ("a%2Fb", "x%3Ay"):
        (tmp_path / "cut" / folder).mkdir(parents=True)
        Image.new("RGBA", (9, 9), "red").save(tmp_path / "cut" / folder / "1.png")
    imagine(["a/b", "x:y"], tmp_path / "set", number=2, side=16, cutouts=str(tmp_path / "cut"))
    assert read(tmp_path / "set").data.names == ("a/b", "x:y")


# -- as a step of a run -----------------------------------------------------------------------------------------------


def test_names_alone_make_a_network(run: Run, scenes: Dataset) -> None:
    assert run.config["before"] == [VIA] and run.config["method"] == "tagger"
    made = Dataset.load(run / "made" / "imaginary-images")
    images = np.load(run / "made" / "imaginary-images" / "images.npy", allow_pickle=False)
    assert images.shape == (40, 32, 32, 3) and set(made.who()) == {MODEL} and made.names == scenes.names
    assert made.tags is not None and all(made.tags[i, i // 4] == 1 for i in range(40))
    captions = [bytes(c).decode() for c in made.of_kind("text")["data"].to_pylist()]
    assert len(set(captions)) == 40 and all(f" {i // 4} " in f"{c} " for i, c in enumerate(captions))
    assert (run / "made" / "imaginary-images" / "sheet.png").is_file()
    seen = Dataset.load(run / "data")
    assert len(seen) == len(scenes) and not seen.known("tags").any(), "no label of a real image was seen"
    assert pq.read_table(run / "predictions.parquet")["id"].to_pylist() == scenes.ids.tolist()
    assert run.finished and "imaginary" not in " ".join(pq.read_table(run / "predictions.parquet")["id"].to_pylist())


def test_a_killed_run_takes_its_images_up(run: Run, scenes: Dataset, tmp_path: Path) -> None:
    """The training is done again, from images that lie there: they are not made anew."""
    shutil.copytree(run.folder, tmp_path / "run")
    weights = (run / "net.safetensors").read_bytes()
    for left in ("arms", "report.html", "net.json", "net.safetensors", "evaluation.json"):
        place = tmp_path / "run" / left
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    count = tmp_path / "run" / "made" / "imaginary-images" / "count.json"
    count.write_text('{"painted": 80}')
    heard: list[str] = []
    again = fit(scenes, tmp_path / "run", Heard(heard), have=("names",), want="tags", via=(VIA,), **QUICK)
    assert any("40 of 80 (50%) were turned down" in line for line in heard), "what lay there was read"
    assert (again / "net.safetensors").read_bytes() == weights


def test_images_that_were_cut_off_are_made_anew(run: Run, scenes: Dataset, tmp_path: Path) -> None:
    given = {"have": ("names",), "want": "tags", "via": (VIA,), **QUICK}
    with pytest.raises(KeyboardInterrupt):
        fit(scenes, tmp_path / "run", Stops([]), **given)
    assert not list((tmp_path / "run" / "made").iterdir()), "half of them are none"
    again = fit(scenes, tmp_path / "run", **given)
    assert (again / "net.safetensors").read_bytes() == (run / "net.safetensors").read_bytes()


def test_the_same_seed_makes_the_same_images(run: Run, scenes: Dataset, tmp_path: Path) -> None:
    given = {"have": ("names",), "want": "tags", "via": (VIA,), **QUICK}
    for seed, same in ((0, True), (1, False)):
        other = fit(scenes, tmp_path / str(seed), seed=seed, **given)
        a, b = ((r / "made" / "imaginary-images" / "images.npy").read_bytes() for r in (run, other))
        assert (a == b) is same


@pytest.mark.parametrize("harm", ["images.npy", "count.json", "images.parquet", "fewer", "other"])
def test_damaged_images_are_refused(run: Run, tmp_path: Path, harm: str) -> None:
    home = tmp_path / "made"
    shutil.copytree(run / "made" / "imaginary-images", home)
    names = list("0123456789")
    if harm == "fewer":
        np.save(home / "images.npy", np.zeros((3, 8, 8, 3), np.uint8), allow_pickle=False)
    elif harm == "other":
        names[0] = "zero"
    else:
        (home / harm).write_bytes((home / harm).read_bytes()[:7])
    with pytest.raises(RunError) as caught:
        engine.taken(home, names)
    assert str(home) in str(caught.value) and "Remove this folder" in str(caught.value)


def test_real_tags_are_mixed_by_a_ratio(scenes: Dataset, tmp_path: Path) -> None:
    via = "imaginary-images:cutouts=sample:digits,ratio=0.5,side=32"
    heard: list[str] = []
    run = fit(scenes, tmp_path / "run", Heard(heard), have=("tags",), want="tags", via=(via,), **QUICK)
    assert len(Dataset.load(run / "made" / "imaginary-images")) == 20
    assert run.config["before"] == [via] and Dataset.load(run / "data").known("tags").sum() == 40
    assert any("20 imaginary images of 10 classes, beside 40 real ones" in line for line in heard)


@pytest.mark.parametrize("have", ["names", "boxes"])
def test_boxes_from_names_and_beside_boxes(scenes: Dataset, tmp_path: Path, have: str) -> None:
    """To the end of a long chain: found boxes lie in imaginary images; boxes of people stay what they are."""
    steps = ("oicr:width=16,most=20", "found-boxes")
    run = fit(
        scenes, tmp_path / "run", have=(have,), want="boxes", via=(VIA, *steps), method="detector",
        **{**QUICK, "steps": 2},
    )  # fmt: skip
    assert [b.partition(":")[0] for b in run.config["before"]] == ["imaginary-images", "oicr", "found-boxes"]
    drafts = Dataset.load(run / "made" / "found-boxes")
    assert len(drafts) == len(scenes) + 40 and set(drafts.annotations["row"].to_pylist()) <= set(range(50, 90))
    found = pq.read_table(run / "boxes.parquet")["row"].to_numpy()
    assert len(found) == 0 or found.max() < 50


class Heard:
    """Keeps what a run says."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def say(self, text: str) -> None:
        self.lines.append(text)

    def tick(self, *given: object) -> None:
        pass


class Stops(Heard):
    """Ends the process, as it were, when half of the images are made."""

    def tick(self, arm: str, done: int, total: int, values: object) -> None:  # type: ignore[override]
        if arm == "imaginary-images" and done == total // 2:
            raise KeyboardInterrupt


def test_a_classifier_judges_in_the_order_of_the_names(run: Run, tmp_path: Path) -> None:
    """Against the probabilities that the run itself wrote down."""
    images = sample("digits").take(np.arange(0, 1797, 30))
    done = fit(images, tmp_path / "run", net="tiny-conv:width=4", steps=3, batch=8, twins="none", judge="none",
               precision="32", export=False, test=0.0)  # fmt: skip
    kept = pq.read_table(done / "predictions.parquet")
    names = ["7", "1", "0"]
    tell = engine.judge(str(done.folder), names)
    some = np.repeat(np.stack([pixels(images, r) for r in range(6)]), 3, 3)
    want = np.array([kept["probs"][r].as_py() for r in range(6)])[:, [7, 1, 0]]
    np.testing.assert_allclose(tell(some), want, atol=1e-5)
    with pytest.raises(NeedsError, match="does not know cat"):
        engine.judge(str(done.folder), ["7", "cat"])
    with pytest.raises(NeedsError, match="tells tags"):
        engine.judge(str(run.folder), ["7"])


# -- beside others ----------------------------------------------------------------------------------------------------


def bench(channels: int) -> Bench:
    luck = np.random.default_rng(0)
    data = Dataset.build([f"{i}.png" for i in range(6)], ["a", "b"], cls=np.array([0, 1, -1, -1, 1, 0]), split="train")
    data = data.with_column("together", np.arange(6)).with_column("mark", np.ones((6, 2), np.float32))
    images = luck.integers(0, 256, (6, 8, 8, channels), np.uint8)
    pool = np.arange(6) < 4
    return Bench(data, of_images(images), pool, "tiny-conv:width=4", 8, channels, 0, Alone())


def made(n: int = 3) -> Made:
    images = np.random.default_rng(1).integers(0, 256, (n, 12, 12, 3), np.uint8)
    tags = np.array([[1, 0], [0, 1], [1, 1]], np.int8)[:n]
    ids = [f"imaginary/{i}" for i in range(n)]
    return Made(images, engine._told(ids, ["a", "b"], tags, ["x", "y", "z"][:n], 12, "imaginary-images"), n)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_beside_others_move_nobody(channels: int) -> None:
    own = bench(channels)
    both = beside(own, made())
    assert both.data.ids.tolist() == [*own.data.ids, "imaginary/0", "imaginary/1", "imaginary/2"]
    assert both.data.cls.tolist() == [0, 1, -1, -1, 1, 0, -1, -1, -1] and both.data.names == ("a", "b")
    assert both.data.tags is not None and both.data.tags[6:].tolist() == [[1, 0], [0, 1], [1, 1]]
    assert (both.data.tags[:6] == -1).all() and both.pool.tolist() == [True] * 4 + [False] * 2 + [True] * 3
    assert both.data.columns["together"].tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1]
    assert np.isnan(both.data.columns["mark"][6:]).all() and (both.data.columns["mark"][:6] == 1).all()
    for row in range(6):
        np.testing.assert_array_equal(both.pixels.image(row), own.pixels.image(row))
    last = both.pixels.image(8)
    assert last.shape == (12, 12, channels)
    if channels == 3:
        np.testing.assert_array_equal(last, made().images[2])
    else:
        assert np.abs(last[..., 0] - made().images[2] @ np.array([0.299, 0.587, 0.114])).max() <= 0.51
    (part,) = both.feed({}).sweep(np.arange(9)[both.pool], 16)
    assert part["plain"].shape == (7, channels, 8, 8)


def test_without_them_all_is_as_it_was_but_for_what_was_said() -> None:
    own = bench(3)
    both = beside(own, made())
    both = replace(both, data=both.data + both.data.delta_class(np.r_[[-1] * 3, 1, [-1] * 5], source="x", who=MODEL))
    back = without(both, own)
    assert back.data.ids.tolist() == own.data.ids.tolist() and back.data.cls.tolist() == [0, 1, -1, 1, 1, 0]
    assert back.pixels is own.pixels and back.pool is own.pool
    assert back.data.columns["together"].tolist() == list(range(6))
    assert without(own, own) is own
