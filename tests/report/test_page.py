"""The page: whole, harmless, self-contained, and honest about what is missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modicum.core.errors import RunError
from modicum.report import looks, page
from modicum.report.faults import sentences
from modicum.report.page import build
from modicum.report.read import read, surest

from .conftest import Pixels, fake

VOID = {"meta", "img", "br", "link", "input", "hr"}
SECTIONS = "data method training kept quality classes confusion calibration mistakes maps costs unchecked next".split()  # noqa: SIM905
EVIL = "<script>alert(1)</script>"
WRONG = b'{"arms": 3, "confusion": "x", "per_class": [1], "data": 4, "faults": 5, "seconds": 1' + b"0" * 400 + b"}"
PARTS = ("config.json", "metrics.jsonl", "data", "predictions.parquet", "keep.json", "evaluation.json", "maps.npz",
         "maps.json", "export.json")  # fmt: skip
PARTS += ("scan.json", "environment.json", "net.safetensors")
BIDI = "evil\u202egnp.exe"


class Page(HTMLParser):
    """Tags, attributes and text, with a check that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def harmless(text: str) -> Page:
    """The parsed page, which asks nothing of anybody and runs nothing."""
    found = Page(text)
    assert not {t for t, _ in found.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in found.tags:
        assert not [k for k in attributes if k.startswith("on")]
        for key in ("src", "href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"@import|url\(", text)
    assert not re.search("https?://", text)
    return found


@pytest.fixture
def copy(made: tuple[Path, Pixels], tmp_path: Path) -> tuple[Path, Pixels]:
    """The run directory, free to be damaged."""
    return Path(shutil.copytree(made[0], tmp_path / "digits-fixmatch")), made[1]


def test_a_whole_run_fills_every_section(made: tuple[Path, Pixels]) -> None:
    out = build(*made)
    text = out.read_text(encoding="utf-8")
    found = harmless(text)
    assert out == made[0] / "report.html" and out.stat().st_size < 500_000
    assert [a["id"] for t, a in found.tags if t == "section"] == SECTIONS
    assert not [1 for t, a in found.tags if a.get("class") == "missing"]
    accuracy = json.loads((made[0] / "evaluation.json").read_text())["arms"]["fixmatch"]["accuracy"][0]
    assert f"{100 * accuracy:.1f}\u00a0%" in text
    assert "Of 100 new pictures" in found.text and "better" in found.text
    for words in (
        "twin-strong",
        "nearest-centroid",
        "majority",
        "FixMatch",
        "3 groups of identical images",
        "cut short after 312 bytes",
        "0.42 ms (0.41 to 0.45)",
        "(0.50): map 7.",
        "Drawing the top layers anew changes nothing.",
    ):
        assert words in found.text
    assert "/somewhere/private" not in text
    assert not list(made[0].glob(".*part"))


def test_it_can_be_read_without_seeing(made: tuple[Path, Pixels]) -> None:
    found = Page(build(*made).read_text(encoding="utf-8"))
    assert [t for t, _ in found.tags].count("h1") == 1 and dict(found.tags[0][1])["lang"] == "en"
    for tag, attributes in found.tags:
        if tag == "img":
            assert attributes.get("alt")
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    ids = [a["id"] for _, a in found.tags if a.get("id")]
    links = [a["href"][1:] for t, a in found.tags if t == "a" and a["href"]]
    assert len(ids) == len(set(ids)) and set(links) <= set(ids)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    names = (
        EVIL,
        BIDI,
        '"><img src=x onerror=alert(1)>',
        "{{ 7*7 }}",
        "a" * 500,
        "&amp;",
        "x\x00y",
        "'",
        "\u2067h",
        "ok",
    )
    folder, pixels = fake(tmp_path, names)
    config = json.loads((folder / "config.json").read_text())
    config["why"], config["method"], config["data"]["root"] = [EVIL], EVIL, f"/a/{EVIL}{BIDI}"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "scan.json").write_text(json.dumps({"faults": [EVIL, {"found": BIDI}]}))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"arm": EVIL, "phase": EVIL, "step": 1, EVIL: 1.0, "seconds": 1}) + "\n")
    text = build(folder, pixels).read_text(encoding="utf-8")
    found = harmless(text)
    assert EVIL in found.text and "{{ 7*7 }}" in found.text and "[U+202E]" in found.text and "x[U+0000]y" in found.text
    assert not set("\u202e\u2067\x00") & set(text)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("how", ["gone", "broken", "wrong"])
