"""YOLO's text files: a line an object, `class x y width height` as shares of the image, or an outline of pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from modicum.core.dataset import MODEL, Dataset
from modicum.core.errors import DataError
from modicum.data.formats import Fault, Found, Images, Progress
from modicum.data.images import measure
from modicum.data.names import name_of
from modicum.data.objects import Apart, Objects, fitted, pictures, split_of
from modicum.data.outlines import filled, stamp
from modicum.data.store import stays, write_images
from modicum.data.tiff import page_of
from modicum.data.walk import has_image, texts, walk

_MOST = 16 << 20  # bytes of a file
_SEEN = 20_000  # files that are looked at for a sign
_YAML, _TXT = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml"), ("classes.txt", "obj.names")
_NUMBER = re.compile(rb"\s*\d+(\s+[-+.\deE]+){4,}\s*")
_ENTRY = re.compile(r"\s+(?:-|(\d+)\s*:)\s*(.*)")


class Yolo(Images):
    """Images, and a text file of boxes or outlines for each."""

    NAME = "yolo"
    LAYOUT = (
        "images/ and labels/ (perhaps in or below train/ val/ test/) with a text file of YOLO's lines an image, named "
        "by data.yaml or classes.txt; or text files beside the images and classes.txt"
    )
    WRITES = "images, and YOLO text files with boxes"

    def sniff(self, path: Path) -> tuple[int, str]:
        if not path.is_dir() or not has_image(path):
            return 0, "no image files"
        named = any((path / file).is_file() for file in (*_YAML, *_TXT))
        found = next((f for f in _txt(path, _SEEN) if (named or _labels(f)) and _is_line(path / f)), "")
        return (86, f"boxes in {found}") if found else (0, "no text file of boxes")

    def find(self, path: Path) -> Found:
        seen, faults = walk(path)
        ids = pictures(seen)
        files = {f: f for f in _txt(path)}
        names = _names(path, faults)
        said, most, used = Objects(), len(names), set[str]()
        for row, name in enumerate(ids):
            file = next((f for f in _beside(name) if f in files), "")
            if not file:
                continue
            try:
                if file in used:
                    raise DataError(f"{name} is the second image of this name: its boxes are not used")
                used.add(file)
                most = max(most, _read(path, file, name, len(names), row, said, faults))
            except DataError as error:
                faults.append(Fault(file, error.found))
        if not said.looked:
            raise DataError("no text file beside an image", where=path, fix=f"Understood is: {self.LAYOUT}.")
        faults += [Fault(f, "no image of this name") for f in files if _labels(f) and f not in used]
        if most > 10_000:
            raise DataError(f"class {most - 1}, and no list of names", where=path, fix="Name the classes in data.yaml.")
        names = names or [str(i) for i in range(most)]
        split, unknown = np.array([split_of(n) for n in ids], object), np.full(len(ids), -1, np.int64)
        drawn = said.delta(names)
        return Found(self.NAME, str(path.resolve()), ids, names, unknown, {"split": split}, faults, drawn=drawn)

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        apart, ids = Apart("images", data.field("split")), [str(i) for i in data.ids]
        names = write_images(data, folder, ids if stays(ids) and apart.keeps(ids) else None, apart.place, progress)
        lines: dict[int, list[str]] = {r: [] for r in np.flatnonzero(data.known("boxes")).tolist()}
        sizes = {r: measure(folder / names[r], names[r]) for r in lines}
        who = data.sources["who"].to_pylist()
        for one in data.of_kind("boxes").to_pylist():
            ignored = one["value"] is not None and one["value"] <= 0.5  # which YOLO cannot say
            if who[one["source"]] == MODEL or one["class"] is None or one["class"] < 0 or ignored:
                continue
            height, width = sizes[one["row"]]
            x0, x1, y0, y1 = one["x0"] / width, one["x1"] / width, one["y0"] / height, one["y1"] / height
            numbers = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
            lines[one["row"]].append(" ".join([str(one["class"]), *(f"{v:.12g}" for v in numbers)]))
        for row, mine in lines.items():
            file = folder / f"labels{names[row].removeprefix('images').rpartition('.')[0]}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{line}\n" for line in mine), encoding="utf-8", newline="\n")
        (folder / _YAML[0]).write_text(_yaml(data, names), encoding="utf-8", newline="\n")
        return names


def _txt(path: Path, most: int = 0) -> Iterator[str]:
    """Text files that may be of objects."""
    return (f for f in texts(path, ".txt", most) if f.rpartition("/")[2] not in _TXT)


def _labels(name: str) -> bool:
    """Whether a file lies in or below a folder `labels`."""
    return "labels" in name.lower().split("/")[:-1]


def _is_line(file: Path) -> bool:
    """Whether a file begins with a line of YOLO's form."""
    try:
        with file.open("rb") as stream:
            return _NUMBER.fullmatch(stream.readline(4096)) is not None
    except OSError:
        return False


def _beside(image: str) -> Iterator[str]:
    """Where the text file of an image may be: in labels/ where it is in images/, or beside it."""
    stem = page_of(image)[0].rpartition(".")[0]
    parts = stem.split("/")
    for at in reversed(range(len(parts) - 1)):
        if parts[at].lower() == "images":
            yield "/".join([*parts[:at], "labels", *parts[at + 1 :]]) + ".txt"
            break
    yield f"{stem}.txt"


