"""`python -m benchmarks.kills`: SIGKILL at random moments, the same command again, and in the end the same bits.

A tiny job (digits as PNG files, FixMatch and two twins, a checkpoint every few steps) is killed while it trains, while
it builds the pixel cache, and while it writes a checkpoint.  Each life takes up what the last one left.  When a life
reaches the end, every file that is a function of the seed is compared with those of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

QUICK = {
    "labels": 2, "steps": 40, "twins": "steps", "precision": "32", "batch": 8, "checkpoint": 0.02, "export": False,
    "side": 16,
}  # fmt: skip
WINDOWS = {"training": "", "cache": "cache/.making-*", "checkpoint": "arms/*/checkpoints/.at-*.tmp"}
PRELOADED = (
    "modicum.engine.fit", "modicum.report.page", "modicum.nn.capture", "modicum.data.formats.folders", "jinja2",
    "lightning_fabric", "pyarrow.parquet", "timm", "PIL.PngImagePlugin",
)  # fmt: skip


class Life(NamedTuple):
    """How a process ended: killed by us, or with an exit code; and how long it lived, in seconds."""

    killed: bool
    code: int
    seconds: float


def images(folder: Path, count: int = 1200) -> Path:
    """Digits as PNG files of 16 px in class folders."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for i, (array, cls) in enumerate(zip(found.images[:count], found.target[:count], strict=True)):
        place = folder / str(cls) / f"{i:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((array * 15).astype("uint8")).resize((16, 16)).save(place)
    return folder


def preload() -> None:
    """Import what a job needs, so that a forked life begins at once."""
    for name in PRELOADED:
        importlib.import_module(name)


def begin(work: Callable[[], Any], log: Path) -> int:
    """Do some work in a forked process, whose words and faults go to a file; -> its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int | None:
    """The exit status of a process, or None while it lives."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return None if not found else os.waitstatus_to_exitcode(status)


def job(data: Path | str, folder: Path, cache: Path, **asked: Any) -> Callable[[], Any]:
    """The work of one life."""

    def work() -> None:
        from modicum.engine.fit import fit

        os.environ["MODICUM_CACHE"] = str(cache)
        fit(data, folder, **{**QUICK, **asked})

    return work


def killed(work: Callable[[], Any], log: Path, home: Path, window: str, luck: random.Random, whole: float) -> Life:
    """Begin, and kill at a random moment: of the whole life, or of a window that files below `home` show.

    window: a pattern of files that exist while it is open; the kill falls up to 20 ms after its opening.
    """
    pid, begun = begin(work, log), time.monotonic()
    wait, skip = luck.uniform(0, whole), luck.randrange(12)  # of whole lives, and of checkpoints to let pass
    seen = False
    while (code := ended(pid)) is None:
        now = any(True for _ in home.glob(window)) if window else time.monotonic() - begun > wait
        if now and not seen and (not window or skip == 0 or window.startswith("cache")):
            time.sleep(luck.uniform(0, 0.02) if window else 0)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return Life(True, -9, time.monotonic() - begun)
        skip -= int(now and not seen)
        seen = now
        time.sleep(0.0005)
    return Life(False, code, time.monotonic() - begun)


def bits(folder: Path) -> dict[str, str]:
    """Name -> digest of everything in a run that is a function of the seed; whatever should not be there has 'left'."""
    out = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".tmp" or "checkpoints" in name or name == ".lock":
            out[name] = "left"
        elif name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            content = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
            out[name] = _digest(json.dumps(sorted(content, key=lambda x: (x["arm"], x["step"]))).encode())
        elif name == "evaluation.json":
            found = json.loads(path.read_text())
            out[name] = _digest(json.dumps({k: v for k, v in found.items() if k != "vault"}).encode())
        elif name == "config.json":  # its reasons tell what was timed
            found = json.loads(path.read_text())
            out[name] = _digest(json.dumps({k: v for k, v in found.items() if k != "why"}).encode())
        elif path.suffix in (".safetensors", ".parquet", ".npz") or path.name in ("scan.json", "net.json"):
            out[name] = _digest(path.read_bytes())
    return out


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def main() -> int:
    """Kill, count, print; the exit code is 0 only if every killed run ended with the same bits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="modicum-kills-"))
    try:
        return campaign(home, asked.kills, asked.seed)
    finally:
        if asked.keep:
            print(f"left in {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def campaign(home: Path, kills: int, seed: int) -> int:
    """The kills, one run after the other; -> exit code."""
    begun, luck = time.monotonic(), random.Random(seed)
    preload()
    data, cache, log = images(home / "images"), home / "cache", home / "log.txt"
    pid, since = begin(job(data, home / "whole", cache), log), time.monotonic()
    os.waitpid(pid, 0)
    whole, truth = time.monotonic() - since, bits(home / "whole")
    print(f"a run that nobody kills takes {whole:.1f} s and leaves {len(truth)} files to compare", flush=True)
    counted, good, bad, chain = dict.fromkeys(WINDOWS, 0), 0, 0, 0
    number = 0
    while good + bad + chain < kills or chain:
        fewest = sorted(counted, key=lambda k: (counted[k], luck.random()))[0]
        kind = fewest if good + bad + chain < kills else ""
        folder = home / f"run{number}"
        if kind == "cache":
            shutil.rmtree(cache, ignore_errors=True)
        window = WINDOWS.get(kind, "")
        place = home if kind == "cache" else folder
        life = killed(job(data, folder, cache), log, place, window, luck, 0.7 * whole if kind else 1e9)
        if life.killed:
            counted[kind], chain = counted[kind] + 1, chain + 1
            continue
        same = life.code == 0 and bits(folder) == truth
        if not same:
            print(f"run{number}, killed {chain} times: exit code {life.code}, other bits in {_other(folder, truth)}")
        good, bad, chain, number = good + chain * same, bad + chain * (not same), 0, number + 1
        if same:
            shutil.rmtree(folder)
    kinds = ", ".join(f"{n} while {'writing a ' if k == 'checkpoint' else ''}{k}" for k, n in counted.items())
    print(f"{good} of {good + bad} kills ended in the same bits ({kinds}; {number} runs, seed {seed})")
    print(f"{time.monotonic() - begun:.0f} s")
    if bad:
        print(log.read_text()[-4000:])
    return int(bad > 0 or good < kills)


def _other(folder: Path, truth: dict[str, str]) -> list[str]:
    found = bits(folder) if folder.is_dir() else {}
    return sorted(n for n in {*found, *truth} if found.get(n) != truth.get(n))


if __name__ == "__main__":
    sys.exit(main())
