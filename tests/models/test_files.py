"""net.json and net.safetensors: there and back, and damaged."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from modicum.core.errors import ModelError
from modicum.models import files
from modicum.models.doors import make
from modicum.models.files import load, save

NAMES = [
    "tiny-conv", "wrn-28-2", "tiny-res:depth=16,width=2", "test_resnet", "test_vit", "test_vit_relpos",
    "test_mambaout",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = make(name, classes=3, channels=1, side=32)
    net(torch.rand(4, 1, 32, 32))
    net = net.eval().to(memory_format=torch.channels_last)
    net.notes = ("a note",)
    saved = save(net, tmp_path / "run", classes=["a", "é", "=c"], temperature=1.5)
    again, meta = load(tmp_path / "run")
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        a, b = net(x), again(x)
    assert torch.allclose(a.logits, b.logits, atol=1e-6) and torch.allclose(a.features, b.features, atol=1e-6)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())
    assert meta == saved and meta["classes"] == ["a", "é", "=c"] and meta["temperature"] == 1.5
    assert not again.training and again.spec == net.spec and again.notes == ("a note",)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["net.json", "net.safetensors"]
    assert all(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("name", ["tiny-conv", "test_vit_relpos"])
def test_loading_leaves_the_generator_alone(name: str, tmp_path: Path) -> None:
    save(make(name, classes=3, channels=1, side=32), tmp_path)
    before = torch.get_rng_state()
    load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_again_replaces(tmp_path: Path) -> None:
    for classes in (3, 5):
        save(make("tiny-conv", classes=classes, channels=1, side=16), tmp_path)
    assert load(tmp_path)[0].head.out_features == 5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    save(make("tiny-conv:width=2", classes=3, channels=1, side=16), folder, classes=["a", "b", "c"])
    return folder


def copy(run: Path, to: Path) -> Path:
    to.mkdir(exist_ok=True)
    for file in run.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    meta = json.loads((folder / "net.json").read_text())
    change(meta)
    (folder / "net.json").write_text(json.dumps(meta))


def rehash(folder: Path) -> None:
    content = (folder / "net.safetensors").read_bytes()
    edit(folder, lambda m: m.update(sha256=hashlib.sha256(content).hexdigest()))


PAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "format": lambda m: m.update(format=99),
    "door": lambda m: m.update(door="os"),
    "name": lambda m: m.update(name="tiny-cnv"),
    "timm": lambda m: m.update(name="resnet18"),
    "args": lambda m: m["args"].update(width=10**12),
    "args type": lambda m: m["args"].update(width="16"),
    "args unknown": lambda m: m["args"].update(depth=10),
    "args missing": lambda m: m["args"].pop("classes"),
    "args zero": lambda m: m["args"].update(width=0),
    "side": lambda m: m.update(side=17),
    "classes": lambda m: m.update(classes=["a"]),
    "class types": lambda m: m.update(classes=[1, 2, 3]),
    "edit": lambda m: m.update(edits=[{"edit": "prune"}]),
    "edit type": lambda m: m.update(edits=["prune"]),
    "temperature": lambda m: m.update(temperature=0),
    "nan": lambda m: m.update(temperature=float("nan")),
    "hash": lambda m: m.update(sha256="0" * 64),
    "missing": lambda m: m.pop("sha256"),
    "other net": lambda m: m["args"].update(width=3),
}


@pytest.mark.parametrize("case", PAGES)
def test_a_wrong_page_is_refused(case: str, run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    edit(folder, PAGES[case])
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert len(str(caught.value)) < 500 and caught.value.found


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, "\x00", '{"format": 1}'])
def test_a_page_that_is_no_page(text: str, run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    (folder / "net.json").write_text(text)
    with pytest.raises(ModelError):
        load(folder)


def test_nothing_there(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ModelError, match=r"net\.json is missing"):
        load(tmp_path / "none")
    folder = copy(run, tmp_path / "half")
    (folder / "net.safetensors").unlink()
    with pytest.raises(ModelError, match="no such file"):
        load(folder)


def _huge(content: bytes) -> bytes:
    return struct.pack("<Q", 2**62) + content[8:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda c: c[:-1], "head cut": lambda c: c[:5], "empty": lambda c: b"", "huge header": _huge,
    "longer": lambda c: c + b"\0", "text": lambda c: b"{}" * 99,
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_weights_are_refused_even_when_the_hash_agrees(case: str, run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    path = folder / "net.safetensors"
    path.write_bytes(DAMAGE[case](path.read_bytes()))
    with pytest.raises(ModelError, match="damaged"):
        load(folder)
    rehash(folder)
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        load(folder)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_seen(place: int, bit: int, run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    path = folder / "net.safetensors"
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load(folder)


@pytest.mark.parametrize("case", ["missing", "extra", "shape", "dtype", "counter"])
def test_other_tensors_are_refused(case: str, run: Path, tmp_path: Path) -> None:
    folder = copy(run, tmp_path)
    state = load_file(folder / "net.safetensors")
    if case == "missing":
        del state["head.bias"]
    elif case == "counter":
        del state["stages.0.1.num_batches_tracked"]
    elif case == "extra":
        state["more"] = torch.zeros(1)
    else:
        state["head.bias"] = torch.zeros(4) if case == "shape" else torch.zeros(3, dtype=torch.float64)
    save_file(state, folder / "net.safetensors")
    rehash(folder)
    with pytest.raises(ModelError):
        load(folder)


def test_known_edits_are_replayed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(net: Any, given: dict[str, Any]) -> Any:
        net.head = torch.nn.Linear(net.head.in_features, given["classes"])
        return net

    monkeypatch.setitem(files.EDITS, "cut", cut)
    net = make("tiny-conv", classes=3, channels=1, side=16)
    net = cut(net, {"classes": 2})
    net.spec = {**net.spec, "edits": [{"edit": "cut", "classes": 2}]}
    save(net, tmp_path)
    again, _ = load(tmp_path)
    assert again.head.out_features == 2 and torch.equal(again.head.weight, net.head.weight)