def test_any_part_may_be_missing_or_damaged(copy: tuple[Path, Pixels], name: str, how: str) -> None:
    folder, pixels = copy
    path = folder / name
    if name == "data" and how == "gone":
        shutil.rmtree(path)
    elif name == "data":
        (path / "images.parquet").write_bytes(b"not parquet")
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\xff\x00{broken" if how == "broken" else WRONG)
    found = harmless(build(folder, pixels).read_text(encoding="utf-8"))
    assert {a["id"] for t, a in found.tags if t == "section"} >= set(SECTIONS)
    if how == "broken" and name != "metrics.jsonl":
        assert "could not be read" in found.text


def test_an_empty_run_names_the_commands(tmp_path: Path) -> None:
    found = harmless(build(tmp_path).read_text(encoding="utf-8"))
    for command in ("modicum evaluate", "modicum fit", "modicum explain", "modicum export"):
        assert command in found.text
    assert "has not been measured" in found.text
    with pytest.raises(RunError, match="no run directory"):
        build(tmp_path / "nowhere")


def test_without_test_labels_nothing_is_claimed(copy: tuple[Path, Pixels]) -> None:
    from modicum.evaluate.evaluate import evaluate

    probs = np.full((20, 10), 0.1)
    none = evaluate({"fixmatch": probs}, np.full(20, -1), [str(k) for k in range(10)], main="fixmatch")
    (copy[0] / "evaluation.json").write_text(json.dumps(none))
    found = harmless(build(*copy).read_text(encoding="utf-8"))
    assert "nothing can be said" in found.text and "Of 100 new pictures" not in found.text
    assert "Label 100 images drawn at random" in found.text


def test_pictures_that_cannot_be_had_are_left_out(copy: tuple[Path, Pixels]) -> None:
    def lost(row: int) -> np.ndarray:
        raise OSError("gone")

    for pixels in (None, lost):
        found = harmless(build(copy[0], pixels).read_text(encoding="utf-8"))
        assert "not at hand" in found.text and "no picture" in found.text


def test_large_noisy_pictures_stay_under_the_limit(copy: tuple[Path, Pixels], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (400, 500, 3), np.uint8)
    assert build(copy[0], lambda row: noise).stat().st_size < page.MOST_BYTES
    monkeypatch.setattr(page, "MOST_BYTES", 500_000)
    assert build(copy[0], lambda row: noise).stat().st_size < 500_000


def test_many_classes_are_cut_and_said(copy: tuple[Path, Pixels]) -> None:
    from modicum.evaluate.evaluate import evaluate

    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(300), 600)
    found = evaluate(
        {"m": probs}, rng.integers(0, 300, 600), [f"class {k}" for k in range(300)], main="m", resamples=20
    )
    (copy[0] / "evaluation.json").write_text(json.dumps(found))
    out = build(*copy)
    text = harmless(out.read_text(encoding="utf-8")).text
    assert "260 more are not shown" in text and "too many for a matrix" in text and out.stat().st_size < 1_000_000


def _contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    def light(c: tuple[float, ...]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in c]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear)) + 0.05

    return max(light(a), light(b)) / min(light(a), light(b))


