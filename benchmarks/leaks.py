"""`python -m benchmarks.leaks`: near-duplicates found, beside the two hashes that most tools use.

Three questions.  Flowers-17: of the 68 pairs on the set's list, how many are found, and how many other pairs?  Changed
copies: of 384 COCO pictures and a copy of each, changed in one way, how many copies are found?  Fashion-MNIST: 70,000
pictures of clothes look alike at 28 px; how many are listed?  The numbers in data/duplicates.py were chosen on the
second of these sets, among others, and not on the first and the third.

The peers are pHash and dHash as the packages imagehash and imagededup define them, written here from the definition
(64 bits each; a pair is what differs in at most so many bits), compared by brute force in NumPy.  Seconds are those of
the processor, of one thread, from decoded pixels to the list of pairs.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Images = Sequence[np.ndarray]
Finder = Callable[[Images], np.ndarray]  # -> rows of the pairs it lists, int64 (P,2), each pair ascending
# Flowers-17 has more pairs than its list: looked at one by one, these are one photograph each, cut, framed, signed or
# mirrored.
ALSO_SAME = {(241, 242), (675, 704), (745, 763), (902, 948), (993, 1014), (996, 1021)}


def ours(images: Images) -> np.ndarray:
    """Modicum's groups, as all pairs within a group."""
    from modicum.data.duplicates import find, members
    from modicum.data.hashes import sketch, sketches

    if isinstance(images, np.ndarray):
        found = np.concatenate([sketches(images[k : k + 1000]) for k in range(0, len(images), 1000)])
    else:
        found = np.stack([sketch(i) for i in images])
    pairs = [(a, b) for g in members(find(found).group) for a in g for b in g if a < b]
    return np.array(pairs, np.int64).reshape(-1, 2)


def phash(image: Image.Image) -> np.ndarray:
    """Of the 8 x 8 lowest frequencies of 32 x 32 grey pixels, which are above their median: bool (64,)."""
    from scipy.fft import dct

    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    low = dct(dct(grey, axis=0), axis=1)[:8, :8]
    return np.asarray(low > np.median(low)).ravel()


def dhash(image: Image.Image) -> np.ndarray:
    """Of 9 x 8 grey pixels, which are darker than their right neighbour: bool (64,)."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS))
    return np.asarray(grey[:, 1:] > grey[:, :-1]).ravel()


def peer(hashing: Callable[[Image.Image], np.ndarray], bits: int) -> Finder:
    """A finder: every pair whose hashes differ in at most so many bits."""

    def find(images: Images) -> np.ndarray:
        found = [hashing(Image.fromarray(i[..., 0] if i.shape[2] == 1 else i)) for i in images]
        codes = np.packbits(found, axis=1).view(np.uint64)[:, 0]
        out = []
        for k in range(0, len(codes), 256):
            a, b = np.nonzero(np.bitwise_count(codes[k : k + 256, None] ^ codes[k:]) <= bits)
            out.append(np.stack([a, b], 1)[a < b] + k)
        return np.concatenate(out)

    return find


FINDERS: dict[str, Finder] = {
    "Modicum": ours, "pHash, 4 bits": peer(phash, 4), "pHash, 10 bits": peer(phash, 10),
    "dHash, 4 bits": peer(dhash, 4), "dHash, 10 bits": peer(dhash, 10),
}  # fmt: skip


def asked(name: str, images: Images) -> tuple[set[tuple[int, ...]], float]:
    """The pairs that a finder lists, and the processor's seconds."""
    begun = time.process_time()
    found = FINDERS[name](images)
    return {tuple(p) for p in found.tolist()}, time.process_time() - begun


def decoded(content: bytes) -> np.ndarray:
    """A file's pixels, uint8 (H,W,3)."""
    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))


