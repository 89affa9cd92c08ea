"""`python -m benchmarks.cluster RUN`: two workers of a local Ray cluster against one process (Linux, needs Ray).

Over 10,000 and 60,000 PNGs of Fashion-MNIST: seconds, whether the files are equal, and the largest worker's RssAnon;
then once more with a worker killed on the way.  RUN: a finished run with a model.onnx.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import re
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np


def images(folder: Path) -> Path:
    """The 60,000 training images as PNGs, 10,000 a folder."""
    from PIL import Image

    packed = Path(os.environ["MODICUM_DATA"], "fashion-mnist/FashionMNIST/raw/train-images-idx3-ubyte.gz")
    block = np.frombuffer(gzip.decompress(packed.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    for i, image in enumerate(block):
        into = folder / str(i // 10_000)
        into.mkdir(exist_ok=True)
        Image.fromarray(image).save(into / f"{i:05d}.png", compress_level=1)
    return folder


def working() -> dict[int, float]:
    """Workers that classify now: process -> MB of RssAnon."""
    out: dict[int, float] = {}
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if place.name.isdigit() and (place / "cmdline").read_bytes().startswith(b"ray::classify"):
                found = re.search(r"RssAnon:\s+(\d+)", (place / "status").read_text())
                out[int(place.name)] = int(found[1]) / 1000 if found else 0.0
    return out


def watch(done: threading.Event, peaks: list[float], kills: bool) -> None:
    """Note the largest worker five times a second; kill one, once, where asked."""
    while not done.wait(0.2):
        found = working()
        peaks += found.values()
        if kills and found and max(peaks) > 60:
            os.kill(next(iter(found)), signal.SIGKILL)
            kills = False


def main() -> None:
    """Measure and print."""
    from modicum.deploy.predict import predict as alone
    from modicum.deploy.predictions import write
    from modicum.engine.cluster import predict

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        images(home)
        for folders, kills in ((1, False), (6, False), (6, True)):
            places = [home / str(i) for i in range(folders)]
            begun = time.perf_counter()
            write(alone(run, places), home / "one.parquet")
            one, done, peaks = time.perf_counter() - begun, threading.Event(), [0.0]
            threading.Thread(target=watch, args=(done, peaks, kills), daemon=True).start()
            begun = time.perf_counter()
            write(predict(run, places, workers=2), home / "two.parquet")
            two = time.perf_counter() - begun
            done.set()
            equal = (home / "one.parquet").read_bytes() == (home / "two.parquet").read_bytes()
            what = "a worker killed" if kills else "undisturbed"
            print(
                f"{folders * 10_000:,} images, {what}: one process {one:.1f} s, two workers {two:.1f} s with the start "
                f"of Ray, {'equal' if equal else 'NOT EQUAL'}, largest worker {max(peaks):.0f} MB"
            )


if __name__ == "__main__":
    main()
