"""Look at this machine: versions, devices, memory, and what is missing."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Look at this machine: versions, devices, memory, and what is missing."""
    import sys

    wrong = _packages()
    typer.echo(f"python {sys.version.split()[0]} at {sys.executable}")
    _machine()
    typer.echo("asking torch what it can do (a few seconds) ...")
    _torch()
    if wrong:
        typer.echo("\nto mend it:\n  " + f"{sys.executable} -m pip install " + " ".join(f"'{w}'" for w in wrong))
        raise typer.Exit(1)
    typer.echo("\nall that Modicum needs is here")


def _packages() -> list[str]:
    """Print each dependency with its version; returns the requirements that are not met."""
    from importlib import metadata

    from packaging.requirements import Requirement

    wrong, rows = [], []
    for text in metadata.requires("modicum") or []:
        need = Requirement(text)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            version = ""
        fits = bool(version) and need.specifier.contains(version, prereleases=True)
        rows.append((need.name, version or "missing", str(need.specifier), "" if fits else "  <- does not fit"))
        if not fits:
            wrong.append(f"{need.name}{need.specifier}")
    for name, version, wanted, note in rows:
        typer.echo(f"{name:18} {version:14} {wanted}{note}")
    return wrong


def _machine() -> None:
    import os
    import platform
    import shutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    typer.echo(
        f"{platform.system()} {platform.machine()}, {cores} cores, {os.environ.get('OMP_NUM_THREADS', 'any')} threads"
    )
    typer.echo(f"memory {_memory()}, disk {shutil.disk_usage('.').free / 2**30:.0f} GB free here")


def _memory() -> str:
    from pathlib import Path

    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    except OSError:
        return "not known"
    total, free = (int(lines[k].split()[0]) / 2**20 for k in ("MemTotal", "MemAvailable"))
    return f"{free:.1f} of {total:.1f} GB free"


def _torch() -> None:
    try:
        import torch
    except ImportError as error:
        typer.echo(f"torch cannot be imported: {error}")
        return
    typer.echo(f"torch {torch.__version__}: {torch.get_num_threads()} threads, bf16 on the processor: {_bf16()}")
    for i in range(torch.cuda.device_count()):
        props = torch.cuda.get_device_properties(i)
        typer.echo(
            f"cuda:{i} {props.name}, {props.total_memory / 2**30:.0f} GB, bf16: {torch.cuda.is_bf16_supported()}"
        )
    if torch.backends.mps.is_available():
        typer.echo("mps: Apple GPU")
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        typer.echo("no GPU: small networks on small images train in minutes on the processor")


def _bf16() -> str:
    """Whether the processor multiplies bf16 matrices itself: without that, bf16 is slower than float32."""
    import torch

    has = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return "yes" if has else "no"