@pytest.mark.parametrize("theme", [0, 1, 2])
def test_contrast_in_light_dark_and_print(theme: int) -> None:
    css = (Path(page.__file__).parent / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    full = {"#fff": "#ffffff", "#000": "#000000", "#444": "#444444", "#bbb": "#bbbbbb"}
    named = {k: full.get(v, v) for k, v in re.findall(r"--(\w+): (#[0-9a-f]{3,6});", blocks[theme])}
    colour = {k: tuple(int(v[i : i + 2], 16) / 255 for i in (1, 3, 5)) for k, v in named.items()}
    for ink in ("ink", "muted", "accent"):
        for ground in ("paper", "faint"):
            assert _contrast(colour[ink], colour[ground]) >= 4.5
    for line in ("s0", "s1", "s2", "s3", "s4"):
        assert _contrast(colour[line], colour["paper"]) >= 3
    for tint in ("s0", "wrong"):
        for share in np.linspace(0, 0.45, 10):
            cell = tuple(share * t + (1 - share) * f for t, f in zip(colour[tint], colour["faint"]))
            assert _contrast(colour["ink"], cell) >= 4.5


def test_mistakes_come_from_the_measure_or_else_from_visible_labels(copy: tuple[Path, Pixels]) -> None:
    given = surest(read(copy[0]))
    evaluation = json.loads((copy[0] / "evaluation.json").read_text())
    assert given is not None and given["first"] == evaluation["mistakes"]["first"] and given["of"] == "test images"
    assert given["wrong"] == np.sum(evaluation["confusion"]) - np.trace(evaluation["confusion"])
    (copy[0] / "evaluation.json").unlink()
    trained = surest(read(copy[0]))
    assert trained is not None and trained["asked"] == 40 and "trained on" in trained["of"]


def test_one_picture_in_several_splits_is_shown(made: tuple[Path, Pixels], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made[0], folder)
    ids = ["train/00000.png", "test/01300.png", "train/00002.png", "train/00003.png", "train/00004.png", EVIL]
    leak = {"groups": 30, "images": 90, "first": [ids] * 30, "splits": [["train", "test", "train"] * 2] * 30}
    drawn = ["Drew 500 of 1,797 images for test", EVIL]
    (folder / "scan.json").write_text(json.dumps({"crossing": leak, "contradicting": leak, "drawn": drawn}))
    found = looks.copies(read(folder), made[1], 64)
    assert len(found["leaks"]) == len(found["doubts"]) == looks.COPIES
    group = found["leaks"][0]
    assert [p["id"] for p in group["pictures"]] == ids[:4] and group["more"] == "2"
    assert [p["split"] for p in group["pictures"]] == ["train", "test", "train", "train"]
    assert all(p["src"].startswith("data:image/png") for p in group["pictures"]) and group["pictures"][1]["name"] == ""
    text = build(folder, made[1]).read_text(encoding="utf-8")
    shown = harmless(text)
    assert "One picture in several splits" in shown.text and "One picture with several classes" in shown.text
    assert "Drew 500 of 1,797 images for test." in shown.text and shown.text.count("test/01300.png") >= 16
    (folder / "scan.json").write_text(json.dumps({"crossing": {"first": 3, "splits": [[1]]}, "drawn": 5}))
    harmless(build(folder, made[1]).read_text(encoding="utf-8"))


def test_faults_are_said_the_gravest_first() -> None:
    first = [{"groups": n, "images": 2 * n, "first": [["<a>", "b"]]} for n in (1, 2)]
    faults = {"count": 300, "first": [{"where": "x.png", "reason": "torn"}, "odd"]}
    found = sentences({"duplicates": first[1], "crossing": first[0], "faults": faults})
    starts = ("1 group of one picture", "2 groups of identical", "x.png: torn.", "odd", "298 more files or rows")
    assert len(found) == len(starts) and all(f["what"].startswith(w) for f, w in zip(found, starts))
    assert "tested was seen in training" in found[0]["what"] and "<a>, b" in found[0]["what"]
    assert sentences({}) == [] and sentences({"faults": []}) == []


def test_a_refused_export_is_said(copy: tuple[Path, Pixels]) -> None:
    (copy[0] / "export.json").write_text(json.dumps({"refused": "an operator is not known", "fix": "use another"}))
    found = harmless(build(*copy).read_text(encoding="utf-8"))
    assert "not exported: an operator is not known" in found.text


@pytest.mark.parametrize("side", [np.nan, np.inf, "x", 1j])
def test_drawn_boxes_whose_sides_are_no_numbers_are_said(copy: tuple[Path, Pixels], side: Any) -> None:
    one: dict[str, Any] = {"rows": [0], "image": [0], "cls": [0], "state": [1]}
    np.savez(copy[0] / "boxes.npz", **one, xyxy=[[0, 0, 1, 1]])
    assert len(read(copy[0]).drawn["xyxy"]) == 1
    np.savez(copy[0] / "boxes.npz", **one, xyxy=[[0, 0, 1, side]])
    assert "must be finite numbers" in " ".join(read(copy[0]).damaged)


def test_a_torn_last_line_of_the_log_is_left_out(copy: tuple[Path, Pixels]) -> None:
    path = copy[0] / "metrics.jsonl"
    whole = len(read(copy[0]).metrics)
    path.write_text(path.read_text() + '{"arm": "fixm')
    assert len(read(copy[0]).metrics) == whole and not read(copy[0]).damaged


def test_neither_room_needs_torch(made: tuple[Path, Pixels]) -> None:
    code = (
        "import sys, pathlib; from modicum.report.page import build; import modicum.evaluate.evaluate;"
        f"build(pathlib.Path({str(made[0])!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
