"""What a clumsy user does, end to end: every case ends with one paragraph that names the thing and says what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.cli import main
from modicum.core import registry
from modicum.engine.fit import fit

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a place where nobody may write is known on Linux alone")


def picture(path: Path, value: int = 0, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side), value % 256, np.uint8)).save(path)


def table(folder: Path, text: str | bytes) -> None:
    for i in range(4):
        picture(folder / f"{i}.png", 40 * i)
    (folder / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a finished run and everything that a person could get wrong."""
    home = tmp_path_factory.mktemp("world")
    patch = pytest.MonkeyPatch()
    patch.setenv("MODICUM_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    fit("sample:digits", home / "run", labels=3, steps=4, batch=16, twins="none", precision="32")
    for name in ("config.json", "net.json", "predictions.parquet", "evaluation.json", "model.onnx"):
        cut = home / f"cut-{Path(name).stem}"
        shutil.copytree(home / "run", cut)
        (cut / name).write_bytes((cut / name).read_bytes()[:60])
    for name in ("evaluation.json", "model.onnx", "net.safetensors", "predictions.parquet"):
        shutil.copytree(home / "run", home / f"no-{Path(name).stem}", ignore=shutil.ignore_patterns(name))
    (home / "begun").mkdir()
    (home / "begun" / "config.json").write_text("{}")
    for i in range(8):
        picture(home / "two" / "ab"[i % 2] / f"{i}.png", 30 * i)
        picture(home / "one class" / "cat" / f"{i}.png", 30 * i)
        (home / "broken" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        (home / "broken" / "ab"[i % 2] / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    picture(home / "tests alone" / "test" / "a" / "1.png")
    picture(home / "tests alone" / "test" / "b" / "2.png", 90)
    picture(home / "one image" / "a.png")
    picture(home / "unlabelled" / "a.png")
    picture(home / "unlabelled" / "b.png", 9)
    picture(home / "deep" / "x" / "y" / "z" / "u" / "v" / "w" / "a" / "1.png")
    table(home / "no such images", "image,class\nx.png,cat\ny.png,dog\n")
    table(home / "class twice", "image,class,class\n0.png,cat,dog\n")
    table(home / "other columns", "image,colour\n0.png,red\n1.png,blue\n")
    table(home / "bytes", bytes(range(256)) * 4)
    (home / "empty").mkdir()
    (home / "texts").mkdir()
    (home / "texts" / "thesis.docx").write_text("x")
    (home / "file").write_text("not a folder")
    (home / "weights.pth").write_bytes(b"\x80\x02")
    yield home
    patch.undo()


def everything(home: Path) -> set[str]:
    return {str(p.relative_to(home)) for p in home.rglob("*")}


@pytest.fixture(scope="module")
def on_the_page() -> list[re.Pattern[str]]:
    """Every message of the docs, with its holes open."""
    spec = importlib.util.spec_from_file_location("error_index", ROOT / "docs" / "error_index.py")
    assert spec and spec.loader
    error_index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(error_index)
    texts = [e.message for e in error_index.entries(registry.HOME)]
    return [re.compile(".*".join(map(re.escape, t.split(error_index.HOLE))) + "$", re.S) for t in texts]


CASES = """
# data that is not there, or not data
3 there is nothing here                   | scan nowhere
3 nowhere: there is nothing here          | fit nowhere --out new
3 file: found a file without ending       | scan file
3 empty: the folder is empty              | scan empty
3 empty: the folder is empty              | fit empty --out new
3 texts: found 1 .docx files              | scan texts
3 deep: found 1 folders                   | scan deep
3 sample:digit: found                     | scan sample:digit
3 two/a/0.png: found a file .png          | scan two/a/0.png
3 no image 'x.png'                        | scan "no such images"
3 no image 'x.png'                        | fit "no such images" --out new
3 broken: 8 files or rows cannot be used  | scan broken --strict
3 1 files or rows cannot be used          | scan "other columns" --strict
3 the table is not used                   | scan "class twice" --strict
3 not text, but bytes                     | fit bytes --out new --strict
3 other columns: no image has a class     | fit "other columns" --out new
3 not one of 8 images can be read         | fit broken --out new
3 one class: no image has a class         | fit "one class" --out new
3 one image: no image has a class         | fit "one image" --out new
3 unlabelled: no image has a class        | fit unlabelled --out new
3 tests alone: no image to train on       | fit "tests alone" --out new
2 an argument is empty                    | scan ""
2 got unexpected extra argument           | scan two two
2 missing argument 'data'                 | scan
2 missing argument 'data'                 | fit --steps 3
2 got unexpected extra argument           | doctor please
2 there is no part 'fixd' in nn/trust     | check trust/fixd
2 --set trust=fixed                       | fit two --out new --method fixed

# another format
3 'nope' is not a format to write         | convert two new --to nope
3 two: it lies in the folder that is read | convert two two --to folders
2 missing option '--to'                   | convert two new
3 nowhere: there is nothing here          | convert nowhere new --to folders
3 texts: there is something here already  | convert two texts --to folders
2 file: a file, where a folder must be    | convert two file/new --to folders

# what is planned
2 nothing to start from                   | plan --want class
2 unknown kind 'cat' in 'cat'             | plan --want cat --have class
2 'cats and dogs' is not a fact           | plan --want class --have "cats and dogs"
2 there is no trait 'fw'                  | plan --want class --have class --traits fw
2 missing option '--want'                 | plan
2 invalid value for '--best'              | plan --want class --have class --best 0
4 no way from image to net:class          | plan --want class --data "one image"
4 no way from image, class to net:instances | plan --want instances --have class

# where things may be written
5 file: cannot write                      | fit two --out file
5 file/run: cannot write                  | fit two --out file/run
5 texts: the folder is not empty          | fit two --out texts
5 --out two: inside the images            | fit two --out two
5 --out two/run: inside the images        | fit two --out two/run
5 another run is here                     | fit two --out run
5 config.json is damaged                  | fit two --out cut-config
5 config.json is damaged                  | fit two --out begun
2 --out two: a folder, where a file       | predict run two --out two
2 --out x.txt: .txt is not written        | predict run two --out x.txt
2 file: a file, where a folder must be    | predict run two --out file/x.csv
2 file: a file, where a folder must be    | explain run two --out file
2 --out two: a folder, where a file       | export run --out two
2 --out model.pt: .pt is not written      | export run --out model.pt
2 --out two: a folder, where a file       | select run --out two
2 --out two: a folder, where a file       | score entropy run --out two
2 file: a file, where a folder must be    | label majority two --out file/labels.csv
2 file: a file, where a folder must be    | new method mine --into file

# numbers
2 --minutes: -1.0 is not allowed          | fit two --out new --minutes -1
2 --minutes: nan is not                   | fit two --out new --minutes nan
2 --minutes                               | fit two --out new --minutes 1e309
2 invalid value for '--minutes'           | fit two --out new --minutes soon
2 --steps: -1 is not allowed              | fit two --out new --steps -1
2 invalid value for '--steps'             | fit two --out new --steps 1e3
2 --batch                                 | fit two --out new --batch 1000000000
2 --side: 1000000000 is not allowed       | fit two --out new --side 1000000000
2 --side: -4 is not allowed               | fit two --out new --side -4
2 --test: 2.0 is not allowed              | fit two --out new --test 2
2 --labels: -1 is not allowed             | fit two --out new --labels -1
2 --folds: 5000 is not allowed            | fit two --out new --folds 5000
2 --folds: one fold would hold out        | fit two --out new --folds 1
2 --seed                                  | fit two --out new --seed 99999999999999999999999
2 invalid value for '--budget'            | select run --budget 0
2 invalid value for '--budget'            | select run --budget -3
4 1000000 images are to be chosen         | select run --budget 1000000
2 invalid value for '--seed'              | select run --seed -1
2 invalid value for '--top'               | score entropy run --top -1
2 invalid value for '--batch'             | predict run two --batch 0
2 invalid value for '--seeds'             | demo --seeds 0

# flags that contradict each other, or are given twice
2 --steps and --minutes contradict        | fit two --out new --steps 3 --minutes 2
2 --pretrained and --weights contradict   | fit two --out new --pretrained --weights run/net.safetensors
2 'mu' is set twice: '7' and '8'          | fit two --out new --method fixmatch --set mu=7 --set mu=8

# words
2 --device: 'tpu' is not allowed          | fit two --out new --device tpu
2 --precision: '16' is not allowed        | fit two --out new --precision 16
2 --flip: 'maybe' is not allowed          | fit two --out new --flip maybe
2 --twins: 'two' is not allowed           | fit two --out new --twins two
2 --preset: 'big' is not allowed          | fit two --out new --preset big
2 no such option: --epochs                | fit two --out new --epochs 3
2 there is no verb 'train'                | train two
2 there is no verb 'methds'               | methds

# methods and settings
2 there is no method 'fixmtach'           | fit two --out new --method fixmtach
4 entropy is not a method to learn with   | fit two --out new --method entropy
4 `--recipe wraps=ema`                    | fit two --out new --method ema
4 fixmatch is not a method to score with  | score fixmatch run
4 entropy is not a method to select with  | select run --method entropy
4 margin is not a method to label with    | label margin run
2 there is no role 'lern'                 | methods --role lern
2 there is no method 'nope'               | methods nope
2 unknown kind 'tgas' in 'tgas'           | methods --needs tgas
4 none of 8 images has a vote             | label dawid-skene two
4 confident needs a trained network       | label confident two
2 --set: 'mu' has no value                | fit two --out new --method fixmatch --set mu
2 --set: '=3' has no name                 | fit two --out new --method fixmatch --set =3
2 fixmatch: unknown setting 'my'          | fit two --out new --method fixmatch --set my=3
2 mu: '1.5' is not a whole number         | fit two --out new --method fixmatch --set mu=1.5
2 mu: 100000 is not allowed               | fit two --out new --method fixmatch --set mu=100000
2 weight                                  | fit two --out new --method fixmatch --set weight=nan
2 there is no part 'nope' in nn/trust     | fit two --out new --method fixmatch --set trust=nope
2 tau: 7.0 is not allowed                 | fit two --out new --method fixmatch --set trust=fixed:tau=7
2 --recipe: 'optim.lr' has no value       | fit two --out new --method supervised --recipe optim.lr
2 Optim.lr                                | fit two --out new --method supervised --recipe optim.lr=1e309
2 Recipe: unknown setting 'epochs'        | fit two --out new --method supervised --recipe epochs=3
2 Augment.rotate: 300.0 is not allowed    | fit two --out new --method supervised --recipe views.weak.rotate=300
2 Ema.decay: 2.0 is not allowed           | fit two --out new --method supervised --recipe wraps=ema:decay=2
2 there is a method 'fixmatch' already    | new method fixmatch --into empty
2 'Bad Name' is not a name                | new method "Bad Name" --into empty
2 'thing' is neither a method nor         | new thing mine --into empty
2 there is no check 'nope'                | check entropy --only nope

# networks
6 no network 'resnet81x'                  | fit two --out new --net resnet81x
6 width: 100000 is not allowed            | fit two --out new --net tiny-conv:width=100000
6 depth 11 is not 6n + 4                  | fit two --out new --net tiny-res:depth=11
6 resnet18: takes no arguments            | fit two --out new --net resnet18:width=3
6 --weights nope.safetensors: there is no | fit two --out new --weights nope.safetensors
6 a pickle can run code when it is read   | fit two --out new --weights weights.pth --steps 3 --twins none
6 file: not a whole safetensors file      | fit two --out new --weights file --steps 3 --twins none

# runs that are none, or no longer whole
5 nowhere: this is not a run              | evaluate nowhere
5 two: this is not a run                  | report two
5 empty: this is not a run                | explain empty two
5 begun: this run has no network yet      | select begun
5 evaluation.json is missing              | evaluate no-evaluation
5 evaluation.json is damaged              | evaluate cut-evaluation
5 predictions.parquet: missing or damaged | score entropy cut-predictions
5 predictions.parquet: missing or damaged | select no-predictions
6 net.json is damaged                     | explain cut-net two
6 net.safetensors: no such file           | export no-net
6 no-model/model.onnx: no such file       | predict no-model two
6 model.onnx: not an ONNX file            | predict cut-model two
6 file: not an ONNX file                  | predict file two
6 two/model.onnx: no such file            | predict two run

# images for a finished run
3 empty: no image could be classified     | predict run empty
3 texts: no image could be classified     | predict run texts
3 broken: no image could be classified    | predict run broken
3 broken: no image could be classified    | predict run broken --out answers.csv
3 nowhere: no image could be classified   | predict run nowhere
3 explain: no class 'cat'                 | explain run two --target cat
3 explain: no class '10'                  | explain run two --target 10
3 nowhere: there is no such file          | explain run nowhere
3 empty: the folder is empty              | explain run empty
3 none of 8 images can be read            | explain run broken
2 'margin' is not an explain method       | explain run two --method margin
3 the network knows no class 'a'          | evaluate run --data two
3 one image: no image has a class         | evaluate run --data "one image"
3 nowhere: there is nothing here          | evaluate run --data nowhere
2 rows: cannot read 'nope'                | score entropy run --rows nope
4 none of 0 images for the rows           | score entropy run --rows split:nope
4 images for the rows '~class' has a score| score self-confidence run --rows ~class
"""
ROWS = [line.split("|", 1) for line in CASES.splitlines() if "|" in line]
TABLE = [(int(head.split()[0]), head.split(maxsplit=1)[1].strip(), words.strip()) for head, words in ROWS]
LEFT = {
    "one class", "one image", "unlabelled", "other columns", "tests alone", "weights.pth", "file", "trust=fixed:tau=7",
}  # fmt: skip
"""What `fit` can refuse only after it has read the images, so that the run's folder has begun."""


@pytest.mark.parametrize(("code", "says", "words"), TABLE, ids=[words for *_, words in TABLE])
def test_a_clumsy_user(
    world: Path,
    on_the_page: list[re.Pattern[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    says: str,
    words: str,
) -> None:
    monkeypatch.chdir(world)
    before = everything(world)
    try:
        assert main(shlex.split(words)) == code, capsys.readouterr().err
        left = everything(world) - before
        assert not left or any(word in shlex.split(words) for word in LEFT), left
    finally:
        shutil.rmtree(world / "new", ignore_errors=True)
    check(capsys.readouterr().err, says, on_the_page)


def check(err: str, says: str, on_the_page: list[re.Pattern[str]]) -> None:
    """The rules for every error."""
    lines = err[err.index("modicum: ") :].splitlines()
    assert says in "\n".join(lines) and "Traceback" not in err
    assert 2 <= len(lines) <= 8, "one paragraph that says what to do"
    assert all(lines) and not re.search(r"object at 0x|<class |\bNone\b|\\x1b", err)
    usage = " --help` says more." in lines[-1] or lines[-1].startswith("See `modicum")
    assert usage or any(p.search(line) for p in on_the_page for line in lines), "not in docs/reference/errors.md"


def test_there_are_enough_cases() -> None:
    assert len(TABLE) >= 60 and {code for code, *_ in TABLE} == {2, 3, 4, 5, 6}


def test_a_folder_that_may_not_be_read(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.scandir

    def scandir(path: object = ".") -> object:
        if str(path).rstrip("/").endswith("two"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)  # type: ignore[call-overload]

    monkeypatch.chdir(world)
    monkeypatch.setattr(os, "scandir", scandir)
    for words in (["scan", "two"], ["fit", "two", "--out", "new"]):
        assert main(words) in (3, 7)
        said = capsys.readouterr().err
        assert "two" in said and "Permission denied" in said and "Traceback" not in said
    assert not (world / "new").exists()


@LINUX
def test_places_where_nobody_may_write(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    for words in (
        "fit two --out /proc/x", "predict run two --out /proc/x.csv", "select run --budget 2 --out /proc/x.csv",
        "explain run two --out /proc/x", "score entropy run --out /proc/x.csv", "new method mine --into /proc",
    ):  # fmt: skip
        assert main(shlex.split(words)) in (3, 5, 7), words
        said = capsys.readouterr().err
        assert "modicum: /proc/" in said and "Traceback" not in said
        assert len(said[said.index("modicum: ") :].splitlines()) <= 3


@pytest.mark.parametrize("words", ["scan nowhere", "plan --want cat --have class", "nonsense", "predict file two"])
def test_as_a_program_of_its_own(world: Path, words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "modicum", *words.split()], cwd=world, capture_output=True, text=True)
    assert done.returncode in (2, 3, 6) and done.stdout == ""
    assert done.stderr.startswith("modicum: ") and 2 <= len(done.stderr.splitlines()) <= 8
