"""Disks that are full, read-only or broken, folders that vanish, images that change, clocks that jump, two Ctrl-C.

The same in every case: one error that names the place and what to do, nothing damaged, and the same command afterwards
goes on to the same bits.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.kills import bits, images
from PIL import Image

from modicum.core import disk, space
from modicum.core.errors import DataError, MachineError, ModicumError, RunError
from modicum.deploy.predict import predict
from modicum.engine import verbs
from modicum.engine.fit import Listener, fit
from modicum.engine.room import held
from modicum.runs.run import Run

QUICK: dict[str, Any] = {
    "labels": 2, "steps": 6, "twins": "none", "precision": "32", "batch": 8, "checkpoint": 0.0, "export": False,
    "side": 16,
}  # fmt: skip
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return images(tmp_path_factory.mktemp("data") / "images", 240)


@pytest.fixture(scope="module")
def truth(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run that nothing befell leaves."""
    home = tmp_path_factory.mktemp("truth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODICUM_CACHE", str(home / "cache"))
        return bits(fit(data, home / "run", **QUICK).folder)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pixel cache of each test's own."""
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class At(Listener):
    """Does something when a step of an arm was taken."""

    def __init__(self, step: int, do: Callable[[], Any]) -> None:
        self.step, self.do, self.said = step, do, [""]

    def say(self, text: str) -> None:
        self.said.append(text)

    def tick(self, arm: str, done: int, total: int, values: object) -> None:
        if done == self.step:
            self.do()


# -- what the system refuses -------------------------------------------------------------------------------------------

CODES = {
    errno.ENOSPC: "No space left on device (", errno.EDQUOT: "Disk quota exceeded (", errno.EIO: "Input/output error",
    errno.EROFS: "Read-only file system", errno.EACCES: "Permission denied",
}  # fmt: skip
STAGES = (
    "pixels-*", "scan.json", "data", "config.json", "at-0000-000000003", "metrics.jsonl", "net.safetensors",
    "predictions.parquet", "evaluation.json", "maps.npz", "report.html",
)  # fmt: skip


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.__getitem__)
def test_every_stage_says_what_the_disk_refused_and_is_taken_up(
    data: Path, truth: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The system refuses to give a file its name, once for each stage, on one run after the other."""
    real = {name: getattr(Path, name) for name in ("replace", "rename", "open")}

    for stage in STAGES:

        def refusing(name: str, stage: str = stage) -> Callable[..., Any]:
            def call(self: Path, *given: Any, **more: Any) -> Any:
                target = self if name == "open" else Path(given[0])
                if target.match(stage) and (name != "open" or str(given[:1]) == "('a',)"):
                    raise OSError(code, os.strerror(code), str(self))
                return real[name](self, *given, **more)

            return call

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(Path, name, refusing(name))
            with pytest.raises(ModicumError) as refused:
                fit(data, tmp_path / "run", **QUICK)
        assert isinstance(refused.value, MachineError if stage == "pixels-*" else RunError), stage
        assert CODES[code] in refused.value.found and refused.value.fix, stage
        assert str(tmp_path) in refused.value.where
    assert bits(fit(data, tmp_path / "run", **QUICK).folder) == truth


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a disk of so many bytes, where one may."""
    made: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / f"disk-{size}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        if not ROOT or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no disk can be mounted here")
        made.append(place)
        return place

    yield mount
    for place in made:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_really_fills_up(
    data: Path, truth: dict[str, str], small: Callable[[str], Path], cache: Path
) -> None:
    """Filled at each step in turn, and then in the end: what was written stays, and with space it goes on."""
    place = small("16m")
    filler = place / "filler"

    def fill() -> None:
        with filler.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))

    for step in (1, 3, 6):
        with pytest.raises(RunError, match=r"No space left on device \(.* free") as refused:
            fit(data, place / "run", At(step, fill), **QUICK)
        assert "goes on where it stopped" in refused.value.fix and str(place) in refused.value.where
        filler.unlink()
    assert bits(fit(data, place / "run", **QUICK).folder) == truth


def test_too_little_room_is_said_before_training(
    data: Path, truth: dict[str, str], small: Callable[[str], Path]
) -> None:
    place = small("3m")
    with pytest.raises(RunError, match=r"the run needs about \d\.\d MB here, and .* are free"):
        fit(data, place / "run", At(1, lambda: pytest.fail("it trained")), **QUICK)
    subprocess.run(["mount", "-o", "remount,size=32m", str(place)], check=True)
    assert bits(fit(data, place / "run", **QUICK).folder) == truth


