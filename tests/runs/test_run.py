"""The run directory: one writer, whole files, checkpoints that survive a full disk, and clear words for every fault."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from modicum.core import disk
from modicum.core.errors import RunError
from modicum.core.recipe import Recipe
from modicum.runs import checkpoint
from modicum.runs.run import Metrics, Run, environment, write_whole

ROOT = os.name != "nt" and os.geteuid() == 0


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"nets.w": torch.full((3, 2), value), "optim.0.0.step": torch.tensor(value)}


def full(*given: Any, **more: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# -- whole files -------------------------------------------------------------------------------------------------------


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_whole(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"a\.txt: cannot write: No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["a.txt"]
    monkeypatch.undo()
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(ROOT, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunError, match="cannot write"):
            write_whole(tmp_path / "a.txt", "x")
        with pytest.raises(RunError, match="cannot write"), Run(tmp_path).lock():
            pass
        with pytest.raises(RunError, match="cannot write"):
            checkpoint.save(tmp_path / "c", (0, 1), tensors(1), {})
    finally:
        tmp_path.chmod(0o700)


def test_a_file_where_the_folder_should_be_is_said(tmp_path: Path) -> None:
    """The same for the superuser too: nothing can be made below a file."""
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="cannot write"):
        write_whole(tmp_path / "run" / "a.txt", "x")
    with pytest.raises(RunError, match="cannot write"), Run(tmp_path / "run").lock():
        pass
    with pytest.raises(RunError, match="cannot write a checkpoint"):
        checkpoint.save(tmp_path / "run", (0, 1), tensors(1), {})


CONFIG: dict[str, Any] = {
    "format": 1, "modicum": "0", "request": {"data": "ä\udcff"}, "want": "class", "method": "m",
    "before": [], "settings": {}, "recipe": Recipe().to_dict(), "wraps": [], "seed": 1, "why": [], "arms": [],
    "choices": {"net": "n", "side": 8, "channels": 1, "cache": 8, "pixels": "p", "device": "cpu", "precision": "32",
                "threads": 1, "augment": "batch", "layout": "",
                "judge": "", "unjudged": "", "folds": 0, "share": 0.5},
    "data": {"root": "", "version": "", "classes": [], "images": 0, "counts": []},
}  # fmt: skip


def test_json_files_and_their_faults(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(RunError, match=r"no config\.json"):
        Run.open(tmp_path)
    run.write("config.json", CONFIG)
    assert Run.open(tmp_path).config == CONFIG
    for bad in ({**CONFIG, "seed": float("nan")}, {**CONFIG, "more": 1}, {**CONFIG, "seed": "1"}):
        with pytest.raises(ValueError):
            run.write("config.json", bad)
    assert run.config["seed"] == 1
    for damage in ('{"seed": ', "[1]", "\x00"):
        (tmp_path / "config.json").write_text(damage)
        with pytest.raises(RunError, match=r"config\.json is damaged"):
            _ = run.config
    with pytest.raises(RunError, match=r"other\.json is missing"):
        run.read("other.json")


def test_a_link_in_the_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "run" / "arms").mkdir(parents=True)
    (tmp_path / "outside").write_text("somebody else's")
    (tmp_path / "run" / "arms" / ".lock").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match=r"arms.\.lock is a link"), Run(tmp_path / "run").lock():
        pass
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["arms"]
    (tmp_path / "linked").symlink_to(tmp_path / "fine")
    (tmp_path / "fine").mkdir()
    with Run(tmp_path / "linked").lock():  # the folder itself may be one
        pass


# -- checkpoints -------------------------------------------------------------------------------------------------------


def test_the_newest_checkpoint_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "none") is None
    for at in ((0, 9), (0, 10), (1, 0), (10, 2)):
        checkpoint.save(tmp_path, at, tensors(at[1]), {"phase": at[0], "step": at[1]})
    found = checkpoint.latest(tmp_path)
    assert found is not None and (found.state["phase"], found.state["step"]) == (10, 2)
    assert found.tensors["nets.w"].equal(tensors(2)["nets.w"]) and found.tensors["optim.0.0.step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["at-0001-000000000", "at-0010-000000002"]


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, (0, 1), tensors(1), {"step": 1})
    for module, name in ((checkpoint, "_write"), (disk, "sync")):
        monkeypatch.setattr(module, name, full)
        with pytest.raises(RunError, match=r"No space left.*free, 56 bytes needed.*\n.*goes on where it stopped"):
            checkpoint.save(tmp_path, (0, 2), tensors(2), {"step": 2})
        monkeypatch.undo()
        found = checkpoint.latest(tmp_path)
        assert found is not None and found.state["step"] == 1
        assert [p.name for p in tmp_path.iterdir()] == ["at-0000-000000001"], "nothing half made is left"


def test_a_device_that_is_really_full_is_said_too(tmp_path: Path) -> None:
    """A limit on the size of files of this process: what safetensors raises then is no OSError."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        with pytest.raises(RunError, match="cannot write a checkpoint"):
            checkpoint.save(tmp_path, (0, 1), {"w": torch.zeros(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "0001-column-x.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone", "noise"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, name: str, damage: str) -> None:
    checkpoint.save(tmp_path, (0, 1), tensors(1), {"step": 1})
    checkpoint.save(tmp_path, (1, 1), tensors(2), {"step": 2}, {"0001-column-x": {"values": torch.ones(4)}})
    path = tmp_path / "at-0001-000000001" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20] if damage == "cut" else os.urandom(path.stat().st_size))
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.state["step"] == 1


