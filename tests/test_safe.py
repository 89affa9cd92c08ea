"""What the source may not do anywhere: run what it reads, reach for the network, install.

Python files of the package, the benchmarks, the examples and the docs are parsed, and so are Python blocks of pages.
"""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
FILES = sorted(p for room in ("src", "benchmarks", "examples", "docs") for p in (ROOT / room).rglob("*.py"))
PAGES = sorted(p for p in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

UNPICKLE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
REACH = {"urllib.request", "http.client", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "telnetlib"}
INSTALL = {"pip", "ensurepip", "venv", "virtualenv"}
CALLS = {
    "eval", "exec", "__import__", "os.system", "os.popen", "torch.load", "torch.jit.load",
    "torch.package.PackageImporter",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "pandas.read_pickle", "pa.deserialize",
    "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.hub.download_url_to_file",
}  # fmt: skip
ENDINGS = (
    "read_pickle", "PyExtensionType", "create_connection", "urlretrieve", "urlopen",
    "all_gather_object", "gather_object", "broadcast_object_list", "scatter_object_list", "send_object_list",
)  # fmt: skip
# Where something is needed after all, and why.
ALLOWED = {
    ("src/modicum/models/timm_net.py", "import huggingface_hub"): "published weights, for --pretrained alone",
}


def faults(tree: ast.AST) -> Iterator[str]:
    """Everything in a piece of source that needs a reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            of = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            for name in ([of] if of else []) + [f"{of}.{a.name}".strip(".") for a in node.names]:
                if (
                    name.split(".")[0] in UNPICKLE | INSTALL | {"huggingface_hub"}
                    or name in REACH
                    or "torch.hub" in name
                ):
                    yield f"import {name.split('.')[0]}"
        elif isinstance(node, ast.Call):
            yield from _call(node)
        elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.hub."):
            yield "torch.hub"
        elif isinstance(node, ast.Constant) and node.value in INSTALL:
            yield f"the word {node.value!r}"


def _call(node: ast.Call) -> Iterator[str]:
    called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
    if called in CALLS or called.endswith(ENDINGS):
        yield called
    if called in ("np.load", "numpy.load", "np.save", "numpy.save") and given.get("allow_pickle") != "False":
        yield f"{called} without allow_pickle=False"
    if given.get("shell") not in (None, "False"):
        yield f"{called}(shell=...)"
    if called.endswith("create_model") and given.get("pretrained") != "False":
        yield f"{called} without pretrained=False"


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(ROOT)) for f in FILES])
def test_a_file_runs_nothing_that_it_reads(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    found = {f for f in faults(ast.parse(file.read_text(encoding="utf-8"))) if (name, f) not in ALLOWED}
    assert not found, name


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_a_page_shows_nothing_that_a_file_may_not_do(page: Path) -> None:
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        try:
            tree = ast.parse(block)
        except SyntaxError:  # a sketch
            tree = ast.parse("")
            assert not UNPICKLE & set(re.findall(r"\w+", block))
        assert not set(faults(tree)), page.name


def test_what_is_allowed_is_there() -> None:
    for name, fault in ALLOWED:
        assert fault in set(faults(ast.parse((ROOT / name).read_text(encoding="utf-8")))), (name, fault)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import cloudpickle as c", "from joblib.externals import loky",
        "import shelve", "import torch; torch.load('x', weights_only=True)", "np.load('x')", "eval('1')", "exec('1')",
        "np.load('x', allow_pickle=True)", "subprocess.run('x', shell=True)", "os.system('x')", "yaml.load(x)",
        "import pip", "import ensurepip", "subprocess.run([sys.executable, '-m', 'pip', 'install', 'x'])",
        "import urllib.request", "from urllib.request import urlopen", "import requests", "torch.hub.load('a', 'b')",
        "from torch.hub import load", "timm.create_model('x', pretrained=True)", "timm.create_model('x')",
        "import huggingface_hub", "from huggingface_hub import hf_hub_download", "socket.create_connection(('x', 1))",
        "pd.read_pickle('x')", "pa.PyExtensionType()", "dist.all_gather_object(out, x)", "np.save('x', y)",
        "__import__('pickle')",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(faults(ast.parse(source)))


JOB = """
import pickle, sys
import _pickle

class Refused(pickle._Unpickler):
    def load(self):
        raise RuntimeError("something was unpickled")

def refuse(*given, **more):
    raise RuntimeError("something was unpickled")

pickle.Unpickler = _pickle.Unpickler = pickle._Unpickler = Refused
pickle.loads = pickle.load = _pickle.loads = _pickle.load = pickle._loads = pickle._load = refuse
sys.addaudithook(lambda event, given: refuse() if event == "pickle.find_class" else None)
from modicum.cli import main

run, image = sys.argv[1:]
fit = ["fit", "sample:digits", "--out", run, "--labels", "3", "--steps", "3", "--batch", "8", "--twins", "none"]
for words in (fit, fit, ["predict", run, image], ["explain", run, image, "--out", run + "-maps"], ["export", run],
              ["score", "margin", run, "--top", "1"], ["select", run, "--budget", "1"], ["evaluate", run],
              ["label", "confident", run, "--out", run + ".csv", "--set", "least=0.1"], ["report", run]):
    assert main(words) == 0, words
try:
    pickle.loads(pickle.dumps(1))
except RuntimeError:
    print("refused to the end")
"""


def test_the_whole_job_unpickles_nothing(tmp_path: Path) -> None:
    """Every verb, in a process in which nothing can be unpickled, by us or by a library."""
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    words = [sys.executable, "-c", JOB, str(tmp_path / "run"), str(tmp_path / "0.png")]
    more = {"MODICUM_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **more}, timeout=250)
    assert done.stdout.endswith("refused to the end\n"), done.stderr[-3000:]


class Bomb:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (Path("bomb-went-off"), "x")


def test_a_pickle_inside_a_parquet_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyarrow once unpickled the types that a file names; the version that we ask for does not."""
    monkeypatch.chdir(tmp_path)
    about = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Bomb())}
    field = pa.field("row", pa.int32(), metadata=about)
    pq.write_table(pa.table([pa.array([1], pa.int32())], schema=pa.schema([field])), "x.parquet")
    assert pq.read_table("x.parquet")["row"].to_pylist() == [1]
    assert not Path("bomb-went-off").exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("bomb-went-off").exists(), "it would have"
