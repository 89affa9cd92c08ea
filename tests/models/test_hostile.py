"""Model files made to deceive: both files agree with each other, and still nothing but a ModelError comes of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from modicum.core.errors import ModelError
from modicum.models.doors import make
from modicum.models.files import load, save
from modicum.models.weights import read_weights

SIZE = {"classes": 3, "channels": 1, "side": 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    save(make("tiny-conv:width=2", **SIZE), folder, classes=["a", "b", "c"])
    return folder


@pytest.fixture
def folder(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "net")
    return tmp_path / "net"


def put(folder: Path, weights: bytes) -> None:
    """Other weights, with a net.json that names them."""
    (folder / "net.safetensors").write_bytes(weights)
    page = json.loads((folder / "net.json").read_text())
    page["sha256"] = hashlib.sha256(weights).hexdigest()
    (folder / "net.json").write_text(json.dumps(page))


def packed(header: object, data: bytes, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensor(shape: object, begin: int, end: int, kind: str = "F32") -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def entry(text: str) -> bytes:
    return b'{"a":' + text.encode() + b"}"


PLAIN = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
FILES: dict[str, bytes] = {
    "nothing": b"",
    "half a length": b"\x08\0\0",
    "a length alone": struct.pack("<Q", 8),
    "length 2^60": packed({}, b"", 2**60),
    "length 2^64 - 1": packed({}, b"", 2**64 - 1),
    "length one too long": packed({}, b"", 3),
    "overlap": packed({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, bytes(12)),
    "the same bytes twice": packed({"a": tensor([2], 0, 8), "b": tensor([2], 0, 8)}, bytes(8)),
    "hole": packed({"a": tensor([2], 0, 8), "b": tensor([1], 12, 16)}, bytes(16)),
    "bytes behind": packed({"a": tensor([2], 0, 8)}, bytes(9)),
    "bytes missing": packed({"a": tensor([2], 0, 8)}, bytes(7)),
    "backwards": packed({"a": tensor([2], 8, 0)}, bytes(8)),
    "shape and bytes differ": packed({"a": tensor([3], 0, 8)}, bytes(8)),
    "negative shape": packed({"a": tensor([-2], 0, 8)}, bytes(8)),
    "huge shape": packed({"a": tensor([2**62], 0, 8)}, bytes(8)),
    "shape that overflows": packed({"a": tensor([2**33, 2**33], 0, 8)}, bytes(8)),
    "empty and huge": packed({"a": tensor([2**60, 0, 2**60], 0, 0)}, b""),
    "unknown type": packed({"a": tensor([2], 0, 8, "Q7")}, bytes(8)),
    "another type": packed({"head.bias": tensor([6], 0, 12, "F16")}, bytes(12)),
    "half a byte": packed({"a": tensor([16], 0, 8, "F4")}, bytes(8)),
    "a name twice": packed(f'{{"a":{PLAIN},"a":{PLAIN}}}'.encode(), bytes(8)),
    "nested": packed(entry("[" * 100_000 + "]" * 100_000), b""),
    "1e309": packed(entry('{"dtype":"F32","shape":[1e309],"data_offsets":[0,8]}'), bytes(8)),
    "NaN": packed(entry('{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}'), bytes(8)),
    "no JSON": packed(b"\x80\x04\x95\x0b", b""),
    "no text": packed(b'{"\xff\xfe":' + PLAIN.encode() + b"}", bytes(8)),
    "a list": packed([], b""),
    "many empty tensors": packed({f"t{i}": tensor([0], 0, 0) for i in range(50_000)}, b""),
    "a name with controls": packed({"a\x1b[2J\n": tensor([2], 0, 8)}, bytes(8)),
    "a pickle": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_hostile_weights_are_a_model_error(case: str, folder: Path) -> None:
    put(folder, FILES[case])
    with pytest.raises(ModelError) as caught:
        load(folder)
    said = str(caught.value)
    assert "net.safetensors" in said and len(said) < 600 and "\x1b" not in said


@pytest.mark.parametrize("case", [c for c in FILES if c not in ("empty and huge", "a name twice", "a list")])
def test_so_they_are_as_a_user_s_weights(case: str, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(FILES[case])
    with pytest.raises(ModelError):
        make("tiny-conv:width=2", weights=tmp_path / "w.safetensors", **SIZE)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(value: float, folder: Path, tmp_path: Path) -> None:
    state = load_file(folder / "net.safetensors")
    state["head.weight"][1, 2] = value
    save_file(state, tmp_path / "w.safetensors")
    put(folder, (tmp_path / "w.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"head\.weight holds values that are not finite"):
        load(folder)
    with pytest.raises(ModelError, match="not finite"):
        make("tiny-conv:width=2", weights=tmp_path / "w.safetensors", **SIZE)
    net = make("tiny-conv:width=2", **SIZE)
    net.load_state_dict(state)
    with pytest.raises(ModelError, match="not finite"):
        save(net, tmp_path / "new")
    assert not (tmp_path / "new").exists()


Page = Callable[[dict[str, Any]], object]
PAGES: dict[str, Page] = {
    "unknown key": lambda p: p.update(surprise=1),
    "width 10^9": lambda p: p["args"].update(width=10**9),
    "width -1": lambda p: p["args"].update(width=-1),
    "width true": lambda p: p["args"].update(width=True),
    "classes -3": lambda p: p["args"].update(classes=-3),
    "side 10^9": lambda p: (p["args"].update(side=10**9), p.update(side=10**9)),
    "shorter 10^9": lambda p: p.update(shorter=10**9),
    "shorter -1": lambda p: p.update(shorter=-1),
    "side true": lambda p: p.update(side=True),
    "a class twice": lambda p: p.update(classes=["a", "b", "b"]),
    "half a letter": lambda p: p.update(classes=["a", "b", "\ud800"]),
    "a name as a path": lambda p: p.update(name="../../tiny-conv"),
    "a name on the hub": lambda p: p.update(door="timm", name="hf_hub:someone/thing", args=dict(SIZE)),
    "a name on the disk": lambda p: p.update(door="timm", name="local-dir:/etc", args=dict(SIZE)),
    "a name with arguments": lambda p: p.update(name="tiny-conv:width=2", args=dict(SIZE)),
    "parts of nothing": lambda p: p.update(parts=[{}]),
    "parts without weights": lambda p: p.update(parts=[{k: p[k] for k in ("door", "name", "args", "edits")}]),
    "weights without parts": lambda p: p["args"].update(weights=[1.0]),
    "an edit without a name": lambda p: p.update(edits=[{}]),
    "an edit of nonsense": lambda p: p.update(edits=[{"edit": "cosine-head", "scale": "nan"}]),
    "an edit without its number": lambda p: p.update(edits=[{"edit": "cosine-head"}]),
    "an edit twice": lambda p: p.update(edits=[{"edit": "cosine-head", "scale": 9.0}] * 2),
    "notes of numbers": lambda p: p.update(notes=[1]),
}


@pytest.mark.parametrize("case", PAGES)
def test_a_page_edited_by_hand_is_refused(case: str, folder: Path) -> None:
    page = json.loads((folder / "net.json").read_text())
    PAGES[case](page)
    (folder / "net.json").write_text(json.dumps(page))
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "net.json" in str(caught.value) and str(folder) in str(caught.value) and len(str(caught.value)) < 900


TEXTS: dict[str, Callable[[str], bytes]] = {
    "cut": lambda t: t[: len(t) // 2].encode(),
    "a key twice": lambda t: t.replace('"format"', '"side": 16, "format"').encode(),
    "NaN": lambda t: t.replace('"temperature": null', '"temperature": NaN').encode(),
    "1e309": lambda t: t.replace('"temperature": null', '"temperature": 1e309').encode(),
    "5,000 digits": lambda t: t.replace('"shorter": 0', '"shorter": ' + "9" * 5000).encode(),
    "UTF-16": lambda t: t.encode("utf-16"),
    "Latin-1": lambda t: t.replace('"a"', '"\xe9"').encode("latin-1"),
    "no bytes": lambda t: b"",
    "5 MiB": lambda t: t.encode() + b" " * (5 * 2**20),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_page_that_is_no_page(case: str, folder: Path) -> None:
    path = folder / "net.json"
    path.write_bytes(TEXTS[case](path.read_text()))
    with pytest.raises(ModelError, match=r"net\.json is damaged"):
        load(folder)


def test_a_byte_order_mark_does_no_harm(folder: Path) -> None:
    path = folder / "net.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(folder)[1]["classes"] == ["a", "b", "c"]


def test_a_newer_format_is_said(folder: Path) -> None:
    page = json.loads((folder / "net.json").read_text())
    (folder / "net.json").write_text(json.dumps({**page, "format": 2, "new": 1}))
    with pytest.raises(ModelError, match=r"format 2, this version reads 1\n.*newer Modicum"):
        load(folder)


def test_a_folder_or_a_pipe_in_the_place_of_a_file(folder: Path) -> None:
    weights = (folder / "net.safetensors").read_bytes()
    (folder / "net.safetensors").unlink()
    (folder / "net.safetensors").mkdir()
    with pytest.raises(ModelError):
        load(folder)
    (folder / "net.safetensors").rmdir()
    (folder / "net.safetensors").write_bytes(weights)
    (folder / "net.json").unlink()
    (folder / "net.json").mkdir()
    with pytest.raises(ModelError, match="not a file"):
        load(folder)


def test_links_are_replaced_and_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("net.json", "net.safetensors"):
        (tmp_path / name).write_text("somebody else's")
        (tmp_path / "run" / name).symlink_to(tmp_path / name)
    save(make("tiny-conv:width=2", **SIZE), tmp_path / "run")
    assert load(tmp_path / "run")
    assert all((tmp_path / n).read_text() == "somebody else's" for n in ("net.json", "net.safetensors"))


def test_a_large_network_is_refused_before_memory_is_taken(folder: Path) -> None:
    """The largest nets that a page can name, in a process that may take 300 MB more than it has."""
    pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not say how large a process is")
    pages = []
    for name, args in (
        ("tiny-conv", {"classes": 1_000_000, "channels": 256, "side": 8192, "width": 512}),
        ("tiny-res", {"classes": 1_000_000, "channels": 256, "side": 8192, "depth": 202, "width": 64}),
    ):
        page = json.loads((folder / "net.json").read_text())
        page.update(name=name, args=args, side=8192, channels=256, classes=[])
        place = folder.parent / name
        shutil.copytree(folder, place)
        (place / "net.json").write_text(json.dumps(page))
        pages.append(str(place))
    sparse = folder.parent / "sparse"
    shutil.copytree(folder, sparse)
    with (sparse / "net.safetensors").open("wb") as file:  # 1 GB that takes no room on the disk
        header = json.dumps({"head.bias": tensor([2**28], 0, 2**30)}).encode()
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2**30)
    page = json.loads((sparse / "net.json").read_text())
    with (sparse / "net.safetensors").open("rb") as file:
        page["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    (sparse / "net.json").write_text(json.dumps(page))
    code = """
