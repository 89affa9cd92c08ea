"""COCO's JSON: boxes, and outlines as polygons or run lengths, in one file a split."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from modicum.core import form
from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.coco_rows import annotations_of
from modicum.data.formats import SPLITS, Fault, Found, Images, Progress
from modicum.data.images import measure
from modicum.data.objects import IGNORED, Apart, Classes, Frame, Objects, fitted, pictures, split_of
from modicum.data.outlines import Part, filled, stamp, unpacked, unrolled
from modicum.data.rows import Doubt, Rows, shown
from modicum.data.store import stays, write_images
from modicum.data.walk import has_image, walk, within

_MOST = 512 << 20  # bytes of a file
_PIXELS = 1 << 38  # of all outlines of a set together, at the size of their images: some minutes, some GB
_CHUNK = 1 << 20
_KEYS = (b'"annotations"', b'"images"', b'"categories"')
_WORD = re.compile(r"train|val(?:id(?:ation)?)?|test")
_FOLDERS = ("annotations", "labels")


class Coco(Images):
    """Images and JSON files of COCO's form."""

    NAME = "coco"
    LAYOUT = (
        "images with COCO JSON files (annotations/instances_train.json, ...): boxes, polygons, run lengths (RLE); a "
        "word train, val or test in the file's name, or its folder, is the split"
    )
    WRITES = "images, and COCO JSON with boxes and outlines"

    def sniff(self, path: Path) -> tuple[int, str]:
        found = _files(path)
        return (90, f"{len(found)} COCO JSON files") if found else (0, "no COCO JSON file")

    def find(self, path: Path) -> Found:
        files = _files(path)
        root = path if path.is_dir() else path.parent.parent if path.parent.name in _FOLDERS else path.parent
        if not files:
            raise DataError("no JSON file of COCO's form", where=path, fix=f"Understood is: {self.LAYOUT}.")
        seen, faults = walk(root)
        names = pictures(seen)
        reader = _Reader(root, names, faults)
        for file in files:
            reader.read(file)
        if not reader.read_files:
            raise DataError(f"{faults[-1].where}: {faults[-1].reason}", where=path, fix="Mend it, or fetch it again.")
        split = np.array([reader.split.get(r) or split_of(n) for r, n in enumerate(names)], object)
        classes, unknown = reader.classes.names, np.full(len(names), -1, np.int64)
        drawn = reader.drawn(classes)
        return Found(self.NAME, str(root.resolve()), names, classes, unknown, {"split": split}, faults, drawn=drawn)

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        split, ids = data.field("split"), [str(i) for i in data.ids]
        apart = Apart("images", split)
        names = write_images(data, folder, ids if stays(ids) and apart.keeps(ids) else None, apart.place, progress)
        looked = data.known("boxes") | data.known("instances")
        (folder / "annotations").mkdir()
        sizes: dict[int, tuple[int, int]] = {}
        for row in np.flatnonzero(looked).tolist():
            sizes[row] = measure(folder / names[row], names[row])
        groups = {"": "all"} | {s: s for s in ("train", "val", "test")}
        categories = [{"id": i + 1, "name": n, "supercategory": ""} for i, n in enumerate(data.names)]
        said = annotations_of(data, sizes)
        for word, called in groups.items():
            rows = [r for r in sizes if split[r] == word]
            if not rows and (called != "all" or sizes):
                continue
            images = [{"id": r + 1, "file_name": names[r], "height": sizes[r][0], "width": sizes[r][1]} for r in rows]
            mine = [a for r in rows for a in said.get(r, ())]
            content = {"images": images, "annotations": mine, "categories": categories}
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            (folder / "annotations" / f"instances_{called}.json").write_text(text, encoding="utf-8", newline="\n")
        return names


def _files(path: Path) -> list[Path]:
    """JSON files of COCO's form at a place: itself, in a folder, in annotations/, or in the folders of the splits.

    Beside `instances_*.json` others of the same folder (captions, keypoints) are about the same objects again.
    """
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" and _is_coco(path) else []
    if not path.is_dir() or not has_image(path):
        return []
    out: list[Path] = []
    real = path.resolve()
    try:
        tops = [path, *(p for p in sorted(path.iterdir()) if p.name.lower() in {*_FOLDERS, *SPLITS} and p.is_dir())]
        for top in tops:
            mine = [p for p in sorted(top.glob("*.json")) if within(p, real) and _is_coco(p)]
            out += [p for p in mine if p.name.startswith("instances_")] or mine
    except OSError:
        return out
    return out