def _read(root: Path, file: str, image: str, classes: int, row: int, said: Objects, faults: list[Fault]) -> int:
    """The objects of an image, into `said`; -> one more than the largest class.  DataError where none can be used."""
    try:
        with (root / file).open("rb") as stream:
            text = stream.read(_MOST + 1)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from None
    if len(text) > _MOST or b"\0" in text:
        raise DataError("not a text file of boxes")
    height, width = measure(root / image, image)
    said.look("boxes", row)
    most = 0
    for number, line in enumerate(text.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            cls, values = _values(words, classes)
            odd = _add(said, row, cls, values, height, width)
            most = max(most, cls + 1)
        except ValueError as error:
            said.look("boxes", row, complete=False)
            odd = str(error)
        if odd:
            faults.append(Fault(f"{file}: line {number}", odd))
    return most


def _values(words: list[str], classes: int) -> tuple[int, np.ndarray]:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        raise ValueError("a line with something else than numbers") from None
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(f"{len(values)} numbers; a class and 4 are a box, a class and 3 or more pairs an outline")
    cls = values[0]
    if not 0 <= cls < 1e6 or cls != int(cls) or (classes and cls >= classes):
        raise ValueError(f"class {words[0][:20]}" + (f", but there are {classes}" if classes else ""))
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    if np.abs(values[1:]).max() > 1e6:
        raise ValueError("a number far outside of 0 to 1")
    return int(cls), values[1:]


def _add(said: Objects, row: int, cls: int, values: np.ndarray, height: int, width: int) -> str:
    """A box, or an outline and its box; -> what is odd about it."""
    if len(values) == 4:
        x, y, w, h = values * (width, height, width, height)
        x0, y0, x1, y1 = np.round([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 9).tolist()
        frame, odd = fitted(x0, y0, x1, y1, height, width)
        said.add("boxes", row, cls, frame)
        return odd
    part = filled([values.reshape(-1, 2) * (width, height)], height, width)
    if part is None:
        raise ValueError("an outline that covers no pixel")
    said.add("boxes", row, cls, part.frame)
    said.add("instances", row, cls, part.frame, stamp(part, height, width))
    return ""


# -- names -------------------------------------------------------------------------------------------------------------


def _names(root: Path, faults: list[Fault]) -> list[str]:
    """Class names by number, from data.yaml, else classes.txt; [] = none told."""
    for file in (*_YAML, *_TXT, *(f"labels/{f}" for f in _TXT)):
        if not (root / file).is_file():
            continue
        try:
            with (root / file).open(encoding="utf-8-sig", errors="replace") as stream:
                text = stream.read(1 << 20)
            names = [name_of(n) for n in (named(text) if file in _YAML else text.rstrip().splitlines())]
            if "" in names or len(set(names)) < len(names):
                raise ValueError("a name that is empty or stands twice")
        except (OSError, ValueError) as error:
            faults.append(Fault(file, f"its names are not used: {error}"))
            continue
        if names:
            return names
    return []


def named(text: str) -> list[str]:
    """The list under `names:` of a YAML file: [a, b], lines of `- a`, or lines of `0: a`.  Nothing else is understood.

    ValueError where numbers do not run from 0 on.
    """
    lines = iter(text.splitlines())
    first = next((line for line in lines if line.startswith("names:")), "names:").removeprefix("names:").strip()
    if first[:1] in ("[", "{"):
        whole, end = first, {"[": "]", "{": "}"}[first[0]]
        while end not in whole and (line := next(lines, None)) is not None:
            whole += " " + line.strip()
        cells = _flow(whole[1:].partition(end)[0])
        return [c.partition(":")[2].strip(" '\"") for c in cells] if end == "}" else [_plain(c) for c in cells]
    out: list[str] = []
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _ENTRY.fullmatch(" " + line)
        if found is None or (found[1] and not line[0].isspace()):
            break
        if found[1] and int(found[1][:9]) != len(out):
            raise ValueError(f"number {found[1][:20]} where {len(out)} is expected")
        out.append(_plain(found[2]))
    return out


def _flow(text: str) -> list[str]:
    """The parts between commas that are not in quotes."""
    return [c for c in re.findall(r"\s*('(?:[^']|'')*'|\"[^\"]*\"|[^,]+)\s*(?:,|$)", text) if c.strip()]


def _plain(text: str) -> str:
    """A scalar without its quotes or comment."""
    text = text.strip()
    if text[:1] == "'" and "'" in text[1:]:
        return text[1 : text.rindex("'")].replace("''", "'")
    if text[:1] == '"' and '"' in text[1:]:
        return text[1 : text.rindex('"')]
    return text.partition(" #")[0].strip()


def _yaml(data: Dataset, names: list[str]) -> str:
    tops = {w: f"images/{w}" for w in ("train", "val", "test") if any(n.startswith(f"images/{w}/") for n in names)}
    head = "".join(f"{word}: {top}\n" for word, top in (tops or {"train": "images"}).items())
    quoted = (n.replace("'", "''") for n in data.names)
    return head + "names:\n" + "".join(f"  {i}: '{n}'\n" for i, n in enumerate(quoted))
