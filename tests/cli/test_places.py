"""Runs that tell tags, masks or boxes, in the verbs after `fit`, called as a person calls them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.cli import main
from modicum.core.dataset import Dataset
from modicum.data.formats import writable
from modicum.data.samples import sample
from modicum.engine.fit import fit

KINDS = ("tags", "masks", "boxes")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    return sample("scenes-plain").take(np.r_[:30, 1000:1012])


@pytest.fixture(scope="module")
def runs(scenes: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("runs")
    for kind in KINDS:
        fit(
            scenes, home / kind, want=kind, have=(kind,), steps=20, batch=8, precision="32", net="tiny-conv:width=4",
            side=32, flip="no", twins="none",
        )  # fmt: skip
    return {kind: home / kind for kind in KINDS}


@pytest.fixture(scope="module")
def photos(scenes: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of the test split with COCO's JSON, classes in another order than the network's."""
    folder = tmp_path_factory.mktemp("photos")
    writable()["coco"].write(scenes.take(np.arange(30, 42)), folder, lambda done, total: None)
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main([str(w) for w in words]) == code
    out = capsys.readouterr()
    return out.out, out.err


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_images_from_elsewhere_measure_the_same(
    kind: str, runs: dict[str, Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = json.loads(said(capsys, "evaluate", runs[kind], "--json")[0])
    other = json.loads(said(capsys, "evaluate", runs[kind], "--data", photos, "--json")[0])
    assert other["lead"] == kept["lead"] and other["test"]["images"] == kept["test"]["images"] == 12
    for metric in kept["metrics"]:
        ours, theirs = (found["arms"][found["main"]][metric] for found in (other, kept))
        assert ours[0] == pytest.approx(theirs[0], abs=1e-6), metric
    title = kept["metrics"][kept["lead"]]["title"]
    for words in (["evaluate", runs[kind]], ["evaluate", runs[kind], "--data", photos]):
        assert title in said(capsys, *words)[0]
    text = said(capsys, "evaluate", runs[kind], "--data", "sample:digits", code=3)[1]
    assert f"no image has {kind}" in text and "scan sample:digits" in text


@pytest.mark.parametrize("kind", KINDS)
def test_runs_are_exported_and_the_summary_says_how_to_go_on(
    kind: str, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from modicum.cli._summary import next_commands

    facts = json.loads((runs[kind] / "export.json").read_bytes())
    assert facts["largest_difference"] <= 1e-4 and ("largest_shift" in facts) == (kind == "boxes")
    out = f" --{kind} FOLDER" if kind != "tags" else ""
    assert f"modicum predict {runs[kind]} IMAGES{out} " in next_commands(runs[kind])[0]
    text = said(capsys, "export", runs[kind], "--out", runs[kind].parent / f"{kind}.onnx")[0]
    assert ("boxes to" in text) == (kind == "boxes") and "agree with the network" in text


def test_a_refused_export_is_not_recommended(runs: dict[str, Path]) -> None:
    from modicum.cli._summary import next_commands

    model, away = runs["boxes"] / "model.onnx", runs["boxes"] / "away"
    model.rename(away)
    try:
        assert [c.split()[1] for c in next_commands(runs["boxes"])] == ["explain"]
    finally:
        away.rename(model)


def test_a_detector_names_classes_or_writes_boxes(
    runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs["boxes"]
    (tmp_path / "broken.png").write_bytes(b"no")
    out, err = said(capsys, "predict", run, photos / "images", tmp_path)
    assert len(out.splitlines()) == 12 and "--boxes FOLDER" in err and "broken.png" in err
    out, err = said(capsys, "predict", run, photos / "images", tmp_path, "--boxes", tmp_path / "new" / "annotations")
    assert "12 images: instances.json" in out and "broken.png" in err
    results = json.loads((tmp_path / "new" / "annotations" / "results.json").read_bytes())
    page = json.loads((tmp_path / "new" / "annotations" / "instances.json").read_bytes())
    assert (
        results and {r["image_id"] for r in results} <= {i["id"] for i in page["images"]} and len(page["images"]) == 12
    )
    assert len(list((tmp_path / "new" / "annotations" / "pictures").iterdir())) == 12


REFUSED = [
    ("boxes", ("--boxes", "a", "--masks", "b"), 2, "--masks beside --boxes"),
    ("boxes", ("--boxes", "a", "--out", "b.csv"), 2, "--out beside --boxes"),
    ("boxes", ("--boxes", "a", "--cluster", "local"), 2, "--cluster beside --boxes"),
    ("boxes", ("--boxes", "a", "--sure", "1.5"), 2, "--sure"),
    ("tags", ("--boxes", "a"), 6, "finds no boxes: it tells tags"),
    ("boxes", ("--masks", "a"), 6, "says nothing of pixels: it tells boxes"),
]


@pytest.mark.parametrize(("kind", "options", "code", "words"), REFUSED)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    kind: str, options: tuple[str, ...], code: int, words: str, runs: dict[str, Path], photos: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert words in said(capsys, "predict", runs[kind], photos, *options, code=code)[1]
    assert not list(tmp_path.iterdir())


def test_nothing_to_read_and_no_place_to_write(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "file.png")
    run = runs["boxes"]
    assert (
        "no image could be read"
        in said(capsys, "predict", run, tmp_path / "none", "--boxes", tmp_path / "x", code=3)[1]
    )
    assert "a file, where" in said(capsys, "predict", run, tmp_path, "--boxes", tmp_path / "file.png", code=2)[1]


@pytest.mark.parametrize(("kind", "folder"), [("boxes", "annotations"), ("masks", "masks")])
def test_a_network_is_not_measured_by_what_it_said(
    kind: str, folder: str, runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos / "images", tmp_path / "images")
    said(capsys, "predict", runs[kind], tmp_path, f"--{kind}", tmp_path / folder)
    text = said(capsys, "evaluate", runs[kind], "--data", tmp_path, code=3)[1]
    assert "these labels are what a network found" in text and folder in text


def test_a_detector_that_is_not_sure_says_what_its_best_score_is(
    runs: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = said(capsys, "predict", runs["boxes"], photos, "--boxes", tmp_path / "new", "--sure", "1")
    assert "No box has a score of 1 or more, the best has 0." in err and "12 images" in out
    results = json.loads((tmp_path / "new" / "results.json").read_bytes())
    assert f"the best has {max(r['score'] for r in results):.2f}: --sure " in err
