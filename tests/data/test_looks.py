from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError, ModicumWarning
from modicum.data import looks
from modicum.data.looks import Looks, look
from modicum.data.read import read
from modicum.data.samples import sample
from modicum.data.states import distrust, states

Put = Callable[..., Path]


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def root(put: Put) -> Path:
    """100 images that were last touched long ago."""
    for i in range(100):
        root = put(f"{i // 50}/{i:02d}.png", i)
    return aged(root)


def aged(root: Path, seconds: float = 1e9) -> Path:
    """All files with this time of change."""
    for file in root.rglob("*"):
        os.utime(file, (seconds, seconds))
    return root


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the scan runs ten seconds ahead of the files'."""
    now = time.time_ns
    monkeypatch.setattr("modicum.data.looks.time.time_ns", lambda: now() + 10_000_000_000)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids that were decoded, in order; cleared by the tests."""
    seen: list[str] = []
    real = looks.stream

    def spy(data: Dataset, rows: np.ndarray, *rest: object) -> object:
        seen.extend(data.ids[rows].tolist())
        return real(data, rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(looks, "stream", spy)
    return seen


def same(one: Looks, other: Looks) -> bool:
    facts = all((one.facts[n] == other.facts[n]).all() for n in one.facts.dtype.names)
    return facts and bool((one.sketches == other.sketches).all()) and one.faults == other.faults


def test_the_second_look_decodes_nothing_and_says_the_same(root: Path, home: Path, decoded: list[str]) -> None:
    data = read(root).data
    first = look(data, home=home)
    assert decoded == data.ids.tolist() and same(first, look(data))
    decoded.clear()
    assert same(look(data, home=home), first) and decoded == []
    assert len(list(home.iterdir())) == 1


@pytest.mark.parametrize("change", ["other pixels", "same size and time", "copied over", "moved over", "other rights"])
def test_what_changed_is_decoded(root: Path, home: Path, decoded: list[str], change: str) -> None:
    look(read(root).data, home=home)
    file, other, before = root / "0/07.png", root / "1/60.png", (root / "0/07.png").stat()
    time.sleep(0.02)  # more than a tick of the disk's clock
    if change == "other pixels":
        Image.new("RGB", (9, 9)).save(file)
    elif change == "same size and time":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    elif change == "copied over":
        shutil.copy2(other, file)
    elif change == "moved over":
        shutil.copy2(other, root / "new.png")
        (root / "new.png").replace(file)
    else:
        file.chmod(0o600)
    decoded.clear()
    data = read(root).data
    now = look(data, home=home)
    assert decoded == ["0/07.png"] and same(now, look(data))
    decoded.clear()
    assert same(look(data, home=home), now) and decoded == []


def test_images_that_come_go_and_change_their_names(root: Path, home: Path, decoded: list[str], put: Put) -> None:
    look(read(root).data, home=home)
    (root / "0/00.png").unlink()
    put("0/new.png", 1000)
    os.utime(root / "0/new.png", (1e9, 1e9))
    decoded.clear()
    data = read(root).data
    assert same(look(data, home=home), look(data)) and decoded[: -len(data)] == ["0/new.png"]
    (root / "0").rename(root / "2")  # all have other names; the files are what they were
    decoded.clear()
    data = read(root).data
    assert same(look(data, home=home), look(data)) and decoded[: -len(data)] == []


def test_fresh_trusts_nothing(root: Path, home: Path, decoded: list[str]) -> None:
    data = read(root).data
    look(data, home=home)
    decoded.clear()
    look(data, home=home, fresh=True)
    assert len(decoded) == 100


def test_a_file_touched_just_now_is_not_trusted(root: Path, home: Path, decoded: list[str]) -> None:
    """The disk's clock may not tell the next change from this one."""
    ahead = time.time() + 9
    os.utime(root / "0/05.png", (ahead, ahead))
    data = read(root).data
    look(data, home=home)
    decoded.clear()
    look(data, home=home)
    assert decoded == ["0/05.png"]


def test_images_that_cannot_be_read_are_tried_again(root: Path, home: Path, decoded: list[str]) -> None:
    whole = (root / "0/03.png").read_bytes()
    (root / "0/03.png").write_bytes(whole[:40])
    aged(root)
    data = read(root).data
    first = look(data, home=home)
    assert [f.where for f in first.faults] == ["0/03.png"] and not first.facts["height"][3]
    kept = next(home.iterdir()).stat()
    for _ in range(2):
        decoded.clear()
        assert same(look(data, home=home), first) and decoded == ["0/03.png"]
    assert next(home.iterdir()).stat() == kept  # and nothing is written again
    with pytest.raises(DataError, match=r"0/03\.png"):
        look(data, home=home, strict=True)
    (root / "0/03.png").write_bytes(whole)
    assert not look(data, home=home).faults


