"""Boxes with the help of other images: what is learned from them, and that nothing else of them is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import NeedsError, SettingsError
from modicum.core.kinds import Fact
from modicum.data.formats import writable
from modicum.data.samples import sample
from modicum.engine import chain, others
from modicum.engine.fit import fit
from modicum.engine.request import Request
from modicum.runs.run import Run

QUICK: dict[str, Any] = {
    "have": ("tags", "boxes@other"), "want": "boxes", "steps": 6, "batch": 4, "precision": "32", "flip": "no",
    "net": "tiny-conv:width=4", "side": 32, "export": False,
}  # fmt: skip
STEPS = ["lbba-adjuster", "lbba", "found-boxes"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pixel cache of our own."""
    pytest.MonkeyPatch().setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty scenes on disk, as COCO."""
    place = tmp_path_factory.mktemp("other")
    writable()["coco"].write(sample("scenes-plain").take(np.arange(30)), place, lambda done, total: None)
    return place


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    return sample("scenes-plain").take(np.r_[100:150, 1000:1020])


def test_other_images_are_gone_before_the_second_step(
    other: Path, scenes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "other"
    shutil.copytree(other, there)
    run = tmp_path / "run"
    learned = chain._learned

    def gone(job: Any, bench: Any, text: str, *more: Any) -> Any:
        if text == "lbba":
            shutil.rmtree(there)
            raise KeyboardInterrupt
        return learned(job, bench, text, *more)

    monkeypatch.setattr(chain, "_learned", gone)
    with pytest.raises(KeyboardInterrupt):
        fit(scenes, run, other=str(there), **QUICK)
    monkeypatch.undo()
    assert (run / "arms" / "lbba-adjuster" / "net.json").is_file() and not there.exists()
    made = fit(scenes, run, other=str(there), **QUICK)
    config = made.config
    assert config["before"] == STEPS and config["method"] == "detector"
    assert [*config["choices"]["before"]] == STEPS[:2]
    assert len(Dataset.load(run / "data")) == len(scenes), "no image of the others is kept"
    whole = fit(scenes, tmp_path / "whole", other=str(other), **QUICK)
    for name in ("lbba-adjuster", "lbba", "detector"):
        assert _bits(made, name) == _bits(whole, name), name
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"Only the first step, lbba-adjuster, learns from the images of {there}" in page


def _bits(run: Run, arm: str) -> bytes:
    return (run / "arms" / arm / "net.safetensors").read_bytes()


def test_what_is_known_of_other_images(other: Path) -> None:
    found = others.facts(Request(other=str(other), have=("tags", "boxes@other")))
    assert Fact("boxes", scope="other") in found and {f.kind for f in found} == {"image", "boxes"}
    everything = others.facts(Request(other=str(other)))
    assert {"boxes", "image"} < {f.kind for f in everything} and {f.scope for f in everything} == {"other"}
    assert others.facts(Request()) == ()
    with pytest.raises(NeedsError, match=r"no scribbles there\nThere: .*boxes@other"):
        others.facts(Request(other=str(other), have=("scribbles@other",)))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"have": ("boxes@other",)}, "boxes@other is about other images.*\n.*--other FOLDER"),
        ({"have": ("boxes@source",)}, "neither a kind of label nor one of other images"),
        ({"have": ("net:boxes",)}, "neither a kind of label"),
        ({"have": ("boxs@other",)}, "unknown kind 'boxs'"),
    ],
)
def test_what_is_asked_of_other_images_must_make_sense(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Request.of(asked)


def test_other_images_of_another_kind_are_refused(other: Path, scenes: Dataset, tmp_path: Path) -> None:
    grey = tmp_path / "grey"
    shutil.copytree(other, grey)
    for file in grey.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    with pytest.raises(NeedsError, match="images of 1 channels, where those of the data have 3"):
        fit(scenes, tmp_path / "run", other=str(grey), **QUICK)


def test_the_other_images_steps_are_written_down(other: Path, scenes: Dataset, tmp_path: Path) -> None:
    run = fit(scenes, tmp_path / "run", other=str(other), **{**QUICK, "method": "lbba", "steps": 2})
    assert run.config["before"] == STEPS[:1] and run.config["method"] == "lbba"
    assert json.loads((run.folder / "config.json").read_text())["request"]["other"] == str(other)
    assert run.read("evaluation.json")["lead"] == "ap50"
    unused = others.about(Request(other="x"), ["oicr", "found-boxes", "detector"])
    assert unused == ["Nothing of x is used: no step needs it."]
    again = fit(scenes, tmp_path / "again", other=str(run.folder), **{**QUICK, "have": ("tags",), "steps": 2})
    assert again.config["before"] == STEPS[1:] and f"What the run {run.folder} learned is used." in again.config["why"]
    with pytest.raises(NeedsError, match="no step of this run learned from other images"):
        fit(scenes, tmp_path / "third", other=str(again.folder), **QUICK)
