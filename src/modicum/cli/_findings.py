"""What `modicum doctor` looks at: each function yields what it found, with what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

OK, CAREFUL, WRONG = "ok", "careful", "wrong"
MEMORY = 2.0  # GiB below which a person should know; the demo takes about one
DISK = 1.0  # GiB below which a person should know; a run is some MB, its cache as large as the decoded images
EXTRAS = {
    "cluster": "train and predict on several machines", "test": "run Modicum's own tests",
    "dev": "work on Modicum itself", "imagine": "make images with language and text-to-image models",
}  # fmt: skip
"""What each extra gives."""


class Finding(NamedTuple):
    """about: what was looked at.  state: ok, careful or wrong.  text: what was found.  fix: what to do, or ''."""

    about: str
    state: str
    text: str
    fix: str = ""


def look(quick: bool) -> Iterator[Finding]:
    """All findings, the quick ones first.  quick: without what must import PyTorch."""
    checks: list[Callable[[], Iterable[Finding]]] = [
        python, packages, cores, memory, disk, cache, encoding, downloads, extras, faults,
    ]  # fmt: skip
    for check in checks if quick else [*checks, devices]:
        try:
            yield from check()
        except Exception as error:  # a doctor that falls ill helps nobody
            found = f"could not be looked at: {type(error).__name__}: {error}"
            yield Finding(check.__name__, WRONG, found, "Report it, please.")


def python() -> Iterator[Finding]:
    """The interpreter, and which Modicum it runs."""
    from importlib import metadata

    from packaging.specifiers import SpecifierSet

    import modicum

    version, wanted = sys.version.split()[0], metadata.metadata("modicum")["Requires-Python"] or ""
    fits = SpecifierSet(wanted).contains(version, prereleases=True)
    yield Finding("python", OK if fits else WRONG, f"{version} at {sys.executable}", "" if fits else f"Use {wanted}.")
    yield Finding("modicum", OK, f"{modicum.__version__} at {Path(modicum.__file__).parent}")


def packages() -> Iterator[Finding]:
    """Each package that Modicum needs, and those that they need, by what is installed: nothing is imported."""
    from packaging.requirements import Requirement

    tried, here, todo, known = _tried(), [], [("modicum", Requirement("modicum"))], set()
    for by, need in todo:
        version = _version(need.name)
        if not version or not need.specifier.contains(version, prereleases=True):
            wanted, there = f"{need.name}{need.specifier}", version or "not installed"
            fix = f"{sys.executable} -m pip install '{wanted}'"
            yield Finding("packages", WRONG, f"{by} needs {wanted}: {need.name} is {there}", fix)
        elif by == "modicum" and need.name != "modicum":
            other = tried.get(need.name.lower(), version)
            here.append(f"{need.name} {version}" + (f" (tried with {other})" if _base(version) != other else ""))
        if version and need.name not in known:
            known.add(need.name)
            todo += [(need.name, r) for r in _needs(need.name)]
    yield Finding("packages", OK, ", ".join(here))


def cores() -> Iterator[Finding]:
    """Cores that may be used, and how many threads libraries were told to take."""
    from modicum.runs.machine import cores

    found = cores()
    less = [f"{found.allowed} allowed"] if found.allowed < found.there else []
    less += [f"{found.quota:g} by the control group"] if found.quota is not None else []
    text = f"{found.usable} usable of {found.there}" + (f" ({', '.join(less)})" if less else "")
    asked = {k: os.environ[k] for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if os.environ.get(k)}
    text += "".join(f", {k}={v}" for k, v in asked.items())
    most = max((int(v) for v in asked.values() if v.isdecimal()), default=0 if asked else found.allowed)
    fix = f"Set OMP_NUM_THREADS={found.usable}: more threads than cores wait for each other."
    yield Finding("cores", CAREFUL, text, fix) if most > found.usable else Finding("cores", OK, text)


def memory() -> Iterator[Finding]:
    """Memory that may be used."""
    from modicum.runs.machine import memory

    found = memory()
    if found.free is None:
        there = f"{found.there / 2**30:.1f} GiB" if found.there else "not known here"
        yield Finding("memory", OK, there)
        return
    text = f"{found.free / 2**30:.1f} GiB free" + (f" of {found.there / 2**30:.1f}" if found.there else "")
    text += f", at most {found.limit / 2**30:.1f} by the control group" if found.limit else ""
    small = found.free < MEMORY * 2**30
    fix = "Close other programs, or give the container more: a job that runs out is killed without a word."
    yield Finding("memory", CAREFUL if small else OK, text, fix if small else "")


def disk() -> Iterator[Finding]:
    """Room, and the right to write, where runs and caches go."""
    from modicum.core.places import cache_home

    for what, folder in (("here", Path.cwd()), ("for the cache", cache_home())):
        there = _existing(folder)
        free = shutil.disk_usage(there).free / 2**30
        if not _writable(there):
            fix = "Set MODICUM_CACHE to another folder." if what != "here" else "Go elsewhere, or use --out."
            yield Finding("disk", WRONG if what != "here" else CAREFUL, f"{there} ({what}) cannot be written", fix)
        elif free < DISK:
            fix = "Free some space: a full disk stops a run (the same command resumes it)."
            yield Finding("disk", CAREFUL, f"{free:.1f} GiB free {what}", fix)
        else:
            yield Finding("disk", OK, f"{free:.1f} GiB free {what}")


def cache() -> Iterator[Finding]:
    """Where decoded images are kept, how much there is, and how to be rid of it."""
    from modicum.core.places import cache_home

    home = cache_home()
    sizes = [f.stat().st_size for f in home.rglob("*") if f.is_file()] if home.is_dir() else []
    text = f"{sum(sizes) / 1e6:,.1f} MB of decoded images in {home}" if sizes else f"nothing yet in {home}"
    yield Finding("cache", OK, text + ("; delete that folder to clear it, it is built again" if sizes else ""))


def encoding() -> Iterator[Finding]:
    """Whether names in all scripts can be read and shown."""
    shown, names = (getattr(sys.stdout, "encoding", None) or "none").lower(), sys.getfilesystemencoding().lower()
    text = f"output {shown}, file names {names}"
    fix = "Set PYTHONUTF8=1 (or LANG=C.UTF-8): until then letters beyond it are shown as \\xe9."
    good = shown.replace("-", "") == names.replace("-", "") == "utf8"
    yield Finding("encoding", OK, text) if good else Finding("encoding", CAREFUL, text, fix)


def downloads() -> Iterator[Finding]:
    """Whether anything would be fetched."""
    off = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    home = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"
    text = (
        "never: HF_HUB_OFFLINE is set" if off
        else f"only by --pretrained: from huggingface.co into {home}; HF_HUB_OFFLINE=1 forbids it"
    )  # fmt: skip
    yield Finding("downloads", OK, text)


def extras() -> Iterator[Finding]:
    """Optional parts, and what they would give."""
    from importlib import metadata

    for extra in metadata.metadata("modicum").get_all("Provides-Extra") or []:
        missing = [r.name for r in _needs("modicum", extra) if not _version(r.name)]
        if missing:
            gives = f" (to {EXTRAS[extra]})" if extra in EXTRAS else ""
            fix = f"{sys.executable} -m pip install 'modicum[{extra}]'"
            yield Finding("extras", OK, f"[{extra}]{gives} lacks {', '.join(missing)}", fix)


def faults() -> Iterator[Finding]:
    """Tracebacks that were saved for a report."""
    from modicum.core.places import state_home

    kept = sorted(state_home().glob("fault-*.txt"), key=lambda f: f.stat().st_mtime)
    if kept:
        yield Finding("faults", OK, f"{len(kept)} saved, the last in {kept[-1]}", "Report it, then delete the file.")


def devices() -> Iterator[Finding]:
    """What PyTorch finds, and whether bf16 is fast here; the import takes seconds."""
    begun = time.perf_counter()
    try:
        import torch
    except Exception as error:  # a broken library raises what it likes
        why = " ".join(str(error).split())[:200]
        fix = f"{sys.executable} -m pip install --force-reinstall torch torchvision"
        yield Finding("torch", WRONG, f"cannot be imported: {type(error).__name__}: {why}", fix)
        return
    took = time.perf_counter() - begun
    text = f"{torch.__version__} imported in {took:.1f} s, {torch.get_num_threads()} threads"
    yield Finding("torch", OK, f"{text}; bf16 products take {_bf16():.2f} of the time of 32-bit ones on the processor")
    for i in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(i)
        half = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        yield Finding("devices", OK, f"cuda:{i} {of.name}, {of.total_memory / 2**30:.0f} GiB, {half}")
    if torch.backends.mps.is_available():
        yield Finding("devices", OK, "mps: the Apple GPU")
    elif not torch.cuda.device_count():
        yield _without(torch.version.cuda)


def _without(built: str | None) -> Finding:
    """No GPU that torch can use: whether there is one all the same."""
    if not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()):
        return Finding("devices", OK, "no GPU: small networks on small images train in minutes on the processor")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if built is None:
        return Finding("devices", CAREFUL, "an NVIDIA driver, but a torch without CUDA", "Install one built for CUDA.")
    why = f"CUDA_VISIBLE_DEVICES={hidden}" if hidden is not None else f"the driver may be too old for CUDA {built}"
    return Finding("devices", CAREFUL, f"an NVIDIA driver, but no GPU that torch can use: {why}", "See nvidia-smi.")


def _bf16(side: int = 384, times: int = 5) -> float:
    """Time of a bf16 product of two matrices by that of a 32-bit one: the best of some."""
    import torch

    best = []
    for kind in (torch.bfloat16, torch.float32):
        a, took = torch.ones(side, side, dtype=kind), []
        for _ in range(times):
            begun = time.perf_counter()
            a @ a
            took.append(time.perf_counter() - begun)
        best.append(min(took))
    return best[0] / best[1]


def _needs(name: str, extra: str = "") -> list[Any]:
    """Requirements of an installed package that hold on this machine; of one extra, those that it adds."""
    from importlib import metadata

    from packaging.requirements import Requirement

    found = [Requirement(text) for text in metadata.requires(name) or []]
    plain = [r for r in found if not r.marker or r.marker.evaluate({"extra": ""})]
    return [r for r in found if r not in plain and r.marker and r.marker.evaluate({"extra": extra})] if extra else plain


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _base(version: str) -> str:
    """Without what names a build: 2.15.0+cpu is 2.15.0."""
    return version.partition("+")[0]


def _tried() -> dict[str, str]:
    """The versions that all was tried with: constraints.txt, which is shipped beside the code."""
    import modicum

    home = Path(modicum.__file__).parent
    for file in (home / "constraints.txt", home.parents[1] / "constraints.txt"):
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            return {n.lower(): v for n, sign, v in (line.partition("==") for line in lines) if sign}
    return {}


def _existing(folder: Path) -> Path:
    return next(f for f in (folder.absolute(), *folder.absolute().parents) if f.exists())


def _writable(folder: Path) -> bool:
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
