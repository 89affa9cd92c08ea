"""`python -m benchmarks.scan`: images a second of a first and a second scan, beside what people use.

A scan is all of `modicum scan`: walk, faults, content hashes, sketches, duplicates and near-duplicates, traits, with
two threads.  The second one finds that nothing changed.  Each scan is a process of its own; what is timed begins
after its imports.  Peers, on the same files with two processes each:

- loop: every file read by Pillow, an MD5 of its bytes and a difference hash (Krawetz 2013: grey, 9 x 8, is a pixel
  brighter than its left neighbour), equal values grouped; no near-duplicates beyond equal hashes.
- imagededup (Apache-2.0), where `pip install imagededup` was done: PHash, encoding and search with its defaults.
- decode: Pillow decodes every file and nothing else, which no scan that uses Pillow for whole images can beat.

Images: Fashion-MNIST as PNG of 28 px; JPEGs of 640 x 480, each four cuttings of real photographs (COCO), so that they
hold as much detail as a camera's.  Every image is a file of its own; all are read once before anything is timed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.__main__ import data_home

SCAN = """
import json, sys, time
from modicum.engine.look import scan
import modicum.core.places, modicum.data.read, modicum.data.scan
from modicum.data.formats import formats
formats()
begun, cpu = time.perf_counter(), time.process_time()
seen = scan(sys.argv[1])
took = time.perf_counter() - begun, time.process_time() - cpu
lines = open("/proc/self/status").read().splitlines() if sys.platform == "linux" else []
anon = [int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")]
print(json.dumps([*took, *anon, seen.looked, len(seen.faults), len(seen.duplicates), len(seen.near)]))
"""
PEER = "import sys; from benchmarks.scan import peer; peer(*sys.argv[1:])"


def pngs(folder: Path, count: int) -> None:
    """Fashion-MNIST, 28 px, each once."""
    raw = data_home() / "fashion-mnist" / "FashionMNIST" / "raw"
    parts = [gzip.decompress((raw / f"{p}-images-idx3-ubyte.gz").read_bytes())[16:] for p in ("train", "t10k")]
    images = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, 28, 28)
    for i, image in enumerate(images[:count]):
        Image.fromarray(image).save(_place(folder, i, "png"))


def jpegs(folder: Path, count: int) -> None:
    """640 x 480, of four cuttings of 320 x 240 from photographs of COCO."""
    import pyarrow.parquet as pq

    cells = pq.read_table(data_home() / "coco384" / "coco384.parquet", columns=["image"])["image"].to_pylist()
    photos = [Image.open(io.BytesIO(c["bytes"])).convert("RGB") for c in cells]
    wide = [p for p in photos if p.width >= 320 and p.height >= 200]
    rng = np.random.default_rng(0)
    for i in range(count):
        sheet = Image.new("RGB", (640, 480))
        for corner in range(4):
            photo = wide[rng.integers(len(wide))]
            top = int(rng.integers(0, max(1, photo.height - 240)))
            cut = photo.crop((0, top, 320, top + 240)).transpose(Image.Transpose(int(rng.integers(2))))
            sheet.paste(cut, (corner % 2 * 320, corner // 2 * 240))
        sheet.save(_place(folder, i, "jpg"), quality=88)


def _place(folder: Path, i: int, ending: str) -> Path:
    home = folder / f"{i // 1000:03d}"
    home.mkdir(parents=True, exist_ok=True)
    return home / f"{i:06d}.{ending}"


# -- what is timed -----------------------------------------------------------------------------------------------------


def scans(folder: Path, cache: Path) -> tuple[list[float], list[float]]:
    """Seconds, CPU seconds and MB of a first and a second scan."""
    shutil.rmtree(cache, ignore_errors=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MODICUM_CACHE": str(cache)}
    call = [sys.executable, "-c", SCAN, str(folder)]
    first, second = (json.loads(subprocess.check_output(call, env=environment)) for _ in range(2))
    if first[3:] != second[3:]:
        raise SystemExit(f"the second scan found something else: {first[3:]}, {second[3:]}")
    return first, second


def peer(name: str, place: str) -> None:
    """Run a peer over a folder and print its seconds."""
    from concurrent.futures import ProcessPoolExecutor

    begun = time.perf_counter()
    if name == "imagededup":
        from imagededup.methods import PHash

        begun = time.perf_counter()
        PHash(verbose=False).find_duplicates(image_dir=place, recursive=True)
    else:
        files = sorted(str(p) for p in Path(place).rglob("*.*"))
        one: Callable[[str], tuple[str, bytes]] = looped if name == "loop" else decoded
        with ProcessPoolExecutor(2) as pool:
            seen: dict[object, list[str]] = {}
            for file, (digest, bits) in zip(files, pool.map(one, files, chunksize=64)):
                seen.setdefault(digest, []).append(file)
                seen.setdefault(bits, []).append(file)
    print(time.perf_counter() - begun)


def looped(file: str) -> tuple[str, bytes]:
    """MD5 of a file and difference hash of its picture."""
    stored = Path(file).read_bytes()
    with Image.open(io.BytesIO(stored)) as image:
        grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS))
    return hashlib.md5(stored).hexdigest(), np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes()


def decoded(file: str) -> tuple[str, bytes]:
    """Nothing but decode."""
    with Image.open(file) as image:
        image.load()
    return file, b""


def rate(count: int, seconds: list[float]) -> str:
    """Images a second: the middle, and the least and most."""
    each = sorted(count / s for s in seconds)
    return f"{each[len(each) // 2]:9,.0f} /s  ({each[0]:,.0f} to {each[-1]:,.0f})"


def measure(title: str, make: Callable[[Path, int], None], count: int, runs: int, home: Path) -> None:
    """Make the images, read them once, time everything in turns and print."""
    folder = home / title.replace(" ", "-")
    make(folder, count)
    size = sum(len(p.read_bytes()) for p in sorted(folder.rglob("*.*")))
    print(f"\n{count:,} {title}, {size / 1e6:,.0f} MB", flush=True)
    time.sleep(2.1)  # a file that was touched less than two seconds ago is not trusted
    took: dict[str, list[float]] = {name: [] for name in ("first scan", "second scan", "loop", "imagededup", "decode")}
    memory = 0.0
    for _ in range(runs):
        first, second = scans(folder, home / "cache")
        took["first scan"].append(first[0])
        took["second scan"].append(second[0])
        memory = max(memory, first[2])
        for name in ("loop", "imagededup", "decode"):
            done = subprocess.run([sys.executable, "-c", PEER, name, str(folder)], capture_output=True, text=True)
            if done.returncode == 0:
                took[name].append(float(done.stdout.split()[-1]))
    middle = {name: sorted(t)[len(t) // 2] for name, t in took.items() if t}
    for name in middle:
        print(f"  {name:12s} {rate(count, took[name])}  first scan / this: {middle[name] / middle['first scan']:.2f}")
    print(f"  the second scan is {middle['first scan'] / middle['second scan']:.1f} times as fast as the first")
    print(f"  {memory:.0f} MB of its own (RssAnon) at the end of the first scan", flush=True)


def main() -> None:
    """Parse, make, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scan", description=__doc__)
    parser.add_argument("--png", type=int, default=60_000, help="how many of 28 px, at most 70,000; 0: none")
    parser.add_argument("--jpeg", type=int, default=10_000, help="how many of 640 x 480 (85 kB each); 0: none")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="modicum-scan-"))
    try:
        if asked.png:
            measure("PNG of 28 px", pngs, asked.png, asked.runs, home)
        if asked.jpeg:
            measure("JPEG of 640 x 480", jpegs, asked.jpeg, asked.runs, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
