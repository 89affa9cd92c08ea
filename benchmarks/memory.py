"""`python -m benchmarks.memory`: the memory of fit and predict does not grow with the images (Linux only).

Peak anonymous memory (RssAnon of /proc/PID/status: what a process keeps for itself, without files mapped into memory),
read every 5 ms by this process, for 10,000 and for 60,000 images in class folders, and their ratio.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = (10_000, 60_000)
FIT = """
import sys
from modicum.engine.fit import Listener, fit
class Words(Listener):
    def say(self, text): print(text, flush=True)
fit(sys.argv[1], sys.argv[2], Words(), labels=int(sys.argv[3]), steps=30, twins="steps", precision="32", batch=16,
    export=sys.argv[4] == "export")
"""
PREDICT = "from modicum.cli import main; import sys; sys.exit(main(['predict', *sys.argv[1:]]))"


def images(folder: Path, count: int, side: int) -> Path:
    """`count` images in ten class folders: grey PNG below 64 px a side, colour JPEG from there on."""
    from PIL import Image

    rng = np.random.default_rng(side)
    colours = 1 if side < 64 else 3
    base = rng.integers(0, 255, (10, 4, 4, colours)).astype(np.uint8)
    for i in range(count):
        noisy = np.clip(base[i % 10] + rng.normal(0, 20, base[0].shape), 0, 255).astype(np.uint8)
        place = folder / f"class-{i % 10}" / f"image-{i:06d}.{'png' if colours == 1 else 'jpg'}"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.squeeze()).resize((side, side)).save(place)
    return folder


def peak(command: list[str], environment: dict[str, str], log: Path) -> float:
    """MB of RssAnon at most, while a command ran; a command that fails raises."""
    with log.open("a") as file:
        child = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    most = 0
    while child.poll() is None:
        try:
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            most = max(most, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
        except (OSError, TypeError):
            pass
        time.sleep(0.005)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} failed:\n{log.read_text()[-3000:]}")
    return most * 1024 / 1e6


def measure(home: Path, side: int, counts: tuple[int, ...], runs: int, labels: int, export: bool) -> None:
    """Print peaks and ratios for images of one side."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MODICUM_CACHE": str(home / "cache")}
    found: dict[str, list[list[float]]] = {"fit": [], "predict": []}
    model = None
    for count in counts:
        data, log = images(home / f"images-{side}-{count}", count, side), home / "log.txt"
        fits, predicts = [], []
        for k in range(runs):
            run = home / f"run-{side}-{count}-{k}"
            shutil.rmtree(home / "cache", ignore_errors=True)
            python = [sys.executable, "-c"]
            words = [str(data), str(run), str(labels), "export" if export else "no"]
            fits.append(peak([*python, FIT, *words], environment, log))
            if model is None:
                model = home / f"model-{side}.onnx"
                main = "from modicum.cli import main; import sys; sys.exit(main(['export', *sys.argv[1:]]))"
                subprocess.run([*python, main, str(run), "--out", str(model)], env=environment, check=True)
            out = str(home / "predictions.parquet")
            predicts.append(peak([*python, PREDICT, str(model), str(data), "--out", out], environment, log))
            shutil.rmtree(run)
        found["fit"].append(fits)
        found["predict"].append(predicts)
        for what, numbers in (("fit", fits), ("predict", predicts)):
            shown = " ".join(f"{n:.1f}" for n in numbers)
            print(f"{side} px, {count:,} images, {what}: {np.median(numbers):.1f} MB (of {shown})", flush=True)
        shutil.rmtree(data)
    for what, each in found.items():
        first, last = (np.array(n) for n in (each[0], each[-1]))
        ratios = np.sort((last[:, None] / first[None, :]).ravel())
        middle = np.median(last) / np.median(first)
        print(
            f"{side} px, {what}: ratio {middle:.3f} (pairs of runs from {ratios[0]:.3f} to {ratios[-1]:.3f})",
            flush=True,
        )


def main() -> None:
    """Parse, make images, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--side", type=int, nargs="*", default=[28, 96])
    parser.add_argument("--images", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--labels", type=int, default=25, help="a class; 0: all images are labelled")
    parser.add_argument("--export", action="store_true", help="write ONNX too, which takes more memory than the rest")
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="modicum-memory-"))
    try:
        for side in asked.side:
            measure(home, side, tuple(asked.images), asked.runs, asked.labels, asked.export)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