def _is_coco(file: Path) -> bool:
    """By two of its keys, wherever they stand."""
    found, text = set[bytes](), b""
    try:
        with file.open("rb") as stream:
            while len(found) < 2 and (more := stream.read(_CHUNK)) and stream.tell() <= _MOST:
                if not text and not more.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
                    return False
                text = text[-16:] + more
                found |= {key for key in _KEYS if key in text}
    except OSError:
        return False
    return len(found) > 1


class _Reader:
    """Gathers what several files say of the images below a root."""

    def __init__(self, root: Path, names: list[str], faults: list[Fault]) -> None:
        self.root, self.names, self.faults = root, names, faults
        self.rows, self.classes, self.said = Rows(names, str(root.resolve())), Classes(), Objects()
        self.split: dict[int, str] = {}
        self.sizes: dict[int, tuple[int, int] | None] = {}
        self.pixels, self.read_files, self.bare = 0, 0, set[int]()

    def read(self, file: Path) -> None:
        """One file; what cannot be used becomes faults."""
        where = file.relative_to(self.root).as_posix()
        try:
            content = form.read(file, _MOST)
        except (OSError, ValueError) as error:
            self.faults.append(Fault(where, f"not used: {error}"))
            return
        kinds = ("images", "categories", "annotations")
        lists = [content.get(k, []) if isinstance(content, dict) else None for k in kinds]
        if not all(isinstance(part, list) for part in lists):
            self.faults.append(Fault(where, "not used: images, categories and annotations are not lists"))
            return
        self.read_files += 1
        images, categories, annotations = lists
        image = self._images(where, images or [])
        cls = self._categories(where, categories or [])
        for row in image.values():
            self.said.look("boxes", row)
        for number, one in enumerate(annotations or []):
            self._annotation(where, number, one, image, cls)

    def drawn(self, classes: list[str]) -> Dataset:
        """All that was said; where there are outlines, images are looked through in which no object lacks one."""
        if self.pixels:
            for row in self.said.looked["boxes"]:
                self.said.look("instances", row, row not in self.bare)
        return self.said.delta(classes)

    def _fault(self, where: str, what: str, reason: str) -> None:
        self.faults.append(Fault(f"{where}: {what}", reason))

    def _images(self, where: str, images: list[Any]) -> dict[Any, int]:
        """The row of each image by its number; -> those that are here and of the size that is said."""
        out: dict[Any, int] = {}
        word = _split(where)
        folder = where.rpartition("/")[0] + "/" if "/" in where else ""
        tops = list(dict.fromkeys((folder, "", "images/", f"{word}/", f"images/{word}/", *_year(where))))
        for at, one in enumerate(images):
            try:
                number, name, size = _image(one)
                if number in out:
                    raise Doubt("two images have this number: the second is not used")
                row = self._row(name, tops)
                if size is not None and (real := self._size(row)) != size:
                    real = real or (0, 0)
                    raise Doubt(f"says {size[1]} x {size[0]} pixels, {self.names[row]} has {real[1]} x {real[0]}")
                if self._size(row) is None:
                    raise Doubt(f"{self.names[row]} cannot be read")
                if word and self.split.setdefault(row, word) != word:
                    raise Doubt(f"{self.names[row]} is in {self.split[row]!r} already")
                out[number] = row
            except Doubt as doubt:
                self._fault(where, f"image {_shown(one, at)}", str(doubt))
        return out

    def _row(self, name: str, tops: list[str]) -> int:
        for top in tops:
            if (row := self.rows.exact(top + name)) is not None:
                return row
        return self.rows.find(name)

    def _size(self, row: int) -> tuple[int, int] | None:
        if row not in self.sizes:
            try:
                self.sizes[row] = measure(self.root / self.names[row])
            except DataError:
                self.sizes[row] = None
        return self.sizes[row]

    def _categories(self, where: str, categories: list[Any]) -> dict[Any, int]:
        out: dict[Any, int] = {}
        for at, one in enumerate(sorted(categories, key=_order)):
            try:
                number, name = _key(one, "id"), _key(one, "name")
                if number is None or type(name) is not str:
                    raise ValueError("no id and name")
                if number in out:
                    raise ValueError("two categories have this number: the second is not used")
                out[number] = self.classes.number(name)
            except ValueError as error:
                self._fault(where, f"category {_shown(one, at)}", str(error))
        return out

    def _annotation(self, where: str, at: int, one: Any, image: dict[Any, int], cls: dict[Any, int]) -> None:
        row = image.get(_key(one, "image_id"))
        try:
            if row is None:
                raise ValueError(f"of an image that is not listed, or not used: {form.short(_key(one, 'image_id'))}")
            if (number := cls.get(_key(one, "category_id"))) is None:
                raise ValueError(f"of a category that is not listed: {form.short(_key(one, 'category_id'))}")
            height, width = self.sizes[row] or (0, 0)
            part = self._part(where, at, one, row, height, width)
            given = one.get("bbox")
            frame, odd = _box(given, height, width) if given is not None or part is None else (part.frame, "")
            if odd:
                self._fault(where, f"annotation {_shown(one, at)}", odd)
            value = IGNORED if one.get("iscrowd") in (1, True) else None
            self.said.add("boxes", row, number, frame, None, value)
            if part is not None:
                self.said.add("instances", row, number, part.frame, stamp(part, height, width), value)
            else:
                self.bare.add(row)
        except ValueError as error:
            self._fault(where, f"annotation {_shown(one, at)}", str(error))
            if row is not None:
                self.said.look("boxes", row, complete=False)
                self.bare.add(row)

    def _part(self, where: str, at: int, one: Any, row: int, height: int, width: int) -> Part | None:
        """The outline of an annotation; None where it has none that can be used."""
        given = one.get("segmentation")
        if not given:
            return None
        self.pixels += height * width
        try:
            if self.pixels > _PIXELS:
                raise ValueError(f"not drawn: more than {_PIXELS:,} pixels of outlines in one set")
            part = outline(given, height, width)
            if part is None:
                raise ValueError("an outline that covers no pixel")
        except ValueError as error:
            self._fault(where, f"annotation {_shown(one, at)}", f"{error}: only its box is used")
            return None
        return part