def flowers(home: Path) -> None:
    """Pairs of the list, and beyond it."""
    import pyarrow.parquet as pq

    table = pq.read_table(home / "flowers17" / "flowers17.parquet")
    images = [decoded(r["bytes"]) for r in table["image"].to_pylist()]
    number = table["dup_group"].to_numpy()
    known = {(int(a), int(b)) for n in np.unique(number) for a, b in [np.flatnonzero(number == n)[[0, -1]]] if a < b}
    print(f"\nFlowers-17: {len(images):,} photographs, {len(known)} pairs on the list, {len(ALSO_SAME)} more by eye")
    print(f"{'':16} {'of the list':>11} {'by eye':>7} {'false':>6} {'precision':>10} {'recall':>7} {'seconds':>8}")
    for name in FINDERS:
        found, seconds = asked(name, images)
        right = found & (known | ALSO_SAME)
        print(
            f"{name:16} {len(found & known):>11} {len(found & ALSO_SAME):>7} {len(found - right):>6} "
            f"{len(right) / max(1, len(found)):>10.3f} {len(right) / len(known | ALSO_SAME):>7.3f} {seconds:>8.2f}"
        )


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file)


def _cropped(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    width, height = round((1 - share) * image.width), round((1 - share) * image.height)
    x, y = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


Change = Callable[[Image.Image, np.random.Generator], Image.Image]
CHANGES: dict[str, Change] = {
    "JPEG, quality 60": lambda i, _: _jpeg(i),
    "resized to 0.7": lambda i, _: i.resize((round(0.7 * i.width), round(0.7 * i.height)), Image.Resampling.BICUBIC),
    "10 % brighter": lambda i, _: i.point(lambda v: min(255, 1.1 * v)),
    "cropped by 5 %": lambda i, rng: _cropped(i, 0.05, rng),
    "cropped by 10 %": lambda i, rng: _cropped(i, 0.1, rng),
    "mirrored": lambda i, _: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 2 degrees": lambda i, _: i.rotate(2, Image.Resampling.BICUBIC),
}


def copies(home: Path) -> None:
    """Copies found, and pairs of unlike pictures listed, by kind of change."""
    import pyarrow.parquet as pq

    table = pq.read_table(home / "coco384" / "coco384.parquet")
    images = [decoded(r["bytes"]) for r in table["image"].to_pylist()]
    print(f"\n{len(images)} COCO pictures and a changed copy of each: copies found, and unlike pairs listed")
    print(f"{'':20}" + "".join(f"{name:>18}" for name in FINDERS))
    for kind, change in CHANGES.items():
        rng = np.random.default_rng(0)
        changed = [np.asarray(change(Image.fromarray(i), rng).convert("RGB")) for i in images]
        true = {(k, k + len(images)) for k in range(len(images))}
        cells = []
        for name in FINDERS:
            found, _ = asked(name, [*images, *changed])
            cells.append(f"{100 * len(found & true) / len(true):.1f} %, {len(found - true)}")
        print(f"{kind:20}" + "".join(f"{cell:>18}" for cell in cells))


def fashion(home: Path) -> None:
    """How many images are listed."""
    import gzip

    folder = home / "fashion-mnist" / "FashionMNIST" / "raw"
    parts = [gzip.decompress((folder / f"{p}-images-idx3-ubyte.gz").read_bytes())[16:] for p in ("train", "t10k")]
    images = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, 28, 28, 1)
    print(f"\nFashion-MNIST: {len(images):,} images of 28 x 28 px")
    print(f"{'':16} {'pairs':>12} {'images listed':>14} {'seconds':>8}")
    for name in [n for n in FINDERS if "10" not in n]:  # ten bits: more pairs than fit into memory
        begun = time.process_time()
        found = FINDERS[name](images)
        seconds, listed = time.process_time() - begun, len(np.unique(found)) / len(images)
        print(f"{name:16} {len(found):>12,} {100 * listed:>13.2f}% {seconds:>8.2f}")


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", choices=["flowers", "copies", "fashion", []], help="which tables (all)")
    parser.add_argument("--data", type=Path, default=os.environ.get("MODICUM_DATA"), help="folder of the sample sets")
    given = parser.parse_args()
    if given.data is None:
        parser.error("where are the sample sets?  Set MODICUM_DATA or give --data")
    for name, table in (("flowers", flowers), ("copies", copies), ("fashion", fashion)):
        if not given.only or name in given.only:
            table(Path(given.data))


if __name__ == "__main__":
    main()