def test_too_little_room_for_the_cache_is_said_before_it_is_built(
    data: Path, truth: dict[str, str], small: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = small("100k")
    monkeypatch.setenv("MODICUM_CACHE", str(place / "cache"))
    with pytest.raises(MachineError, match=r"the pixel cache needs about .* here, and .* are free\n.*MODICUM_CACHE"):
        fit(data, tmp_path / "run", **QUICK)
    assert not held(place / "cache"), "nothing half made is left"
    subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
    assert bits(fit(data, tmp_path / "run", **QUICK).folder) == truth


def test_a_read_only_disk_is_named(data: Path, small: Callable[[str], Path], cache: Path) -> None:
    place = small("16m")
    fit(data, place / "run", **QUICK)
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    with pytest.raises(RunError, match="Read-only file system\nChoose another folder"):
        fit(data, place / "other", **QUICK)
    with pytest.raises(RunError, match="Read-only file system"):
        verbs.report(place / "run")
    assert verbs.evaluate(place / "run")["test"]["images"] > 0, "reading needs no right to write"


def test_a_limit_on_the_size_of_files_is_said(data: Path, truth: dict[str, str], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in (10_000, 200_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(ModicumError, match=r"File too large\nFiles may not be this large here"):
                fit(data, tmp_path / "run", **QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert bits(fit(data, tmp_path / "run", **QUICK).folder) == truth


def test_bytes_in_words() -> None:
    words = {0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 123_456: "123 kB", 2.5e9: "2.5 GB", 3e15: "3000.0 TB"}
    assert {n: space.size(n) for n in words} == words


def test_numbers_are_found_in_what_libraries_say() -> None:
    assert space.code_of(RuntimeError("I/O error: No space left on device (os error 28)")) == errno.ENOSPC
    assert space.code_of(OSError("1000000 requested and 6234 written")) == 0
    told = space.refused(OSError("1000000 requested and 6234 written"), Path("/"), "the maps", needed=8_000_000)
    assert "cannot write the maps" in told.found and "8.0 MB needed" in told.found and "Free some space" in told.fix


# -- folders and images that change meanwhile --------------------------------------------------------------------------


def test_a_run_that_is_removed_while_it_trains_does_not_come_back_in_part(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file or directory\nThe folder was removed"):
        fit(data, tmp_path / "run", At(3, lambda: shutil.rmtree(tmp_path / "run")), **QUICK)
    assert not (tmp_path / "run").exists()


def stopped(data: Path, run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(data, run, At(3, lambda: signal.raise_signal(signal.SIGINT)), **QUICK)


def test_images_removed_after_the_scan_are_not_missed_and_said(
    truth: dict[str, str], data: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(data, tmp_path / "images"))
    stopped(mine, tmp_path / "run")
    names = sorted(p.relative_to(mine).as_posix() for p in mine.rglob("*.png"))
    shutil.rmtree(mine)
    listen = At(0, lambda: None)
    run = fit(mine, tmp_path / "run", listen, **QUICK)
    weights = [n for n in truth if n.endswith("net.safetensors")]
    assert weights and all(bits(run.folder)[n] == truth[n] for n in weights)
    assert any(f"240 images were removed ({', '.join(names[:5])}, ...)" in text for text in listen.said)


def test_an_image_edited_after_the_scan_is_said_and_trained_on_as_it_was(
    truth: dict[str, str], data: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(data, tmp_path / "images"))
    stopped(mine, tmp_path / "run")
    first, second = sorted(mine.rglob("*.png"))[:2]
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(first)
    second.touch()
    listen = At(0, lambda: None)
    run = fit(mine, tmp_path / "run", listen, **QUICK)
    name = first.relative_to(mine).as_posix()
    assert any(f"Since this run began 1 image was changed ({name}).  It goes on" in text for text in listen.said)
    assert bits(run.folder)["net.safetensors"] == truth["net.safetensors"]


def test_without_the_cache_changed_and_removed_images_are_refused_by_name(
    truth: dict[str, str], data: Path, tmp_path: Path, cache: Path
) -> None:
    mine = Path(shutil.copytree(data, tmp_path / "images"))
    stopped(mine, tmp_path / "run")
    first = sorted(mine.rglob("*.png"))[0]
    before = first.read_bytes()
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(first)
    shutil.rmtree(cache)
    with pytest.raises(DataError, match=f"1 image was changed since .* no cache: {first.relative_to(mine)}\nPut back"):
        fit(mine, tmp_path / "run", **QUICK)
    mine.rename(tmp_path / "elsewhere")
    shutil.rmtree(cache)
    with pytest.raises(DataError, match="images: the images of this run are gone"):
        fit(mine, tmp_path / "run", **QUICK)
    (tmp_path / "elsewhere").rename(mine)
    first.write_bytes(before)
    run = fit(mine, tmp_path / "run", **QUICK)
    assert bits(run.folder)["net.safetensors"] == truth["net.safetensors"]


# -- clocks ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_by_years_changes_nothing(
    data: Path, truth: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    luck, moments = random.Random(0), []

    def jumping() -> float:
        moments.append(luck.uniform(0, 4e9))
        return moments[-1]

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    for step in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            fit(data, tmp_path / "run", At(step, lambda: signal.raise_signal(signal.SIGINT)), **QUICK)
    run = fit(data, tmp_path / "run", **QUICK)
    assert bits(run.folder) == truth
    assert all(0 <= s < 600 for s in run.read("seconds.json").values())


def test_minutes_are_not_counted_by_the_clock_on_the_wall(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 * (next(jumps) % 2))
    run = fit(data, tmp_path / "run", **{**QUICK, "steps": 0, "minutes": 0.001, "checkpoint": 10.0})
    assert 50 <= run.config["arms"][0]["steps"] < 1000


# -- stopping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 6])
def test_a_signal_is_saved_at_the_next_step(
    data: Path, truth: dict[str, str], tmp_path: Path, number: int, step: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(data, tmp_path / "run", At(step, lambda: signal.raise_signal(number)), **{**QUICK, "checkpoint": 1e3})
    saved = [p.name for p in (tmp_path / "run" / "arms" / "fixmatch" / "checkpoints").iterdir()]
    assert saved == [f"at-0000-{step:09d}"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    run = fit(data, tmp_path / "run", **{**QUICK, "checkpoint": 1e3})
    assert {k: v for k, v in bits(run.folder).items() if k != "config.json"} == {
        k: v for k, v in truth.items() if k != "config.json"
    }


def test_a_second_one_stops_at_once_and_damages_nothing(
    data: Path, truth: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both come while a checkpoint is written: the one before it stays."""
    sync, calls = disk.sync, []

    def twice(path: Path) -> None:
        calls.append(path)
        if "at-0000-000000004" in str(path):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        sync(path)

    monkeypatch.setattr(disk, "sync", twice)
    with pytest.raises(KeyboardInterrupt):
        fit(data, tmp_path / "run", **QUICK)
    assert sum("at-0000-000000004" in str(p) for p in calls) == 1, "it did not begin to save again"
    monkeypatch.undo()
    home = tmp_path / "run" / "arms" / "fixmatch" / "checkpoints"
    assert sorted(p.name for p in home.iterdir()) == ["at-0000-000000002", "at-0000-000000003"]
    monkeypatch.setenv("MODICUM_CACHE", str(tmp_path / "cache"))
    assert bits(fit(data, tmp_path / "run", **QUICK).folder) == truth


# -- others who look on ------------------------------------------------------------------------------------------------


def test_a_run_that_trains_is_said_to_train(data: Path, tmp_path: Path) -> None:
    answers: list[str] = []

    def look() -> None:
        for ask in (lambda: verbs.report(tmp_path / "run"), lambda: list(predict(tmp_path / "run", [data]))):
            with pytest.raises(RunError) as refused:
                ask()
            answers.append(str(refused.value))

    fit(data, tmp_path / "run", At(3, look), **QUICK)
    assert len(answers) == 2
    for text in answers:
        assert f"this run is not finished: process {os.getpid()} on" in text and "since 20" in text


def test_the_page_of_a_run_that_was_killed_before_it_was_measured_does_not_end_it(
    data: Path, truth: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modicum.engine import finish

    with monkeypatch.context() as patch:
        stopped = replace(finish.TASKS["class"], measure=lambda *given: signal.raise_signal(signal.SIGINT))
        patch.setitem(finish.TASKS, "class", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(data, tmp_path / "run", **QUICK)
    verbs.report(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists() and not Run(tmp_path / "run").finished
    assert bits(fit(data, tmp_path / "run", **QUICK).folder) == truth


def test_two_runs_of_one_set_share_its_cache(data: Path, truth: dict[str, str], tmp_path: Path) -> None:
    code = "import sys; from modicum.engine.fit import fit; fit(sys.argv[1], sys.argv[2], **eval(sys.argv[3]))"
    runs = [tmp_path / "one", tmp_path / "two"]
    jobs = [subprocess.Popen([sys.executable, "-c", code, str(data), str(run), repr(QUICK)]) for run in runs]
    assert [job.wait() for job in jobs] == [0, 0]
    assert all(bits(run) == truth for run in runs)
    assert len([p for p in (tmp_path / "cache").iterdir() if p.name.startswith("pixels-")]) == 1