def outline(given: Any, height: int, width: int) -> Part | None:
    """A `segmentation` as a mask: a list of polygons [x, y, x, y, ...], or run lengths, packed or not.

    ValueError where it is neither, or of another image size.
    """
    if isinstance(given, list):
        polygons = [given] if given and type(given[0]) in (int, float) else given
        return filled([_points(p) for p in polygons], height, width)
    if not isinstance(given, dict) or given.get("size") != [height, width]:
        raise ValueError(f"neither polygons nor run lengths of {width} x {height} pixels")
    counts = given.get("counts")
    if isinstance(counts, list) and all(type(n) is int for n in counts):
        return unrolled(np.array(counts, np.int64), height, width)
    if not isinstance(counts, str):
        raise ValueError("run lengths that are neither text nor a list of whole numbers")
    return unrolled(unpacked(counts), height, width)


def _points(given: Any) -> np.ndarray:
    if not isinstance(given, list) or len(given) % 2 or not {*map(type, given)} <= {int, float}:
        raise ValueError("a polygon that is no list of pairs of numbers")
    return np.array(given, np.float64).reshape(-1, 2)


def _box(given: Any, height: int, width: int) -> tuple[Frame, str]:
    if not isinstance(given, list) or len(given) != 4 or not {*map(type, given)} <= {int, float}:
        raise ValueError(f"bbox is {form.short(given)}, expected [x, y, width, height]")
    x, y, w, h = map(float, given)
    return fitted(x, y, x + w, y + h, height, width)


def _image(one: Any) -> tuple[Any, str, tuple[int, int] | None]:
    """Number, file name and size (None = not said) of an entry of `images`; Doubt where they are not there."""
    number, name = _key(one, "id"), _key(one, "file_name")
    if number is None or type(name) is not str:
        raise Doubt("no id and file_name")
    height, width = one.get("height"), one.get("width")
    if height is None and width is None:
        return number, name, None
    if not (type(height) is int and type(width) is int):
        raise Doubt(f"height and width are {form.short(height)} and {form.short(width)}")
    return number, name, (height, width)


def _key(one: Any, key: str) -> Any:
    """A number or word of an entry; None where it is neither."""
    value = one.get(key) if isinstance(one, dict) else None
    return value if type(value) in (int, str) else None


def _order(category: Any) -> tuple[int, int, str]:
    number = _key(category, "id")
    return (0, number, "") if type(number) is int else (1, 0, str(number))


def _shown(one: Any, at: int) -> str:
    """What an entry is called: its id, or where it stands."""
    number = _key(one, "id")
    if number is None:
        return f"number {at + 1} of the list"
    return shown(number) if isinstance(number, str) else str(number)


def _split(where: str) -> str:
    """The split that a file's name says, else its folder."""
    found = _WORD.search(where.rpartition("/")[2].lower())
    return SPLITS[found[0]] if found else split_of(where)


def _year(where: str) -> Iterable[str]:
    """Where COCO has the images of `instances_train2017.json`."""
    word = where.rpartition("/")[2].rpartition(".")[0].rpartition("_")[2]
    return (f"{word}/", f"images/{word}/") if word else ()
