"""Run folders that were edited, mixed up, moved or cut: every verb answers in one paragraph that names the file.

A run is trained once; each case damages a copy.  Verbs that do not need the damaged file do their work.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from modicum.cli import main
from modicum.core.errors import ModicumError, RunError
from modicum.data.read import pixels
from modicum.data.samples import sample
from modicum.engine.fit import fit
from modicum.report.page import build
from modicum.runs.run import Run

QUICK: dict[str, Any] = {"labels": 3, "steps": 6, "batch": 8, "twins": "none", "precision": "32"}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("cache")
    patch.setenv("MODICUM_CACHE", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit("sample:digits", tmp_path_factory.mktemp("whole") / "run", **QUICK).folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data, another network."""
    return fit("sample:digits", tmp_path_factory.mktemp("other") / "run", **QUICK, seed=1).folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "0.png"
    Image.fromarray(pixels(sample("digits"), 0)[:, :, 0]).save(path)
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def verbs(run: Path, image: Path, tmp_path: Path) -> dict[str, list[object]]:
    """Every verb that takes a run, as words of a command line."""
    return {
        "predict": ["predict", run, image],
        "explain": ["explain", run, image, "--out", tmp_path / "maps"],
        "label": ["label", "confident", run, "--out", tmp_path / "labels.csv", "--set", "least=0.1"],
        "score": ["score", "margin", run, "--top", "1"],
        "select": ["select", run, "--budget", "1"],
        "evaluate": ["evaluate", run],
        "export": ["export", run, "--out", tmp_path / "again.onnx"],
        "report": ["report", run],
        "fit": ["fit", "sample:digits", "--out", run, "--labels", "3", "--steps", "6", "--batch", "8",
                "--twins", "none", "--precision", "32"],
    }  # fmt: skip


