from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from modicum.data import making
from modicum.data.making import file_for, finish, folder_for, sweep


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def make(home: Path, text: str, wait: float = 0.0) -> str:
    """As a cache is made: look, wait for others, look again, fill."""
    with folder_for(home) as folder:
        if not home.is_dir():
            (folder / "a").write_text(text)
            time.sleep(wait)
            finish(folder, home)
    return (home / "a").read_text()


@pytest.fixture(params=[True, False], ids=["locks", "no locks"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(making, "fcntl", None)
    elif making.fcntl is None:
        pytest.skip("this system has no such locks")
    return bool(request.param)


def test_a_folder_is_whole_or_not_there(tmp_path: Path, locks: bool) -> None:
    assert make(tmp_path / "x", "one") == "one" and names(tmp_path) == ["x"]
    with pytest.raises(KeyError), folder_for(tmp_path / "y") as folder:
        (folder / "a").write_text("half")
        raise KeyError
    assert names(tmp_path) == ["x"]


def test_of_many_at_once_all_see_one_result(tmp_path: Path, locks: bool) -> None:
    said: list[str] = []
    many = [threading.Thread(target=lambda k=k: said.append(make(tmp_path / "x", str(k), 0.05))) for k in range(8)]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert len(said) == 8 and len(set(said)) == 1 and names(tmp_path) == ["x"]


def test_remains_go_when_their_maker_is_gone(tmp_path: Path, locks: bool) -> None:
    """Nobody holds these: with locks that is known at once, without them after a day."""
    for name in ("old", "new"):
        (tmp_path / f".making-{name}").mkdir()
        (tmp_path / f".making-{name}" / "pixels.bin").write_bytes(b"half")
        (tmp_path / f".making-{name}.npy").write_bytes(b"half")
    for path in (tmp_path / ".making-old", tmp_path / ".making-old" / "pixels.bin", tmp_path / ".making-old.npy"):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert names(tmp_path) == ([] if locks else [".making-new", ".making-new.npy"])


def test_what_is_being_made_is_not_swept(tmp_path: Path, locks: bool) -> None:
    with folder_for(tmp_path / "x") as folder, file_for(tmp_path / "y", 3) as file:
        sweep(tmp_path)
        assert folder.is_dir() and file.read_bytes() == bytes(3)
        file.write_bytes(b"abc")
    assert names(tmp_path) == ["y"] and (tmp_path / "y").read_bytes() == b"abc"


def test_a_file_is_replaced_whole(tmp_path: Path, locks: bool) -> None:
    home = tmp_path / "y"
    home.write_bytes(b"before")
    with pytest.raises(KeyError), file_for(home, 100) as file:
        file.write_bytes(b"half")
        raise KeyError
    assert home.read_bytes() == b"before" and names(tmp_path) == ["y"]


def test_no_room_is_said_before_it_is_needed(tmp_path: Path) -> None:
    """More than any disk holds: a mapped file that ran out of room later would end the process."""
    with pytest.raises(OSError), file_for(tmp_path / "y", 1 << 60):
        pytest.fail("there was room")
    assert names(tmp_path) == []
