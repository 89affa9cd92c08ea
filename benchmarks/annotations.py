"""`python -m benchmarks.annotations`: seconds and memory to read tables about images.

A table of votes (image, annotator, class, group), one of probabilities of twenty classes, and COCO's JSON of polygons
of 8 to 40 points in images of 640 x 480: 100,000 rows each, about 10,000 image files.  Each reading is a process of its
own; what is timed begins after its imports, and the walk over the files is timed alone beside it.  Memory is the
process's peak above what it had before, in MB (10^6 bytes).
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (640, 480)
READ = """
import json, resource, sys, time
from modicum.data.read import read
import modicum.data.formats
modicum.data.formats.formats()
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
place, form = sys.argv[1:]
before, wall, cpu = peak(), time.perf_counter(), time.process_time()
found = read(place, form)
seconds = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([*seconds, (peak() - before) / 1e6, found.data.annotations.num_rows, len(found.faults)]))
"""


def main() -> None:
    """Make the sets, read each several times, print the best and the worst."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--images", type=int, default=10_000)
    options.add_argument("--times", type=int, default=5)
    given = options.parse_args()
    out = io.BytesIO()
    Image.new("L", SIZE).save(out, "PNG")
    with tempfile.TemporaryDirectory() as home:
        names = [f"s{i % 10}/{i:06d}.png" for i in range(given.images)]
        for name in names:
            Path(home, name).parent.mkdir(exist_ok=True)
            Path(home, name).write_bytes(out.getvalue())
        sets = (
            ("walk alone", home, "folders", None), ("votes", Path(home, "votes.csv"), "", write_votes),
            ("probabilities", Path(home, "probs.csv"), "", write_probs),
            ("polygons", Path(home, "polygons.json"), "coco", write_polygons),
        )  # fmt: skip
        for what, place, form, write in sets:
            if write:
                write(Path(place), names, given.rows)
            found = [read(str(place), form) for _ in range(given.times)]
            wall, cpu, memory = ([round(f[i], 2) for f in found] for i in range(3))
            print(
                f"{what:>14}: {min(wall)} to {max(wall)} s ({min(cpu)} to {max(cpu)} s of processor), "
                f"{min(memory):.0f} to {max(memory):.0f} MB, {found[0][3]:,} statements, {found[0][4]:,} faults"
            )


def read(place: str, form: str) -> list[float]:
    """Seconds, processor seconds, MB, statements, faults."""
    done = subprocess.run([sys.executable, "-c", READ, place, form], capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def write_votes(file: Path, names: list[str], rows: int) -> None:
    """Each image gets the same number of votes."""
    luck = random.Random(0)
    with file.open("w", encoding="utf-8") as out:
        out.write("image,annotator,class,group\n")
        for i in range(rows):
            out.write(f"{names[i % len(names)]},ann{i // len(names)},c{luck.randrange(20)},g{i % len(names) % 97}\n")


def write_probs(file: Path, names: list[str], rows: int) -> None:
    """The first row of an image counts, the others are faults: the slowest case."""
    with file.open("w", encoding="utf-8") as out:
        out.write("image," + ",".join(f"p:c{k}" for k in range(20)) + "\n")
        for i in range(rows):
            out.write(names[i % len(names)] + ",0.05" * 20 + "\n")


def write_polygons(file: Path, names: list[str], rows: int) -> None:
    """As many objects in each image, of 80 classes, some 50 pixels wide."""
    luck = np.random.default_rng(0)
    said = []
    for k in range(rows):
        middle, radius, many = luck.uniform((20, 20), (620, 460)), luck.lognormal(3.3, 0.8), int(luck.integers(8, 40))
        angle = np.sort(luck.uniform(0, 2 * np.pi, many))
        rim = middle + (radius * luck.uniform(0.6, 1.2, many) * np.stack([np.cos(angle), np.sin(angle)])).T
        rim = np.clip(rim, 0, SIZE).round(2)
        low, high = rim.min(0), rim.max(0)
        said.append({
            "id": k + 1, "image_id": k % len(names), "category_id": int(luck.integers(80)), "iscrowd": 0,
            "segmentation": [rim.ravel().tolist()], "bbox": [*low.tolist(), *(high - low).tolist()],
        })  # fmt: skip
    images = [{"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for i, name in enumerate(names)]
    categories = [{"id": k, "name": f"c{k}"} for k in range(80)]
    file.write_text(json.dumps({"images": images, "annotations": said, "categories": categories}), encoding="utf-8")


if __name__ == "__main__":
    main()