def refused(words: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """What a verb says where it refuses; '' where it does its work."""
    capsys.readouterr()
    code = main([str(w) for w in words])
    said = capsys.readouterr().err
    assert code not in (1, 70, 130) and "Traceback" not in said, said
    if not code:
        return ""
    paragraph = said[said.index("modicum: ") :]
    assert paragraph.strip() and len(paragraph) < 1200 and paragraph.count("\n") <= 4, paragraph
    return paragraph


def edit(run: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((run / name).read_text())
    change(content)
    (run / name).write_text(json.dumps(content))


def test_an_undamaged_copy_serves_every_verb(
    verbs: dict[str, list[object]], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {verb: refused(words, capsys) for verb, words in verbs.items()} == dict.fromkeys(verbs, "")


Damage = Callable[[Path], object]


def text(name: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda run: (run / name).write_bytes(change((run / name).read_bytes()))


def value(name: str, *path: str, to: object) -> Damage:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return lambda run: edit(run, name, change)


NETWORK = {"explain", "label", "score", "select", "export", "report", "evaluate"}
TABLE = {"label", "score", "select"}
CONFIG = {"export", "report", "fit", "select"}
FILES: dict[str, tuple[Damage, str, set[str]]] = {
    # damage, the file that must be named, verbs that must refuse
    "config gone": (lambda r: (r / "config.json").unlink(), "config.json", NETWORK | {"fit"}),
    "config cut": (text("config.json", lambda t: t[:100]), "config.json", CONFIG),
    "config empty": (text("config.json", lambda t: b""), "config.json", CONFIG),
    "config a list": (text("config.json", lambda t: b"[]"), "config.json", CONFIG),
    "config UTF-16": (text("config.json", lambda t: t.decode().encode("utf-16")), "config.json", CONFIG),
    "config 70 MiB": (text("config.json", lambda t: t + b" " * (70 * 2**20)), "config.json", CONFIG),
    "config nested": (text("config.json", lambda t: b'{"format":' + b"[" * 10**5), "config.json", CONFIG),
    "config a key twice": (text("config.json", lambda t: t.replace(b'"seed"', b'"method"')), "config.json", CONFIG),
    "config an unknown key": (value("config.json", "surprise", to=1), "config.json", CONFIG),
    "config no choices": (value("config.json", "choices", to={}), "config.json", CONFIG),
    "config a text for a number": (value("config.json", "choices", "cache", to="128"), "config.json", CONFIG),
    "config a huge side": (value("config.json", "choices", "side", to=10**9), "config.json", CONFIG),
    "config a cache elsewhere": (value("config.json", "choices", "pixels", to="../.."), "config.json", CONFIG),
    "config an arm elsewhere": (
        value("config.json", "arms", to=[{"name": "../x", "method": "supervised", "view": "weak", "steps": 1}]),
        "config.json", CONFIG,
    ),
    "config a bad recipe": (value("config.json", "recipe", "batch", to=-1), "config.json", CONFIG),
    "config an unknown part of the recipe": (value("config.json", "recipe", "x", to=1), "config.json", CONFIG),
    "config newer": (value("config.json", "format", to=2), "newer Modicum", CONFIG),
    "config older": (lambda r: edit(r, "config.json", lambda c: c.pop("format")), "config.json", CONFIG),
    "net.json gone": (lambda r: (r / "net.json").unlink(), "", NETWORK),
    "net.json cut": (text("net.json", lambda t: t[:50]), "net.json", NETWORK | {"predict"}),
    "net.json newer": (value("net.json", "format", to=2), "newer Modicum", NETWORK),
    "net.json other classes": (value("net.json", "classes", to=["a"]), "net.json", NETWORK),
    "weights gone": (lambda r: (r / "net.safetensors").unlink(), "net.safetensors", NETWORK),
    "weights cut": (text("net.safetensors", lambda t: t[:-4]), "net.safetensors", NETWORK),
    "weights flipped": (text("net.safetensors", lambda t: t[:-9] + bytes([t[-9] ^ 1]) + t[-8:]), "net.safetensors",
                        NETWORK),
    "ONNX cut": (text("model.onnx", lambda t: t[:-4]), "model.onnx", {"predict"}),
    "ONNX gone": (lambda r: (r / "model.onnx").unlink(), "model.onnx", {"predict"}),
    "predictions cut": (text("predictions.parquet", lambda t: t[:-9]), "predictions.parquet", TABLE),
    "predictions gone": (lambda r: (r / "predictions.parquet").unlink(), "predictions.parquet", TABLE),
    "evaluation cut": (text("evaluation.json", lambda t: t[: len(t) // 2]), "evaluation.json", {"evaluate", "fit"}),
    "evaluation gone": (lambda r: (r / "evaluation.json").unlink(), "evaluation.json", {"evaluate", "fit"}),
    "keep cut": (text("keep.json", lambda t: t[: len(t) // 2]), "keep.json", {"fit"}),
    "keep without an arm": (value("keep.json", "kept", to=3), "keep.json", {"fit"}),
    "evaluation NaN": (text("evaluation.json", lambda t: t.replace(b"0.", b"NaN, 0.", 1)), "evaluation.json",
                       {"evaluate", "fit"}),
    "evaluation newer": (value("evaluation.json", "format", to=2), "newer Modicum", {"evaluate", "fit"}),
    "evaluation without a verdict": (value("evaluation.json", "verdict", to={}), "evaluation.json",
                                     {"evaluate", "fit"}),
    "evaluation two numbers": (value("evaluation.json", "arms", to={"fixmatch": {"role": "main", "accuracy": [1, 2]}}),
                               "evaluation.json", {"evaluate", "fit"}),
    "data gone": (lambda r: shutil.rmtree(r / "data"), "data", NETWORK),
    "data newer": (value("data/dataset.json", "format", to=2), "newer Modicum", NETWORK),
    "data without a root": (lambda r: edit(r, "data/dataset.json", lambda d: d.pop("root")), "dataset.json", NETWORK),
    "data a column elsewhere": (value("data/dataset.json", "columns", to=["../x"]), "dataset.json", NETWORK),
    "data cut": (text("data/images.parquet", lambda t: t[:-9]), "data", NETWORK),
    "data a table of another kind": (lambda r: shutil.copy(r / "data/classes.parquet", r / "data/images.parquet"),
                                     "data", NETWORK),
    "metrics cut": (text("metrics.jsonl", lambda t: t[:-9]), "", set()),
    "metrics noise": (text("metrics.jsonl", lambda t: b'\xff\xfe{"step": NaN}\n[]\n' + b"[" * 10**5), "", set()),
    "scan NaN": (text("scan.json", lambda t: b'{"images": NaN}'), "", set()),
    "environment gone": (lambda r: (r / "environment.json").unlink(), "", set()),
    "seconds of another kind": (text("seconds.json", lambda t: b'{"read": "long"}'), "seconds.json", NETWORK | {"fit"}),
    "maps cut": (text("maps.npz", lambda t: t[:-99]), "", set()),
    "export of another kind": (text("export.json", lambda t: b"[]"), "", set()),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_damaged_file_is_named(
    case: str, run: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    damage, named, refusing = FILES[case]
    damage(run)
    rare = {"predict", "export"} - refusing  # the slow one, and the one that reads two files
    said = {verb: refused(words, capsys) for verb, words in verbs.items() if verb not in rare}
    assert {v for v, words in said.items() if words} == refusing, said
    assert all(named in said[verb] and str(run) in said[verb] for verb in refusing), said


def swapped(run: Path, other: Path, name: str) -> None:
    shutil.copy(other / name, run / name)


@pytest.mark.parametrize(
    ("name", "verb", "words"),
    [
        ("net.safetensors", "score", "not the weights that net.json names"),
        ("net.json", "score", "not the weights that net.json names"),
        ("model.onnx", "predict", "not exported from the network in this folder"),
        ("predictions.parquet", "score", "of another network than net.json"),
    ],
)
def test_a_file_of_another_run_is_noticed(
    name: str, verb: str, words: str, run: Path, other: Path, verbs: dict[str, list[object]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    swapped(run, other, name)
    assert words in refused(verbs[verb], capsys)


def table(change: Callable[[pa.Table], pa.Table]) -> Damage:
    def write(run: Path) -> None:
        path = run / "predictions.parquet"
        found = pq.read_table(path)
        pq.write_table(change(found).replace_schema_metadata(found.schema.metadata), path)

    return write


def put(found: pa.Table, name: str, values: object) -> pa.Table:
    return found.set_column(found.schema.names.index(name), name, pa.array(values))


TABLES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "more rows": lambda t: pa.concat_tables([t, t]),
    "rows twice": lambda t: put(t, "row", np.zeros(len(t), np.int32)),
    "rows beyond": lambda t: put(t, "row", np.arange(len(t)) + 5),
    "rows below": lambda t: put(t, "row", np.arange(len(t)) - 1),
    "rows unknown": lambda t: put(t, "row", [None] * len(t)),
    "rows as text": lambda t: put(t, "row", ["a"] * len(t)),
    "ids of others": lambda t: put(t, "id", [f"x{i}" for i in range(len(t))]),
    "ids unknown": lambda t: put(t, "id", [None] * len(t)),
    "logits of fewer classes": lambda t: put(t, "logits", [[0.0, 1.0]] * len(t)),
    "logits of uneven length": lambda t: put(t, "logits", [[0.0] * (i % 2 + 9) for i in range(len(t))]),
    "logits unknown": lambda t: put(t, "logits", [None] * len(t)),
    "logits NaN": lambda t: put(t, "logits", [[float("nan")] * 10] * len(t)),
    "logits as text": lambda t: put(t, "logits", ["a"] * len(t)),
    "no logits": lambda t: t.drop_columns(["logits"]),
}


@pytest.mark.parametrize("case", TABLES)
def test_predictions_of_another_form_are_refused(
    case: str, run: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    table(TABLES[case])(run)
    for verb in ("score", "report"):
        said = refused(verbs[verb], capsys)
        assert "predictions.parquet" in said if verb == "score" else not said


DATA: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    "a row beyond": ("annotations", lambda t: put(t, "row", pa.array([10**6] * len(t), pa.int32()))),
    "a row below": ("annotations", lambda t: put(t, "row", pa.array([-1] * len(t), pa.int32()))),
    "no row": ("annotations", lambda t: put(t, "row", pa.array([None] * len(t), pa.int32()))),
    "a class beyond": ("annotations", lambda t: put(t, "class", pa.array([10] * len(t), pa.int32()))),
    "no class": ("annotations", lambda t: put(t, "class", pa.array([None] * len(t), pa.int32()))),
    "a source beyond": ("annotations", lambda t: put(t, "source", pa.array([7] * len(t), pa.int32()))),
    "fewer images": ("images", lambda t: t.slice(0, 5)),
    "fewer classes": ("classes", lambda t: t.slice(0, 2)),
    "a class twice": ("classes", lambda t: pa.concat_tables([t.slice(0, 9), t.slice(0, 1)])),
    "no sources": ("sources", lambda t: t.slice(0, 0)),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_point_nowhere_are_refused(
    case: str, run: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    name, change = DATA[case]
    path = run / "data" / f"{name}.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    for verb in ("score", "explain", "report"):
        assert str(run / "data") in refused(verbs[verb], capsys)


def test_tables_that_unfold_to_gigabytes_are_refused(
    run: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Run lengths: 40 million rows in 150 kB."""
    for name, verb in (("predictions.parquet", "score"), ("data/annotations.parquet", "explain")):
        path, before = run / name, (run / name).read_bytes()
        found = pq.read_table(path)
        rows = {f.name: pa.nulls(4_000_000, f.type) for f in found.schema}
        with pq.ParquetWriter(path, found.schema, compression="zstd") as out:
            for _ in range(10):
                out.write_table(pa.table(rows, schema=found.schema))
        assert path.stat().st_size < 10**6
        assert f"{path.name} of" in refused(verbs[verb], capsys)
        path.write_bytes(before)


# -- taken up again ----------------------------------------------------------------------------------------------------


@pytest.fixture
def unfinished(run: Path) -> Path:
    """A run whose training is done and whose page is not."""
    for name in ("report.html", "net.json", "net.safetensors", "predictions.parquet", "evaluation.json"):
        (run / name).unlink()
    return run


VAULTS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "fewer": lambda t: t.slice(0, 9),
    "other ids": lambda t: put(t, "id", [f"x{i}" for i in range(len(t))]),
    "classes beyond": lambda t: put(t, "class", np.full(len(t), 10)),
    "classes below": lambda t: put(t, "class", np.full(len(t), -2)),
    "no classes": lambda t: put(t, "class", pa.array([None] * len(t), pa.int64())),
    "classes as text": lambda t: put(t, "class", ["a"] * len(t)),
    "no column": lambda t: t.drop_columns(["class"]),
}


@pytest.mark.parametrize("case", VAULTS)
def test_a_vault_of_other_data_is_refused_on_resume(
    case: str, unfinished: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = unfinished / "vault" / "vault.parquet"
    pq.write_table(VAULTS[case](pq.read_table(path)), path)
    said = refused(verbs["fit"], capsys)
    assert "vault" in said and str(unfinished) in said


@pytest.mark.parametrize("name", ["fixmatch/net.json", "fixmatch/net.safetensors"])
def test_a_damaged_arm_is_named_on_resume(
    name: str, unfinished: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = unfinished / "arms" / name
    path.write_bytes(path.read_bytes()[:-20])
    assert str(path.parent) in refused(verbs["fit"], capsys)


def test_an_undamaged_one_is_finished(
    unfinished: Path, whole: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(verbs["fit"], capsys) == ""
    assert (unfinished / "net.safetensors").read_bytes() == (whole / "net.safetensors").read_bytes()


# -- links, and other places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "config.json", "arms", "arms/fixmatch", "vault", "vault/openings.jsonl", ".lock", "data",
             ".metrics.jsonl.tmp"],
)  # fmt: skip
def test_nothing_is_written_through_a_link(
    name: str, unfinished: Path, tmp_path: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, outside = unfinished / name, tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text("somebody else's")
    path.symlink_to(outside)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert f"{name} is a link" in refused(verbs["fit"], capsys)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("name", "verb"), [("model.onnx", "export"), ("export.json", "export"), ("report.html", "report")]
)
def test_a_link_in_the_place_of_a_result_is_replaced(
    name: str, verb: str, run: Path, tmp_path: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "outside").write_text("somebody else's")
    (run / name).unlink()
    (run / name).symlink_to(tmp_path / "outside")
    assert refused(verbs[verb][:2], capsys) == ""
    assert (tmp_path / "outside").read_text() == "somebody else's" and not (run / name).is_symlink()


def photographs(folder: Path) -> Path:
    data = sample("digits")
    for row in range(60):
        place = folder / str(int(data.cls[row]) % 3)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(data, row)[:, :, 0]).save(place / f"{row}.png")
    return folder


def test_a_run_without_its_images_says_so_and_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photos")
    fit("photos", tmp_path / "first", **{**QUICK, "labels": 0, "export": False})
    shutil.move(tmp_path / "first", tmp_path / "moved")
    shutil.move(tmp_path / "photos", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    run, image = tmp_path / "moved", tmp_path / "elsewhere" / "0" / "0.png"
    for words in (["score", "margin", run], ["explain", run, image], ["evaluate", run], ["label", "confident", run]):
        assert refused(words, capsys) == "", "needs no image of the run"
    for words in (["export", run], ["report", run], ["select", run, "--method", "k-centre"]):
        said = refused(words, capsys)
        assert str(tmp_path / "photos") in said and "dataset.json" in said
    edit(run, "data/dataset.json", lambda d: d.update(root=str(tmp_path / "elsewhere")))
    assert refused(["report", run], capsys) == ""


# -- any edit ----------------------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("../x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def places(content: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every place in a JSON value."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [at, *(p for k, v in inside for p in places(v, (*at, k)))]


def edited(content: Any, place: tuple[Any, ...], new: object) -> Any:
    if not place:
        return new
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[place[0]] = edited(copy[place[0]], place[1:], new)
    return copy


def altered(raw: bytes, data: st.DataObject) -> bytes:
    """A JSON file with one value or a few bytes replaced."""
    if data.draw(st.booleans()):
        content = json.loads(raw)
        return json.dumps(edited(content, data.draw(st.sampled_from(places(content))), data.draw(ANY))).encode()
    at = data.draw(st.integers(0, len(raw) - 1))
    return raw[:at] + data.draw(st.binary(max_size=3)) + raw[at + data.draw(st.integers(0, 3)) :]


def only_run_errors(whole: Path, folder: Path, name: str, data: st.DataObject) -> None:
    (folder / name).write_bytes(altered((whole / name).read_bytes(), data))
    run = Run(folder)
    try:
        found = run.config if name == "config.json" else run.read(name)
        assert isinstance(found, dict)
        run.write(name, found)
    except RunError as error:
        assert name in str(error) and len(str(error)) < 600


READ = pytest.mark.parametrize("name", ["config.json", "keep.json", "evaluation.json", "seconds.json", "export.json"])


@READ
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_edit_of_a_json_file(name: str, whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    only_run_errors(whole, tmp_path, name, data)


@pytest.mark.slow
@READ
@settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_many_edits_of_a_json_file(name: str, whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    only_run_errors(whole, tmp_path, name, data)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_edit_leaves_a_page_or_a_paragraph(whole: Path, run: Path, data: st.DataObject) -> None:
    """What the report reads leniently: each JSON file of a run, edited by hand."""
    names = [p.name for p in whole.glob("*.json") if p.name != "net.json"]
    name = data.draw(st.sampled_from(sorted(names)))
    (run / name).write_bytes(altered((whole / name).read_bytes(), data))
    try:
        assert build(run).is_file()
    except ModicumError as error:
        assert len(str(error)) < 1000
    shutil.copy(whole / name, run / name)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_bytes_of_any_file(
    whole: Path, run: Path, verbs: dict[str, list[object]], capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    """A few bytes of one file replaced or cut off; then every verb but the slow ones."""
    paths = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file() and p.suffix != ".html")
    name = data.draw(st.sampled_from(paths))
    content = bytearray((whole / name).read_bytes())
    if not content:
        return
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (run / name).write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    for verb in ("predict", "explain", "label", "score", "select", "evaluate", "report", "fit"):
        try:
            refused(verbs[verb], capsys)
        finally:
            shutil.copy(whole / "report.html", run / "report.html")
    shutil.copy(whole / name, run / name)


def test_errors_are_modicum_s_in_python_too(run: Path) -> None:
    from modicum.engine import verbs

    (run / "config.json").write_text("{")
    with pytest.raises(ModicumError, match=r"config\.json is damaged"):
        verbs.report(run)
