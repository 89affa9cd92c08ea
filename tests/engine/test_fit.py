"""fit from end to end on real digits, small: what it writes, how it resumes, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, NeedsError, RunError, SettingsError
from modicum.data.samples import sample
from modicum.data.vault import Vault
from modicum.engine.fit import Listener, fit
from modicum.models import files
from modicum.runs.run import Run

QUICK = {
    "steps": 12, "twins": "steps", "precision": "32", "labels": 2, "batch": 8, "export": False, "judge": "none",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pixel cache of our own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit("sample:digits", tmp_path_factory.mktemp("fit") / "run", **QUICK)


def same_weights(a: Run, b: Run, arm: str = "") -> bool:
    one, other = (files.load((r / "arms" / arm) if arm else r.folder)[0].state_dict() for r in (a, b))
    return one.keys() == other.keys() and all(one[k].equal(other[k]) for k in one)


def test_a_run_holds_what_its_docstring_says(run: Run) -> None:
    names = {p.name for p in run.folder.iterdir()}
    assert {
        "config.json", "environment.json", "data", "vault", "metrics.jsonl", "arms", "net.json", "net.safetensors",
        "predictions.parquet", "evaluation.json", "scan.json", "maps.npz", "report.html", "seconds.json",
    } <= names  # fmt: skip
    assert {a["name"] for a in run.config["arms"]} == {"fixmatch", "twin-weak", "twin-strong"}
    assert not list(run.folder.glob("arms/*/checkpoints")) and ".lock" not in names


def test_hidden_labels_are_in_no_file_but_the_vault(run: Run) -> None:
    table = pq.read_table(run / "predictions.parquet")
    assert (np.asarray(table["cls"]) >= 0).sum() == 20
    found = run.read("evaluation.json")
    assert found["test"]["images"] == len(table.filter(np.asarray(table["split"]) == "test"))
    assert [o["reason"] for o in Vault.load(run / "vault").openings] == ["evaluation on the test split"]


def test_predictions_are_the_delivered_nets(run: Run) -> None:
    from modicum.engine.table import Finished

    done = Finished.open(run.folder)
    table = done.table("split:test")
    pixels = done.pixels()
    logits = done.net(done.batch([pixels.image(int(r)) for r in table.rows[:8]])).logits.detach().numpy()
    np.testing.assert_allclose(logits, table["logits"][:8], atol=1e-5)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(run: Run, tmp_path: Path) -> None:
    again = fit("sample:digits", tmp_path / "again", **QUICK)
    other = fit("sample:digits", tmp_path / "other", **{**QUICK, "seed": 1})
    assert same_weights(run, again) and not same_weights(run, other)


def test_garbage_behind_hidden_labels_changes_nothing(tmp_path: Path) -> None:
    """The whole job, with every label of the test split replaced by another: the nets are bitwise equal."""
    data = sample("digits")
    split = np.where(np.arange(len(data)) % 2, "test", "train").astype(object)
    few = data.with_images(split=split).without(
        "class", np.flatnonzero((split == "train") & (np.arange(len(data)) > 60))
    )
    garbage = few + few.delta_class(np.where(split == "test", (few.cls + 3) % 10, -1), source="nonsense", who="human")
    a = fit(few, tmp_path / "a", **{**QUICK, "labels": 0})
    b = fit(garbage, tmp_path / "b", **{**QUICK, "labels": 0})
    assert same_weights(a, b) and same_weights(a, b, "twin-weak")
    accuracy = [r.read("evaluation.json")["arms"]["fixmatch"]["accuracy"][0] for r in (a, b)]
    assert accuracy[0] != accuracy[1]


class StopAt(Listener):
    """Presses Ctrl-C at a step of an arm."""

    def __init__(self, arm: str, step: int) -> None:
        self.arm, self.step = arm, step

    def tick(self, arm: str, done: int, total: int, values: object) -> None:
        if (arm, done) == (self.arm, self.step):
            raise KeyboardInterrupt


@pytest.mark.parametrize(("arm", "step"), [("fixmatch", 1), ("fixmatch", 7), ("twin-weak", 12), ("twin-strong", 5)])
def test_an_interrupt_is_saved_and_resumed_to_the_same_bits(run: Run, tmp_path: Path, arm: str, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit("sample:digits", tmp_path / "run", StopAt(arm, step), **QUICK)
    again = fit("sample:digits", tmp_path / "run", **QUICK)
    assert same_weights(run, again) and all(same_weights(run, again, a) for a in ("twin-weak", "twin-strong"))
    lines = [json.loads(line) for line in (again / "metrics.jsonl").read_text().splitlines()]
    for name in ("fixmatch", "twin-weak", "twin-strong"):
        assert [x["step"] for x in lines if x["arm"] == name] == list(range(1, 13))


def test_another_request_in_the_same_folder_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="seed=0, now 5"):
        fit("sample:digits", run.folder, **{**QUICK, "seed": 5})


@pytest.mark.parametrize("change", [{"want": "nonsense"}, {"want": "boxes"}, {"method": "cam"}])
def test_a_goal_that_the_method_does_not_have_is_refused(run: Run, tmp_path: Path, change: dict[str, str]) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    page = tmp_path / "run" / "config.json"
    page.write_text(json.dumps(json.loads(page.read_text()) | change))
    with pytest.raises(RunError, match=r"config\.json is damaged: .* does not tell"):
        fit("sample:digits", tmp_path / "run", **QUICK)


def test_a_finished_run_is_left_alone(run: Run) -> None:
    before = (run / "net.safetensors").stat().st_mtime_ns
    fit("sample:digits", run.folder, **QUICK)
    assert (run / "net.safetensors").stat().st_mtime_ns == before


def test_two_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    with Run(tmp_path / "run").lock(), pytest.raises(RunError, match="another process"):
        fit("sample:digits", tmp_path / "run", **QUICK)


def test_a_folder_with_something_else_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(RunError, match="not empty"):
        fit("sample:digits", tmp_path, **QUICK)


def test_a_bad_place_leaves_no_folder_behind(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("run", "mine"):
        with pytest.raises(DataError, match="nothing here"):
            fit(tmp_path / "none", tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"] and not list((tmp_path / "mine").iterdir())


def test_a_run_killed_before_its_data_were_written_begins_again(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scan.json").write_text("{}")
    assert same_weights(run, fit("sample:digits", tmp_path / "run", **QUICK))


def test_a_network_of_tokens_has_maps_of_its_attention(tmp_path: Path) -> None:
    run = fit("sample:digits", tmp_path / "run", **{**QUICK, "steps": 2, "twins": "none"}, net="test_vit", side=160)
    with np.load(run / "maps.npz") as found:
        assert found["maps"].shape[1:] == (10, 10) and found["maps"].any()
    assert (run / "report.html").exists()


def test_bad_settings_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown setting 'step'"):
        fit("sample:digits", tmp_path / "a", step=3)
    with pytest.raises(SettingsError, match="mean-teacher"):
        fit("sample:digits", tmp_path / "b", **QUICK, method="mean-techer")
    with pytest.raises(SettingsError, match="taus"):
        fit("sample:digits", tmp_path / "c", **QUICK, method="fixmatch", settings={"taus": "1"})
    with pytest.raises(NeedsError):
        fit("sample:digits", tmp_path / "d", **QUICK, method="entropy")


def folder_of(tmp_path: Path, labelled: int, unlabelled: int, test: int) -> Path:
    data = sample("digits")
    from modicum.data.read import pixels

    rng = np.random.default_rng(0)
    for cls in range(3):
        rows = rng.permutation(np.flatnonzero(data.cls == cls))
        places = [f"train/{cls}"] * labelled + ["unlabelled"] * unlabelled + [f"test/{cls}"] * test
        for row, place in zip(rows, places, strict=False):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(data, int(row))[:, :, 0]).resize((24, 20)).save(tmp_path / place / f"{row}.png")
    return tmp_path


def test_an_own_folder_with_a_bad_file(tmp_path: Path) -> None:
    home = folder_of(tmp_path / "images", 2, 18, 4)
    (home / "unlabelled" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    run = fit(home, tmp_path / "run", steps=6, twins="steps", precision="32", export=False)
    assert run.config["method"] == "fixmatch" and run.config["data"]["images"] == 3 * 24 + 1
    assert [f["where"] for f in run.read("scan.json")["faults"]] == ["unlabelled/broken.png"]
    assert run.read("evaluation.json")["test"]["images"] == 12
    assert "broken.png" in (run / "report.html").read_text()


def twice(home: Path, *splits: str) -> Path:
    """Twelve parts of each of two photographs, each saved as PNG and as JPEG, by turns into the splits."""
    for name, photo in zip(("china", "flower"), load_sample_images().images):
        for k in range(12):
            part = Image.fromarray(photo[140 * (k % 3) : 140 * (k % 3) + 140, 150 * (k // 3) : 150 * (k // 3) + 150])
            for suffix, split in zip(("png", "jpg"), splits):
                file = home / split / name / f"{k}-{suffix}.{suffix}"
                file.parent.mkdir(parents=True, exist_ok=True)
                part.save(file)
    return home


def test_one_picture_is_not_on_both_sides_of_what_fit_draws(tmp_path: Path) -> None:
    run = fit(twice(tmp_path / "images", "", ""), tmp_path / "run", steps=4, twins="none", export=False)
    data = Dataset.load(run / "data")
    group, split = data.columns["together"], data.field("split")
    sides = [set(split[group == g]) for g in np.unique(group) if g >= 0]
    assert len(sides) >= 22 and all(len(s) == 1 for s in sides) and {"test"} in sides
    assert run.read("evaluation.json")["copies"]["images"] == 0
    assert run.read("scan.json")["crossing"]["groups"] == 0
    assert "groups of one picture each were kept on one side" in run.read("scan.json")["drawn"][-1]


def test_a_split_that_leaks_is_told_and_left(tmp_path: Path) -> None:
    run = fit(twice(tmp_path / "images", "train", "test"), tmp_path / "run", steps=4, twins="none", export=False)
    assert {n: int(k) for n, k in run.read("scan.json")["splits"].items()} == {"train": 24, "test": 24}
    found = run.read("evaluation.json")["copies"]
    assert found["images"] >= 22 and run.read("scan.json")["crossing"]["groups"] == found["images"]
    page = (run / "report.html").read_text()
    assert "One picture in several splits" in page and "are near-duplicates of training images" in page


def test_full_labels_choose_supervised_and_no_test_split_says_so(tmp_path: Path) -> None:
    run = fit(folder_of(tmp_path / "images", 5, 0, 0), tmp_path / "run", steps=6, precision="32", export=False)
    assert run.config["method"] == "supervised" and [a["name"] for a in run.config["arms"]] == ["supervised"]
    assert run.read("evaluation.json")["verdict"]["word"] == "no test labels: nothing can be said"


def test_images_without_any_class_are_refused_with_the_way_on(tmp_path: Path) -> None:
    home = folder_of(tmp_path / "images", 0, 4, 0)
    with pytest.raises(DataError, match="no image has a class"):
        fit(home, tmp_path / "run", steps=6)
    with pytest.raises(NeedsError, match="--labels 2: no image for training has a class"):
        fit(home, tmp_path / "few", steps=6, labels=2)


def test_a_filled_list_beside_class_folders_is_learned_from(tmp_path: Path) -> None:
    home = folder_of(tmp_path / "images", 2, 6, 0)
    names = sorted(p.name for p in (home / "unlabelled").iterdir())
    data = sample("digits")
    lines = ["image,class", *(f"unlabelled/{n},{data.cls[int(n[:-4])]}" for n in names[:4]), f"unlabelled/{names[4]},"]
    (home / "todo.csv").write_text("\n".join(lines) + "\n")
    run = fit(home, tmp_path / "run", steps=6, precision="32", twins="none", export=False)
    assert sum(run.config["data"]["counts"]) == 3 * 2 + 4


def test_votes_are_aggregated_first(tmp_path: Path) -> None:
    home = folder_of(tmp_path / "images", 0, 6, 0)
    names = sorted(p.name for p in (home / "unlabelled").iterdir())
    data = sample("digits")
    lines = ["image,annotator,label"]
    lines += [f"unlabelled/{n},{who},{data.cls[int(n[:-4])]}" for n in names for who in ("ann", "bob")]
    (home / "votes.csv").write_text("\n".join(lines) + "\n")
    run = fit(home, tmp_path / "run", steps=6, precision="32", twins="none", export=False)
    assert run.config["before"] and run.config["method"] == "supervised"
