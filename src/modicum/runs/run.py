"""A run: a directory that owns all that it made, and its files by name.

config.json        what was asked and every choice made once: method, settings, recipe, choices, seed, data, why
environment.json   versions, machine, threads
data/ vault/       what was visible, and what was hidden
metrics.jsonl      one line each now and then: arm, phase, step, losses, seconds
arms/NAME/         one trained network each: checkpoints while it runs, then net.json and net.safetensors
net.json net.safetensors predictions.parquet evaluation.json scan.json maps.npz maps.json model.onnx export.json
report.html
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from modicum.core import form
from modicum.core.disk import sweep, sync, whole
from modicum.core.errors import RunError, SettingsError
from modicum.core.recipe import Recipe
from modicum.core.space import writing
from modicum.runs.forms import FORMATS, FORMS
from modicum.runs.lock import holder, lock, told

_PACKAGES = (
    "modicum",
    "torch",
    "torchvision",
    "timm",
    "lightning-fabric",
    "numpy",
    "pillow",
    "pyarrow",
    "onnxruntime",
    "scikit-learn",
)


_RESTORE = "Restore the file, or start a new run with another --out."


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that it is either the old one or the new one, also after a power cut; RunError says why not."""
    raw = content.encode() if isinstance(content, str) else content
    with writing(path, needed=len(raw)), whole(path) as making:
        making.write_bytes(raw)


class Run:
    """A run directory, new or old."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @staticmethod
    def open(folder: str | Path) -> Run:
        """An existing run; RunError if the folder holds none."""
        run = Run(folder)
        if not (run / "config.json").is_file():
            run.refuse_held()
            raise RunError(
                "this is not a run: it has no config.json",
                where=folder,
                fix="Give the folder that `modicum fit` or `modicum demo` wrote.",
            )
        return run

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; RunError if it is missing, damaged, of another form, or a newer Modicum's."""
        wanted, most = FORMS.get(name, {str: object}), 64 * 2**20
        found = form.load(self / name, wanted, RunError, _RESTORE, format=FORMATS.get(name, 0), most=most)
        return dict(found)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """A JSON file of the run, whole or not at all."""
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        if wrong := form.misfit(json.loads(text), FORMS.get(name, {str: object})):
            raise ValueError(f"{name}: {wrong}")
        write_whole(self / name, text.encode("utf-8", "backslashreplace"))

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        found = self.read("config.json")
        try:
            Recipe.of(found["recipe"], where="recipe")
        except SettingsError as error:
            wrong = f"config.json is damaged: {error.where}: {error.found}"
            raise RunError(wrong, where=self.folder, fix=_RESTORE) from None
        return found

    @property
    def kept(self) -> str:
        """The arm that is shipped: the method, or the twin that was better than it on unseen labels."""
        return str(self.read("keep.json")["kept"])

    @property
    def finished(self) -> bool:
        """Whether `fit` came to its end: the page is there, and not by `modicum report` alone."""
        page, stages = self / "report.html", self / "seconds.json"
        return page.is_file() and stages.is_file() and "report" in self.read("seconds.json")

    def refuse_held(self) -> None:
        """RunError if another process is writing this run, with who, since when, and how far it is."""
        if who := holder(self.folder):
            fix = "Wait until it has ended.  `tail metrics.jsonl` in that folder shows how it goes."
            raise RunError(f"this run is not finished: {told(who)} is at work on it", where=self.folder, fix=fix)

    def own(self) -> None:
        """RunError where a link lies in the folder: a run writes into its own folder alone."""
        for folder, folders, files in os.walk(self.folder):
            for path in (Path(folder, name) for name in (*folders, *files)):
                if path.is_symlink():
                    fix = "Put what it points to in its place: a run writes into its own folder alone."
                    raise RunError(f"{path.relative_to(self.folder)} is a link", where=self.folder, fix=fix)

    @contextmanager
    def lock(self) -> Iterator[dict[str, Any]]:
        """Only one process writes a run (runs/lock.py).  What killed writers left half made is removed.

        -> who held it and ended without a word, {} if nobody did.
        """
        self.own()
        with lock(self.folder) as before:
            for folder in (self.folder, *self.folder.glob("arms/*"), *self.folder.glob("arms/*/checkpoints")):
                sweep(folder)
            yield before


def environment() -> dict[str, Any]:
    """Versions and the machine, for environment.json."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "missing"
    return {
        "python": platform.python_version(), "system": platform.platform(), "processor": processor(),
        "cores": os.cpu_count(), "packages": versions, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }  # fmt: skip


def processor() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Metrics:
    """metrics.jsonl: appended to, and cut back to a checkpoint's step on resume."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=True) + "\n")

    def sync(self) -> None:
        """What was added is on the disk before a checkpoint that counts on it."""
        with writing(self.path):
            if self.path.exists():
                sync(self.path)

    def last(self, arm: str, name: str) -> float | None:
        """The last value of a term in an arm; None where it has none."""
        found = [line[name] for _, line in self._lines() if line["arm"] == arm and name in line]
        return float(found[-1]) if found and isinstance(found[-1], int | float) else None

    def cut(self, arm: str, total: int) -> None:
        """Forget this arm's lines after step `total`, and a half line at the end."""
        if self.path.exists():
            kept = [text for text, line in self._lines() if line["arm"] != arm or line["step"] <= total]
            write_whole(self.path, "".join(k + "\n" for k in kept))

    def _lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Whole lines, as text and as values; what a kill or a hand left half is passed over."""
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        for one in text.splitlines():
            try:
                line = json.loads(one)
            except (ValueError, RecursionError):
                continue
            if not form.misfit(line, {"arm": str, "step": int, ...: object}):
                yield one, line