def test_a_limit_that_is_raised_lets_images_in(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read(root).data
    monkeypatch.setenv("MODICUM_MAX_PIXELS", "19")
    assert len(look(data, home=home).faults) == 100
    monkeypatch.delenv("MODICUM_MAX_PIXELS")
    assert not look(data, home=home).faults


def test_a_sample_takes_what_is_kept_and_keeps_nothing(root: Path, home: Path, decoded: list[str]) -> None:
    data, rows = read(root).data, np.array([5, 50, 99])
    want = look(data, rows, home=home)
    assert not any(home.iterdir()) and np.flatnonzero(want.facts["height"]).tolist() == rows.tolist()
    look(data, home=home)
    decoded.clear()
    assert same(look(data, rows, home=home), want) and decoded == []


def test_progress_counts_what_was_known(root: Path, home: Path) -> None:
    told: list[tuple[int, int]] = []
    data = read(root).data
    look(data, home=home)
    (root / "0/07.png").write_bytes(b"noise")
    look(data, home=home, progress=lambda done, total: told.append((done, total)))
    assert told == [(100, 100)]


@pytest.mark.parametrize("harm", ["cut", "longer", "start", "empty", "folder"])
def test_a_damaged_file_is_not_believed(root: Path, home: Path, decoded: list[str], harm: str) -> None:
    data = read(root).data
    want = look(data)
    look(data, home=home)
    kept = next(home.iterdir())
    whole = kept.read_bytes()
    kept.unlink()
    if harm == "folder":
        kept.mkdir()
    else:
        kept.write_bytes({"cut": whole[:-1], "longer": whole + b"x", "start": b"x" + whole[1:], "empty": b""}[harm])
    decoded.clear()
    with pytest.warns(ModicumWarning) if harm == "folder" else pytest.MonkeyPatch.context():
        assert same(look(data, home=home), want)
    assert set(decoded) == set(data.ids)


def test_where_nothing_can_be_kept_there_is_a_warning(root: Path, home: Path) -> None:
    data = read(root).data
    (home / "file").write_text("")
    with pytest.warns(ModicumWarning, match="so the next scan is as slow: File exists"):
        assert same(look(data, home=home / "file"), look(data))


def test_another_place_and_another_pillow_are_another_file(
    root: Path,
    home: Path,
    decoded: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look(read(root).data, home=home)
    copy = tmp_path_factory.mktemp("copy") / "x"
    shutil.copytree(root, copy)
    decoded.clear()
    look(read(copy).data, home=home)
    monkeypatch.setattr("PIL.__version__", "0")
    look(read(root).data, home=home)
    assert len(decoded) == 200 and len(list(home.iterdir())) == 3


def test_images_that_share_a_file(tmp_path: Path, home: Path, decoded: list[str], put: Put) -> None:
    """A Parquet file: when it changes, all are decoded again; part of the set is known by its names."""
    cells = [put(f"{i}.png", i).joinpath(f"{i}.png").read_bytes() for i in range(4)]
    place = tmp_path / "set"
    place.mkdir()
    pq.write_table(pa.table({"image": [{"bytes": c, "path": ""} for c in cells]}), place / "a.parquet")
    aged(tmp_path)
    data = read(place).data
    first = look(data, home=home)
    decoded.clear()
    assert same(look(data, home=home), first) and decoded == []
    some = look(data.take(np.array([3, 1])), home=home)
    assert decoded == [] and some.facts["hash"].tolist() == first.facts["hash"][[3, 1]].tolist()
    pq.write_table(pa.table({"image": [{"bytes": c, "path": ""} for c in cells[::-1]]}), place / "a.parquet")
    aged(tmp_path, 1.1e9)
    again = look(read(place).data, home=home)
    assert len(decoded) == 4 and again.facts["hash"].tolist() == first.facts["hash"][::-1].tolist()


def test_a_set_without_files_keeps_nothing(home: Path) -> None:
    data = sample("digits")
    assert not states(data).view(np.uint64).any() and len(look(data, home=home).facts) == 1797
    assert not any(home.iterdir())


def test_states_are_those_of_the_files(root: Path) -> None:
    """Witness: os.stat, image by image."""
    (root / "1/99.png").unlink()
    Image.new("L", (2, 2)).save(
        root / "z.tif", save_all=True, append_images=[Image.new("L", (3, 3)), Image.new("L", (4, 4))]
    )
    data = read(root).data
    (root / "0/09.png").unlink()
    found = states(data)
    for row, name in enumerate(data.ids):
        file, _, page = name.partition("#")
        if name == "0/09.png":
            assert found[row] == np.zeros((), found.dtype)
            continue
        s = (root / file).stat()
        want = (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns, int(page) + 1 if page else 0)
        assert found[row].tolist() == want
    late = int(found["touched"].max())
    before = found.copy()
    distrust(found, late + 3_000_000_000)
    assert (found == before).all()
    distrust(found, late)
    assert not found["inode"][before["touched"] > late - 2_000_000_000].any() and not found["inode"].all()
