"""The verbs that work on a finished run, called as a person calls them."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.cli import main
from modicum.data.read import pixels
from modicum.data.samples import sample
from modicum.engine.fit import fit


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs") / "run"
    fit("sample:digits", folder, labels=3, steps=40, batch=16, twins="none", precision="32")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, data = tmp_path_factory.mktemp("images"), sample("digits")
    for row in range(5):
        Image.fromarray(pixels(data, row)[:, :, 0]).save(folder / f"{row}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main([str(w) for w in words]) == code
    out = capsys.readouterr()
    return out.out + out.err


def test_predict_agrees_with_the_run_and_lists_the_broken_file(
    run: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "predict", run, images)
    lines = dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    assert len(lines) == 5 and "broken.png" in text
    import pyarrow.parquet as pq

    kept = pq.read_table(run / "predictions.parquet").slice(0, 5)
    names = [lines[k].split("\t")[0] for k in sorted(lines)]
    assert names == [str(p) for p in kept["pred"].to_pylist()]


def test_predict_imports_no_torch(run: Path, images: Path) -> None:
    call = f"main(['predict', {str(run)!r}, {str(images)!r}])"
    code = f"import sys\nfrom modicum.cli import main\n{call}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_predict_writes_csv_and_parquet(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("out.csv", "out.parquet"):
        assert "5 images classified, 1 could not be read" in said(
            capsys, "predict", run, images, "--out", tmp_path / name
        )
        assert (tmp_path / name).stat().st_size


def test_explain_draws_a_picture_an_image(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "explain", run, images, "--out", tmp_path / "maps")
    files = sorted((tmp_path / "maps").glob("[0-9]*.png"))
    assert len(files) == 5 and "skipped" in text and "broken.png" in text and "5 pictures" in text
    rows = list(csv.DictReader((tmp_path / "maps" / "maps.csv").open(encoding="utf-8")))
    assert all(f"{tmp_path / 'maps' / r['picture']}\t{r['sentence']}" in text for r in rows) and len(rows) == 5
    picture = np.asarray(Image.open(files[0]))
    assert picture.shape[1] == 2 * 224 + 3 * 8 and picture[8:200, 250:450].std() > 0
    assert "no class 'cat'" in said(capsys, "explain", run, images, "--target", "cat", code=3)


def test_explain_says_twenty_lines_and_where_the_rest_is(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("explain", run, "sample:digits", "--out", tmp_path, "--layer", "stages.0", "--method", "eigen-cam")
    text = said(capsys, *words, "--no-contour")
    assert text.count("half of its evidence") == 20 and "1,797 pictures" in text and "maps.csv" in text
    assert "careful: eigen-cam at stages.0: drawing the top layers anew hardly changes the maps" in text


def test_explain_takes_several_classes_and_methods(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = "cam,score-cam:top=4,score=logit"
    said(capsys, "explain", run, images / "0.png", "--out", tmp_path, "--method", methods, "--target", "0,1")
    rows = list(csv.DictReader((tmp_path / "maps.csv").open(encoding="utf-8")))
    assert [(r["class"], r["method"]) for r in rows] == [
        (c, m) for c in "01" for m in ("cam", "score-cam:top=4,score=logit")
    ]
    assert "--top 3 beside --target" in said(capsys, "explain", run, images, "--top", 3, "--target", "0", code=2)


def test_explain_grades_maps(run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "explain", run, images, "--out", tmp_path / "g", "--grade", "--most", 6)
    assert all(word in text for word in ("insertion +", "deletion -", "road +", "\ncam ", "\nrandom ", "\ncentre "))
    assert "Means over 5 images" in text and "skipped" in text and not list(tmp_path.rglob("*.png"))
    page = json.loads((tmp_path / "g" / "grades.json").read_text(encoding="utf-8"))
    assert set(page["scores"]) == {"cam", "random", "centre", "edges"} and page["images"] == 5


def test_score_orders_by_uncertainty(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "score", "entropy", run, "--top", 5, "--out", tmp_path / "s.csv")
    values = [float(line.split("\t")[1]) for line in text.splitlines() if "\t" in line]
    assert len(values) == 5 and values == sorted(values, reverse=True) and text.startswith("# larger = ")
    assert len(list(csv.DictReader((tmp_path / "s.csv").open()))) == 1797


@pytest.mark.parametrize("method", ["random-sample", "uncertainty-sampling", "k-centre", ""])
def test_select_names_images_without_a_label(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    said(
        capsys, "select", run, "--budget", 7, "--out", tmp_path / "queue.csv", *(["--method", method] if method else [])
    )
    rows = list(csv.DictReader((tmp_path / "queue.csv").open()))
    assert len({r["image"] for r in rows}) == 7 and all(r["class"] == "" for r in rows)


@pytest.mark.parametrize(
    ("want", "time", "heads"),
    [("class", "2 minutes", ["image", "class"]), ("boxes", "15 minutes", ["image"]), ("tags", "2 minutes", None)],
)
def test_select_counts_the_time_of_what_the_run_wants(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], want: str, time: str, heads: list[str] | None
) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "run" / "config.json").write_text(json.dumps({**config, "want": want}), encoding="utf-8")
    text = said(capsys, "select", tmp_path / "run", "--budget", 60, "--out", tmp_path / "queue.csv")
    assert f"# 60 images to label ({want}): {time} of a person's time" in text
    with (tmp_path / "queue.csv").open() as file:
        assert next(csv.reader(file)) == (heads or ["image", *(f"tag:{digit}" for digit in range(10))])


def test_label_writes_confident_guesses(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "label", "confident", run, "--set", "least=0.5", "--out", tmp_path / "labels.csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert f"{len(rows):,} labels" in text and all(float(r["confidence"]) >= 0.5 for r in rows)


def test_label_writes_boxes_and_masks_from_maps(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "label", "map-boxes", run, "--out", tmp_path / "boxes.csv")
    rows = list(csv.DictReader((tmp_path / "boxes.csv").open()))
    assert len(rows) >= 30, "a box or more for each image with a label"
    for row in rows:
        x0, y0, x1, y1 = (float(row[k]) for k in ("x0", "y0", "x1", "y1"))
        assert 0 <= x0 < x1 <= 8 and 0 <= y0 < y1 <= 8 and 0 < float(row["confidence"]) <= 1
    said(capsys, "label", "map-masks", run, "--out", tmp_path / "labels.csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    for row in rows:
        y, x = np.nonzero(np.asarray(Image.open(tmp_path / row["mask"])))
        assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == tuple(float(row[k]) for k in ("x0", "y0", "x1", "y1"))
    text = said(capsys, "label", "map-masks", run, "--out", tmp_path / "labels.csv", code=2)
    assert "labels-masks: there is such a folder already" in text


def test_evaluate_prints_the_test_split_and_measures_other_data(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "accuracy" in said(capsys, "evaluate", run).lower()
    kept = json.loads(said(capsys, "evaluate", run, "--json"))
    other = json.loads(said(capsys, "evaluate", run, "--data", "sample:digits", "--json"))
    assert kept["test"]["images"] < other["test"]["images"] == 1797


def test_export_and_report_write_again(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "kB" in said(capsys, "export", run, "--out", tmp_path / "again.onnx")
    found = json.loads(said(capsys, "export", run, "--out", tmp_path / "again.onnx", "--json"))
    assert found["largest_difference"] <= 1e-4 and (tmp_path / "again.onnx").stat().st_size == found["bytes"]
    (run / "report.html").unlink()
    said(capsys, "report", run)
    assert (run / "report.html").stat().st_size > 10_000


def test_scan_prints_and_strict_fails_on_a_broken_file(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "6 images" in said(capsys, "scan", images) and "broken.png" in said(capsys, "scan", images)
    assert json.loads(said(capsys, "scan", images, "--json"))["fault_count"] == 1
    assert "cannot be used" in said(capsys, "scan", images, "--strict", code=3)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("score", "entropy", "nowhere"), 5, "not a run"),
        (("score", "fixmatch", "nowhere"), 4, "fixmatch is not a method to score with"),
        (("predict", "nowhere.onnx", "x.png"), 6, "nowhere.onnx"),
        (("fit", "nowhere"), 3, "nowhere"),
        (("fit", "sample:digits", "--set", "tau"), 2, "has no value"),
        (("fit", "sample:digits", "--method", "fixmtach"), 2, "fixmatch"),
        (("report", "nowhere"), 5, "not a run"),
    ],
)
def test_what_is_wrong_is_said_in_one_paragraph(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = said(capsys, *words, code=code)
    assert says in text and "Traceback" not in text