import resource, sys
from pathlib import Path
from safetensors import safe_open
from modicum.core.errors import ModelError
from modicum.models.files import load
load(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    try:
        load(Path(path))
    except ModelError:
        print("refused", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 2**10)
"""
    words = [sys.executable, "-c", code, str(folder), *pages, str(sparse)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["refused", "True"] * 3, done.stdout + done.stderr[-2000:]


# -- any bytes ---------------------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("tiny-res"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["format", "door", "name", "args", "edits", "parts", "classes", "side", "channels", "shorter", "temperature",
     "notes", "sha256", "other"]
)  # fmt: skip
EDITS = st.dictionaries(KEYS, ANY, max_size=3)
SIZES = st.dictionaries(st.sampled_from(["classes", "channels", "side", "width", "depth"]), ANY, max_size=2)


def only_model_errors(folder: Path) -> None:
    try:
        load(folder)
    except ModelError as error:
        assert len(str(error)) < 1000 and error.found


def edited(run: Path, folder: Path, edits: dict[str, Any], sizes: dict[str, Any]) -> None:
    page = json.loads((run / "net.json").read_text())
    page["args"].update(sizes)
    page.update(edits)
    (folder / "net.json").write_text(json.dumps(page))
    only_model_errors(folder)


def headed(folder: Path, entries: dict[str, Any], tail: bytes, length: int | None) -> None:
    weights = packed(entries, tail, length)
    put(folder, weights)
    only_model_errors(folder)
    path = folder.parent / "w.safetensors"
    path.write_bytes(weights)
    try:
        read_weights(path)
    except ModelError as error:
        assert len(str(error)) < 1000


ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I64", "F16", "BOOL", "F8_E4M3", "F4", "C64", "X"]) | ANY,
        "shape": st.lists(st.integers(-2, 2**64) | st.integers(0, 4), max_size=4) | ANY,
        "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2) | ANY,
    }
)
HEADS = st.dictionaries(st.sampled_from(["head.bias", "mean", "__metadata__"]) | st.text(max_size=6), ENTRY | ANY)
LENGTHS = st.none() | st.integers(0, 2**64 - 1)
FEW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(EDITS, SIZES)
def test_any_page(run: Path, folder: Path, edits: dict[str, Any], sizes: dict[str, Any]) -> None:
    edited(run, folder, edits, sizes)


@FEW
@given(HEADS, st.binary(max_size=64), LENGTHS)
def test_any_header(folder: Path, entries: dict[str, Any], tail: bytes, length: int | None) -> None:
    headed(folder, entries, tail, length)


@pytest.mark.slow
@MANY
@given(EDITS, SIZES)
def test_many_pages(run: Path, folder: Path, edits: dict[str, Any], sizes: dict[str, Any]) -> None:
    edited(run, folder, edits, sizes)


@pytest.mark.slow
@MANY
@given(HEADS, st.binary(max_size=64), LENGTHS)
def test_many_headers(folder: Path, entries: dict[str, Any], tail: bytes, length: int | None) -> None:
    headed(folder, entries, tail, length)


@pytest.mark.slow
@MANY
@given(st.data())
def test_many_altered_bytes(run: Path, folder: Path, data: st.DataObject) -> None:
    """A few bytes of either file replaced, the hash made to agree."""
    content = bytearray((run / "net.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(2000, len(content) - 1)))] = data.draw(st.integers(0, 255))
    shutil.copy(run / "net.json", folder / "net.json")
    put(folder, bytes(content))
    only_model_errors(folder)
    page = bytearray((run / "net.json").read_bytes())
    page[data.draw(st.integers(0, len(page) - 1))] = data.draw(st.integers(0, 255))
    (folder / "net.json").write_bytes(bytes(page))
    only_model_errors(folder)


def test_finite_numbers_of_every_type_are_accepted(tmp_path: Path) -> None:
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool]
    save_file({str(k): torch.ones(3).to(k) for k in kinds}, tmp_path / "w.safetensors")
    assert len(read_weights(tmp_path / "w.safetensors")) == len(kinds)
