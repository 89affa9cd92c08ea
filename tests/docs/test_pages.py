"""Pages by hand: links lead somewhere, the tutorial runs, error messages are those of the code, the menu is whole."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from modicum.cli import _app, main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / n for n in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?://|mailto:", target):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        assert file.exists(), f"{target} in {page.name}"
        assert page.parent == ROOT or file.is_relative_to(DOCS), f"{target} leaves the site"
        assert not anchor or anchor in anchors(file), f"no heading {anchor!r} in {file.name}"


def test_every_page_can_be_reached() -> None:
    texts = {p: p.read_text(encoding="utf-8") for p in PAGES}
    linked = {(p.parent / t.split("#")[0]).resolve() for p, text in texts.items() for t in LINK.findall(text)}
    assert [p.name for p in DOCS.rglob("*.md") if p not in linked and p != DOCS / "index.md"] == []


def test_commands_on_the_pages_have_verbs_and_options_that_exist() -> None:
    for page in PAGES:
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in text.splitlines() if kind in ("sh", "bash") else ():
                for command in re.findall(r"(?:^|&& )modicum ([^#&]+)", line):
                    words = shlex.split(command)
                    assert words[0] in _app.verbs(), line
                    known = (_app.FOLDER / f"{words[0].replace('-', '_')}.py").read_text(encoding="utf-8")
                    for option in (w for w in words if w.startswith("--")):
                        name = option[2:].replace("-", "_")
                        assert re.search(rf"^    {name}_?: |\"{option}\"", known, re.M), f"{option} in {line}"


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands in order, with a few steps in place of minutes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "cache"))
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    blocks = [text for kind, text in BLOCK.findall(page) if kind == "bash"]
    ran = []
    for text in blocks:
        if text.startswith("python"):
            code = text.split("<<'END'\n")[1].removesuffix("END\n")
            subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
            continue
        for line in text.splitlines():
            words = shlex.split(line.replace("--minutes 1", "--steps 6 --twins steps --precision 32 --batch 8"))
            assert words[0] == "modicum" and main(words[1:]) == 0, line
            ran.append(words[1])
    assert {"scan", "plan", "fit", "predict", "explain", "select"} <= set(ran)
    assert all(Path(p).is_file() for p in ("run/report.html", "run-2/report.html", "guesses.csv", "todo.csv"))


def test_pages_tell_nothing_of_a_machine() -> None:
    for page in [*PAGES, ROOT / "constraints.txt", ROOT / ".ci" / "run", *sorted((ROOT / "examples").glob("*.py"))]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"/(?:home|root|work|tmp)/|file://|index-url|localhost", text), page


def test_constraints_are_bare_names_and_versions() -> None:
    lines = [s for s in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not s.startswith("#")]
    assert lines and all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", s) for s in lines)
