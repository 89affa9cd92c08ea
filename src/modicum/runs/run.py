"""A run: a directory that owns all that it made, and its files by name.

config.json        what was asked and every choice made once: method, settings, recipe, choices, seed, data, why
environment.json   versions, machine, threads
data/ vault/       what was visible, and what was hidden
metrics.jsonl      one line each now and then: arm, phase, step, losses, seconds
arms/NAME/         one trained network each: checkpoints while it runs, then net.json and net.safetensors
net.json net.safetensors predictions.parquet evaluation.json scan.json maps.npz model.onnx export.json report.html
"""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from modicum.core.errors import RunError

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


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that it is either the old one or the new one, also after a power cut."""
    making = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with making.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        making.replace(path)
    except OSError as error:
        with suppress(OSError):
            making.unlink()
        raise RunError(
            f"cannot write: {error.strerror}", where=path, fix="Free some space, or choose another folder with --out."
        ) from None


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
            raise RunError(
                "this is not a run: it has no config.json",
                where=folder,
                fix="Give the folder that `modicum fit` or `modicum demo` wrote.",
            )
        return run

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; RunError if it is missing or damaged."""
        try:
            content = json.loads((self / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{name} is missing", where=self.folder) from None
        except (OSError, ValueError) as error:
            raise RunError(
                f"{name} is damaged: {error}", where=self.folder, fix="Restore the file, or start a new run."
            ) from None
        if not isinstance(content, dict):
            raise RunError(
                f"{name} is damaged: not an object", where=self.folder, fix="Restore the file, or start a new run."
            )
        return content

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """A JSON file of the run, whole or not at all."""
        write_whole(self / name, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return self.read("config.json")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process writes a run; a lock of a dead process on this machine is taken over.

        A folder that was made for the run and in which nothing was written is removed again.
        """
        path, new = self / ".lock", not self.folder.exists()
        _folder(self.folder)
        mine = f"{os.getpid()} {socket.gethostname()}"
        for _ in range(2):
            try:
                with path.open("x") as file:
                    file.write(mine)
                break
            except FileExistsError:
                pid, _, host = path.read_text().partition(" ")
                if host != socket.gethostname() or (pid.isdigit() and _alive(int(pid))):
                    raise RunError(
                        f"another process ({pid or '?'} on {host or '?'}) is writing this run", where=self.folder,
                        fix=f"Wait for it, choose another --out, or delete {path} if that process is gone.",
                    ) from None  # fmt: skip
                path.unlink(missing_ok=True)
            except OSError as error:
                raise RunError(
                    f"cannot write here: {error.strerror}", where=self.folder, fix="Choose another folder with --out."
                ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if new:
                with suppress(OSError):  # it holds something
                    self.folder.rmdir()


def _folder(path: Path) -> None:
    """Make a folder, or say why not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "Choose another folder with --out."
        raise RunError(f"cannot write here: {error.strerror}", where=path, fix=fix) from None


def _alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would stop the other process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=True) + "\n")

    def cut(self, arm: str, total: int) -> None:
        """Forget this arm's lines after step `total`, and a half line at the end."""
        if not self.path.exists():
            return
        kept = []
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if line.get("arm") != arm or line.get("step", 0) <= total:
                kept.append(text)
        write_whole(self.path, "".join(k + "\n" for k in kept))