def test_what_is_kept_is_linked_and_outlives_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {"0000-column-x": {"values": torch.arange(4.0)}}
    kept = checkpoint.save(tmp_path, (0, 0), tensors(0), {}, kept)
    inode = kept["0000-column-x"].stat().st_ino
    for step in range(1, 4):
        kept = checkpoint.save(tmp_path, (0, step), tensors(step), {}, kept)
    assert kept["0000-column-x"].stat().st_ino == inode
    monkeypatch.setattr(Path, "hardlink_to", full)
    checkpoint.save(tmp_path, (0, 4), tensors(4), {}, kept)
    found = checkpoint.latest(tmp_path)
    assert found is not None and list(found.kept) == ["0000-column-x"]
    assert checkpoint.load(found.kept["0000-column-x"])["values"].tolist() == [0, 1, 2, 3]
    assert found.kept["0000-column-x"].stat().st_ino != inode, "copied where there are no links"


# -- metrics and machine -----------------------------------------------------------------------------------------------


def test_metrics_are_cut_for_one_arm_and_a_half_line_is_dropped(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "run" / "metrics.jsonl")
    metrics.path.parent.mkdir()
    metrics.cut("a", 3)
    assert not metrics.path.exists()
    for arm in "ab":
        for step in range(1, 6):
            metrics.add({"arm": arm, "step": step})
    with metrics.path.open("ab") as file:
        file.write(b'[]\n{"arm": "a"}\n{"step": "1"}\n\xff\n' + b"[" * 10**5 + b'\n{"arm": "b", "st')
    metrics.cut("a", 2)
    lines = [json.loads(x) for x in metrics.path.read_text().splitlines()]
    assert [(x["arm"], x["step"]) for x in lines] == [("a", 1), ("a", 2), *(("b", k) for k in range(1, 6))]


def test_the_environment_can_be_written_down() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found and found["packages"]["torch"] == torch.__version__.split("+")[0]


def test_the_last_value_of_a_term_passes_over_what_is_not_whole(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    assert metrics.last("a", "believed") is None
    for step, arm, value in ((1, "a", 0.1), (2, "b", 0.9), (3, "a", 0.2)):
        metrics.add({"arm": arm, "step": step, "believed": value})
    metrics.add({"arm": "a", "step": 4, "labelled": 1.0})
    with metrics.path.open("a") as file:
        file.write('[3]\n{"arm": "a", "step": 5, "belie')
    assert metrics.last("a", "believed") == 0.2 and metrics.last("a", "nothing") is None
