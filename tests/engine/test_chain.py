"""Tags to masks in one command: what each step leaves, how a killed run goes on, what is measured and refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from modicum.core.dataset import MODEL, Dataset
from modicum.core.errors import NeedsError, RunError, SettingsError
from modicum.data.masks import Painter
from modicum.data.samples import sample
from modicum.data.vault import Vault
from modicum.engine import chain
from modicum.engine.fit import fit
from modicum.engine.table import Finished
from modicum.engine.verbs import label, select
from modicum.runs.run import Run

QUICK: dict[str, Any] = {
    "have": ("tags",), "want": "masks", "steps": 6, "batch": 8, "precision": "32", "net": "tiny-conv:width=4",
    "side": 32, "flip": "no",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pixel cache of our own."""
    pytest.MonkeyPatch().setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    """A hundred training scenes and thirty for testing."""
    data = sample("scenes-plain")
    return data.take(np.r_[:100, 1000:1030])


@pytest.fixture(scope="module")
def run(scenes: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(scenes, tmp_path_factory.mktemp("chain") / "run", **QUICK)


def test_every_step_leaves_its_work(run: Run, scenes: Dataset) -> None:
    assert run.config["before"] == ["tagger", "cam", "map-masks"] and run.config["method"] == "segmenter"
    assert run.config["choices"]["before"] == {"tagger": 6}
    assert {p.name for p in (run / "arms").iterdir()} == {"tagger", "segmenter"}
    made = Dataset.load(run / "made" / "map-masks")
    assert set(made.who()) == {MODEL} and len(made) == len(scenes)
    assert made.annotations["row"].to_numpy().max() < 100, "no draft of a test image"
    tags = scenes.tags
    assert tags is not None and all(tags[r, c] == 1 for r, c in _said(made))
    assert np.isfinite(made.annotations["confidence"].to_numpy()).all()


def _said(made: Dataset) -> list[tuple[int, int]]:
    """Row and class of every draft."""
    known = made.annotations["class"].fill_null(-1).to_numpy()
    return [(r, c) for r, c in zip(made.annotations["row"].to_pylist(), known.tolist()) if c >= 0]


def test_training_sees_tags_alone_and_no_test_image(run: Run, scenes: Dataset) -> None:
    seen = Dataset.load(run / "data")
    assert set(seen.annotations["kind"].to_pylist()) == {"tags"}
    assert seen.annotations["row"].to_numpy().max() < 100
    hidden = Vault.load(run / "vault").reveal(seen, "test")
    painter, before = Painter(hidden), Painter(scenes)
    assert all((painter.whole(r) == before.whole(r)).all() for r in range(100, 130))


def test_masks_are_measured_on_the_test_split(run: Run, scenes: Dataset) -> None:
    found = run.read("evaluation.json")
    assert found["lead"] == "miou" and found["test"]["images"] == 30
    true = np.concatenate([Painter(scenes).whole(r).ravel() for r in range(100, 130)])
    ground = (true == 0).mean()
    shown = len(np.unique(true))
    assert found["arms"]["all background"]["miou"][0] == pytest.approx(ground / shown, abs=1e-6)
    assert [o["reason"] for o in found["vault"]] == ["evaluation of masks on the test split"]
    page = (run / "report.html").read_text()
    assert 'id="masks"' in page and "mean iou" in page and 'id="calibration"' not in page
    with np.load(run / "masks.npz", allow_pickle=False) as drawn:
        assert drawn["said"].shape == drawn["true"].shape and (drawn["rows"] >= 100).all()


def test_a_run_goes_on_from_each_step(run: Run, scenes: Dataset, tmp_path: Path) -> None:
    """Ended after the tagger, after the labels, or after the segmenter: the same weights."""
    want = (run / "net.safetensors").read_bytes()
    for gone in (("made", "arms/segmenter"), ("arms/segmenter",), ()):
        place = tmp_path / str(len(gone))
        shutil.copytree(run.folder, place)
        for name in (*gone, "report.html", "net.json", "net.safetensors", "seconds.json"):
            path = place / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if gone:
            config = {**json.loads((place / "config.json").read_text()), "arms": []}
            (place / "config.json").write_text(json.dumps(config))
        assert (fit(scenes, place, **QUICK) / "net.safetensors").read_bytes() == want


@pytest.mark.parametrize(("before", "found"), [({}, "tagger is missing"), ({"tagger": 0}, "tagger is 0"), ([], "is")])
def test_steps_that_config_does_not_tell_are_refused(
    run: Run, scenes: Dataset, tmp_path: Path, before: Any, found: str
) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    page = tmp_path / "run" / "config.json"
    config = json.loads(page.read_text())
    config["choices"]["before"] = before
    page.write_text(json.dumps(config))
    with pytest.raises(RunError, match=f"config.json is damaged: choices.before.*{found}"):
        fit(scenes, tmp_path / "run", **QUICK)


def test_labels_of_other_images_are_refused(run: Run, scenes: Dataset, tmp_path: Path) -> None:
    place = tmp_path / "run"
    shutil.copytree(run.folder, place)
    (place / "report.html").unlink()
    scenes.take(np.arange(5)).save(place / "made" / "map-masks")
    with pytest.raises(RunError, match="other images"):
        fit(scenes, place, **QUICK)


def test_a_step_is_replaced_by_one_of_its_role(scenes: Dataset, tmp_path: Path) -> None:
    via = ("layer-cam", "map-masks:tau=0.4")
    made = fit(scenes, tmp_path / "run", **{**QUICK, "steps": 2, "export": False}, via=via)
    assert made.config["before"] == ["tagger", "layer-cam", "map-masks:tau=0.4"]
    assert sum(", as asked." in w for w in made.config["why"]) == 2
    with pytest.raises(SettingsError, match="role score"):
        fit(scenes, tmp_path / "other", **QUICK, via=("margin",))
    with pytest.raises(SettingsError, match="unknown kind 'tag'"):
        fit(scenes, tmp_path / "other", **{**QUICK, "have": ("tag",)})


def test_a_step_that_makes_no_label_says_so(
    scenes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = chain._kept

    def none(*given: Any) -> Dataset:
        delta = kept(*given)
        return replace(delta, annotations=delta.annotations.slice(0, 0))

    monkeypatch.setattr(chain, "_kept", none)
    with pytest.raises(NeedsError, match="map-masks made no label of 130 images"):
        fit(scenes, tmp_path / "run", **QUICK)


def test_minutes_are_shared_out(scenes: Dataset, tmp_path: Path) -> None:
    config = fit(
        scenes, tmp_path / "run", **{**QUICK, "steps": 0, "minutes": 1e-3, "export": False}
    ).config
    assert config["choices"]["before"]["tagger"] >= 50 and config["arms"][0]["steps"] >= 50


def test_tags_alone(scenes: Dataset, tmp_path: Path) -> None:
    made = fit(scenes, tmp_path / "run", **{**QUICK, "want": "tags", "twins": "time"})
    found, probs = made.read("evaluation.json"), Finished.open(made.folder)
    assert found["lead"] == "map" and {*found["arms"]} == {"tagger", "as-common"}
    assert probs.meta["tells"] == "tags" and made.config["before"] == [] and len(made.config["arms"]) == 1
    with pytest.raises(NeedsError, match="that of this run tells tags"):
        select(made.folder, 5, "uncertainty-sampling")
    with pytest.raises(NeedsError, match="tags of every image that is not for testing are known"):
        select(made.folder, 5, "random-sample")


def test_what_is_learned_follows_from_the_labels(scenes: Dataset) -> None:
    from modicum.engine import choose
    from modicum.engine.request import Request

    classes = Dataset.build(["a", "b"], ["x", "y"], cls=np.array([0, 1]))
    assert choose.goal(classes, Request()) == "class"
    assert choose.goal(scenes, Request()) == "boxes"
    assert choose.goal(scenes, Request(have=("masks", "tags"))) == "masks"
    assert choose.goal(scenes, Request(have=("tags",))) == "tags"
    assert choose.goal(scenes, Request(want="tags")) == "tags"
    assert chain.learners(["tagger", "cam", "map-masks:tau=0.3"]) == ["tagger"]


def test_boxes_from_boxes_and_from_tags(scenes: Dataset, tmp_path: Path) -> None:
    quick = {**QUICK, "want": "boxes", "have": ("boxes",)}
    made = fit(scenes, tmp_path / "boxes", **quick)
    found = made.read("evaluation.json")
    assert found["lead"] == "ap50" and found["test"]["images"] == 30 and made.config["before"] == []
    true = scenes.of_kind("boxes")
    assert sum(found["test"]["counts"]) == (true["row"].to_numpy() >= 100).sum()
    said = pq.read_table(made / "boxes.parquet")
    assert set(said["row"].to_pylist()) <= set(range(130)) and (np.asarray(said["x1"]) <= 64).all()
    assert 'id="boxes"' in (made / "report.html").read_text()
    assert made.read("export.json")["largest_shift"] <= 0.01 and (made / "model.onnx").is_file()
    with pytest.raises(NeedsError, match="boxes of every image that is not for testing are known"):
        select(made.folder, 3)
    weak = fit(scenes, tmp_path / "tags", **{**quick, "have": ("tags",)})
    assert len(select(weak.folder, 3)[1]) == 3
    drawn = label(weak.folder, "found-boxes", {"least": 0.0})
    row = drawn.annotations["row"].to_numpy()
    assert set(drawn.annotations["kind"].to_pylist()) <= {"boxes"} and set(row.tolist()) <= set(range(100))
    assert weak.config["before"] == ["tagger", "cam", "map-boxes"]
    drafts = Dataset.load(weak / "made" / "map-boxes")
    assert set(drafts.who()) == {MODEL} and drafts.annotations["row"].to_numpy().max() < 100
    assert set(drafts.looked["row"].to_pylist()) == set(drafts.annotations["row"].to_pylist())
