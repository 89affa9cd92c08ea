"""Checkpoints that were damaged are passed over; forged ones, sealed anew, end in a RunError or do no harm."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tests.waist.conftest import Stand, same, stand_of

from modicum.core import registry
from modicum.core.dataset import Dataset
from modicum.core.errors import ModicumError, RunError
from modicum.runs import checkpoint
from modicum.testing.toy import CLASSES, pictures

State = dict[str, Any]
Tensors = dict[str, torch.Tensor]
STEPS = 8


@pytest.fixture(scope="module")
def stand() -> Stand:
    images, truth = pictures(12)
    return stand_of(Dataset.build([f"{i}.png" for i in range(12)], CLASSES, cls=truth, split="train"), images, truth)


@pytest.fixture(scope="module")
def stopped(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints after steps 4 and 5 of 8."""
    home = tmp_path_factory.mktemp("stopped") / "home"
    stand.run(registry.make("supervised"), home, kill=6, steps=STEPS)
    return home


@pytest.fixture
def home(stopped: Path, tmp_path: Path) -> Path:
    shutil.copytree(stopped, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def whole(stand: Stand) -> torch.nn.Module:
    return stand.run(registry.make("supervised"), steps=STEPS)[0].nets


def newest(home: Path) -> Path:
    return sorted(home.glob("at-*"))[-1]


def reseal(folder: Path) -> None:
    """As `sha256sum *.json *.safetensors > SHA256SUMS` does."""
    files = sorted((*folder.glob("*.json"), *folder.glob("*.safetensors")))
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def forge(home: Path, change: Callable[[State, Tensors], object]) -> None:
    """Change the newest checkpoint, leave no other, seal it."""
    for old in sorted(home.glob("at-*"))[:-1]:
        shutil.rmtree(old)
    folder = newest(home)
    state, tensors = json.loads((folder / "state.json").read_text()), load_file(folder / "tensors.safetensors")
    change(state, tensors)
    (folder / "state.json").write_text(json.dumps(state))
    save_file(tensors, folder / "tensors.safetensors")
    reseal(folder)


def first(tensors: Tensors, start: str) -> str:
    return next(k for k in sorted(tensors) if k.startswith(start) and tensors[k].ndim > 1)


def put(start: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State, Tensors], object]:
    return lambda s, t: t.update({(k := first(t, start)): change(t[k]).contiguous()})


def test_sealed_as_sha256sum_does_it(home: Path) -> None:
    before = (newest(home) / "SHA256SUMS").read_text()
    reseal(newest(home))
    assert (newest(home) / "SHA256SUMS").read_text() == before


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors", "SHA256SUMS"])
def test_any_damage_is_seen_and_the_one_before_is_taken(
    name: str, home: Path, stand: Stand, whole: torch.nn.Module
) -> None:
    path, before = newest(home) / name, sorted(home.glob("at-*"))[-2]
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content), 40):
        for new in (content[:at], content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]):
            path.write_bytes(new)
            found = checkpoint.latest(home)
            assert found is not None and f"{found.state['phase']:04d}-{found.state['step']:09d}" in before.name
    loop, losses = stand.run(registry.make("supervised"), home, steps=STEPS)
    assert len(losses) == STEPS - found.state["step"] and same(whole, loop.nets)


HARMLESS: dict[str, Callable[[State, Tensors], object]] = {
    "a name with dots": lambda s, t: s.update(kept=["../../x"]),
    "a name that is not there": lambda s, t: s.update(kept=["0000-column-x"]),
    "names of numbers": lambda s, t: s.update(kept=[1]),
    "no names": lambda s, t: s.pop("kept"),
}
FORGED: dict[str, Callable[[State, Tensors], object]] = {
    "phase 99": lambda s, t: s.update(phase=99),
    "phase -1": lambda s, t: s.update(phase=-1),
    "phase a text": lambda s, t: s.update(phase="0"),
    "step 10^9": lambda s, t: s.update(step=10**9),
    "step behind the end": lambda s, t: s.update(phase=1, step=1),
    "step true": lambda s, t: s.update(step=True),
    "made for phase 99": lambda s, t: s.update(made={"0": 99}),
    "made for lane x": lambda s, t: s.update(made={"x": 0}),
    "no optimiser": lambda s, t: s.update(optim={}),
    "an optimiser of texts": lambda s, t: s["optim"].update({"0.0": {"x": 1}}),
    "frozen": lambda s, t: s.update(frozen={"net": "0"}),
    "total a text": lambda s, t: s.update(total="5"),
    "no step": lambda s, t: s.pop("step"),
    "more": lambda s, t: s.update(surprise=1),
    "a weight missing": lambda s, t: t.pop(first(t, "nets.")),
    "a weight more": lambda s, t: t.update({"nets.more": torch.zeros(1)}),
    "a weight of another shape": put("nets.", lambda v: v[:1]),
    "a momentum of another shape": put("optim.", lambda v: v[:1]),
    "a momentum of nobody": lambda s, t: t.update({"optim.0.0.99.momentum_buffer": torch.zeros(3)}),
    "a momentum without a number": lambda s, t: t.update({"optim.0.0.x.y": torch.zeros(3)}),
    "weights that are not finite": put("nets.net.stages", lambda v: v * torch.nan),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_no_checkpoint_is_passed_over(case: str, home: Path, stand: Stand, whole: torch.nn.Module) -> None:
    forge(home, HARMLESS[case])
    assert checkpoint.latest(home) is None
    assert same(whole, stand.run(registry.make("supervised"), home, steps=STEPS)[0].nets)
    assert {p.name for p in home.parent.iterdir()} == {"home"}, "nothing was written elsewhere"


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_checkpoint_is_a_run_error(case: str, home: Path, stand: Stand) -> None:
    forge(home, FORGED[case])
    with pytest.raises(ModicumError) as caught:
        stand.run(registry.make("supervised"), home, steps=STEPS)
    assert len(str(caught.value)) < 600
    if "finite" not in case:
        assert isinstance(caught.value, RunError) and str(home) in str(caught.value)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["phase", "step", "optim", "made", "total", "frozen", "kept", "other"])


def only_modicum_errors(folder: Path, stopped: Path, data: st.DataObject) -> None:
    """A checkpoint with parts of its state replaced, or bytes of a file, sealed or not."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(newest(stopped), folder / newest(stopped).name)
    at = newest(folder)
    state = json.loads((at / "state.json").read_text())
    (at / "state.json").write_text(json.dumps(state | data.draw(st.dictionaries(KEYS, ANY, max_size=3))))
    path = at / data.draw(st.sampled_from(["state.json", "tensors.safetensors", "SHA256SUMS"]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, min(3000, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    if data.draw(st.booleans()):
        reseal(at)
    found = checkpoint.latest(folder)
    assert found is None or all(p.parent == at for p in found.kept.values())


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_checkpoint_is_read_or_passed_over(stopped: Path, tmp_path: Path, data: st.DataObject) -> None:
    only_modicum_errors(tmp_path / "any", stopped, data)


@pytest.mark.slow
@settings(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_many_checkpoints_are_read_or_passed_over(stopped: Path, tmp_path: Path, data: st.DataObject) -> None:
    only_modicum_errors(tmp_path / "any", stopped, data)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, ANY, max_size=3))
def test_any_state_is_taken_up_or_refused(stand: Stand, stopped: Path, tmp_path: Path, changes: State) -> None:
    home = tmp_path / "taken"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(stopped, home)
    forge(home, lambda s, t: s.update(changes))
    try:
        stand.run(registry.make("supervised"), home, steps=STEPS)
    except ModicumError as error:
        assert len(str(error)) < 600
