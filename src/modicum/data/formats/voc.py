"""Pascal VOC's XML: a file of boxes an image, and lists of images that are the splits.

A box of VOC counts pixels from 1 and ends with its last: xmin = x0 + 1, xmax = x1 in our half open pixels.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape

import numpy as np

from modicum.core.dataset import MODEL, Dataset
from modicum.core.errors import DataError
from modicum.data.formats import Fault, Found, Images, Progress
from modicum.data.images import measure
from modicum.data.objects import IGNORED, Apart, Classes, Objects, fitted, pictures, split_of
from modicum.data.rows import Doubt, Rows
from modicum.data.store import stays, write_images
from modicum.data.walk import has_image, texts, walk

_NOTES, _PICTURES, _SETS = "Annotations", "JPEGImages", "ImageSets/Main"
_MOST = 4 << 20  # bytes of a file
_SEEN = 20_000  # files that are looked at for a sign
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")  # which XML cannot hold


class Voc(Images):
    """Images and an XML file for each."""

    NAME = "voc"
    LAYOUT = (
        "Annotations/ with an XML file of boxes an image, JPEGImages/ and ImageSets/Main/train.txt ..., as Pascal VOC; "
        "or XML files beside the images"
    )
    WRITES = "images, and VOC XML with boxes"

    def sniff(self, path: Path) -> tuple[int, str]:
        files = texts(path, ".xml", _SEEN) if path.is_dir() and has_image(path) else ()
        found = next((f for f in files if _is_voc(path / f)), "")
        return (88, f"boxes in {found}") if found else (0, "no XML file of boxes")

    def find(self, path: Path) -> Found:
        seen, faults = walk(path)
        names = pictures(seen)
        files = sorted(texts(path, ".xml"))
        if not files:
            raise DataError("no XML file of boxes", where=path, fix=f"Understood is: {self.LAYOUT}.")
        rows, said, classes = Rows(names, str(path.resolve())), Objects(), Classes()
        done: dict[int, str] = {}
        for file in files:
            try:
                tree = parsed(path / file)
                if tree.tag != "annotation":
                    raise Doubt(f"<{tree.tag[:40]}>, expected <annotation>: not used")
                row = _row(rows, file, tree)
                if done.setdefault(row, file) != file:
                    raise Doubt(f"{names[row]} has its boxes in {done[row]} already: not used")
                height, width = measure(path / names[row], names[row])
                _fits(tree, height, width, names[row])
            except (Doubt, DataError) as error:
                reason = error.found if isinstance(error, DataError) else str(error)
                faults.append(Fault(file, reason))
                continue
            _objects(file, tree, row, height, width, classes, said, faults)
        split = _splits(path, names)
        found, unknown = sorted(classes.names), np.full(len(names), -1, np.int64)
        number = {name: i for i, name in enumerate(found)}
        said.said["class"] = [number[classes.names[c]] for c in said.said["class"]]
        drawn = said.delta(found)
        return Found(self.NAME, str(path.resolve()), names, found, unknown, {"split": split}, faults, drawn=drawn)

    def write(self, data: Dataset, folder: Path, progress: Progress) -> list[str]:
        ids, split = [str(i) for i in data.ids], data.field("split")
        apart = Apart(_PICTURES)
        flat = all(i.count("/") == 1 for i in ids) and Apart(_PICTURES, [""] * len(ids)).keeps(ids)
        names = write_images(data, folder, ids if stays(ids) and flat else None, apart.place, progress)
        for part in (_NOTES, _SETS):
            (folder / part).mkdir(parents=True)
        said: dict[int, list[str]] = {r: [] for r in np.flatnonzero(data.known("boxes")).tolist()}
        who = data.sources["who"].to_pylist()
        for one in data.of_kind("boxes").to_pylist():
            if who[one["source"]] != MODEL and (-1 if one["class"] is None else one["class"]) >= 0:
                said[one["row"]].append(_object(data.names[one["class"]], one))
        for row, objects in said.items():
            height, width = measure(folder / names[row], names[row])
            leaf = names[row].rpartition("/")[2]
            size = f"<size><width>{width}</width><height>{height}</height></size>"
            head = f"<annotation>\n<folder>{_PICTURES}</folder><filename>{escape(leaf)}</filename>{size}\n"
            file = folder / _NOTES / f"{leaf.rpartition('.')[0]}.xml"
            file.write_text(head + "".join(objects) + "</annotation>\n", encoding="utf-8", newline="\n")
        for word in ("train", "val", "test"):
            mine = [names[r].rpartition("/")[2].rpartition(".")[0] for r in np.flatnonzero(split == word)]
            if mine:
                text = "".join(f"{stem}\n" for stem in mine)
                (folder / _SETS / f"{word}.txt").write_text(text, encoding="utf-8", newline="\n")
        return names


def parsed(file: Path) -> ET.Element:
    """A small XML file; DataError where it is none.  No document type and so no entity is believed."""
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST + 1)
        if len(text) > _MOST:
            raise DataError(f"larger than {_MOST >> 20} MiB", where=file)
        checker = expat.ParserCreate()
        checker.StartDoctypeDeclHandler = _refused
        checker.Parse(text, True)
        return ET.fromstring(text)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=file) from None
    except (expat.ExpatError, ET.ParseError, ValueError, LookupError) as error:
        raise DataError(f"not readable XML: {' '.join(str(error).split())[:100]}", where=file) from None


def _refused(*_: object) -> None:
    raise ValueError("it declares a document type (DTD), which is never followed")


def _is_voc(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return b"<annotation" in stream.read(4096)
    except OSError:
        return False


def _row(rows: Rows, file: str, tree: ET.Element) -> int:
    """The image that a file is about: of its name in JPEGImages/ or images/, beside it, or the one it names."""
    folder, _, leaf = file.rpartition("/")
    stem = leaf.rpartition(".")[0]
    named = (tree.findtext("filename") or "").strip()
    endings = dict.fromkeys([f".{named.rpartition('.')[2]}" if "." in named else ".jpg", ".jpg", ".jpeg", ".png"])
    above, _, last = folder.rpartition("/")
    tops = [folder, *([f"{above}/{word}" for word in (_PICTURES, "images")] if last == _NOTES else [])]
    for top in tops:
        for name in [*(stem + ending for ending in endings), named]:
            if (row := rows.exact(f"{top}/{name}".lstrip("/"))) is not None:
                return row
    try:
        return rows.find(stem)
    except Doubt:
        if not named:
            raise
        return rows.find(named)


def _fits(tree: ET.Element, height: int, width: int, name: str) -> None:
    """Doubt where the file was made for another size of image; many programs write 0."""
    said = [(tree.findtext(f"size/{word}") or "0").strip() for word in ("width", "height")]
    if said not in (["0", "0"], [str(width), str(height)]):
        raise Doubt(f"says {said[0][:20]} x {said[1][:20]} pixels, {name} has {width} x {height}: not used")


def _objects(
    file: str, tree: ET.Element, row: int, height: int, width: int, classes: Classes, said: Objects, faults: list[Fault]
) -> None:
    """What a file says of its image."""
    said.look("boxes", row)
    for at, one in enumerate(tree.findall("object"), 1):
        where = f"{file}: object {at}"
        try:
            number = classes.number(one.findtext("name") or "")
            x0, y0, x1, y1 = (_number(one, word) for word in ("xmin", "ymin", "xmax", "ymax"))
            if x1 <= x0 or y1 <= y0:  # a box drawn by a click, not one of a single pixel
                raise ValueError(f"a box without area: from {x0:g}, {y0:g} to {x1:g}, {y1:g}")
            frame, odd = fitted(x0 - 1, y0 - 1, x1, y1, height, width)
        except ValueError as error:
            faults.append(Fault(where, str(error)))
            said.look("boxes", row, complete=False)
            continue
        if odd:
            faults.append(Fault(where, odd))
        ignored = (one.findtext("difficult") or "").strip() in ("1", "true")
        said.add("boxes", row, number, frame, None, IGNORED if ignored else None)


def _number(one: ET.Element, word: str) -> float:
    text = (one.findtext(f"bndbox/{word}") or "").strip()
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{word} is {text[:40]!r}, expected a number") from None


def _splits(root: Path, names: list[str]) -> np.ndarray:
    """The split of each image: as ImageSets/Main says, in any folder that has one; else as its folder says."""
    out = np.array([split_of(n) for n in names], object)
    stems: dict[tuple[str, str], list[int]] = {}
    for row, name in enumerate(names):
        parts = name.split("/")
        stems.setdefault(("/".join(parts[:-2]), parts[-1].rpartition(".")[0]), []).append(row)
    for top in {above for above, _ in stems}:
        lists = {w: _lines(root / top / _SETS / f"{w}.txt") for w in ("trainval", "train", "val", "test")}
        whole = lists.pop("trainval")
        if not lists["train"] and not lists["val"]:
            lists["train"] = whole
        for word, listed in lists.items():
            for stem in listed:
                out[stems.get((top, stem), [])] = word
    return out


def _lines(file: Path) -> list[str]:
    """First words of the lines of a list; [] where there is none."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return [line.split()[0] for line in stream.read(64 << 20).splitlines() if line.strip()]
    except OSError:
        return []


def _object(name: str, one: dict[str, object]) -> str:
    x0, y0, x1, y1 = (float(one[k]) for k in ("x0", "y0", "x1", "y1"))  # type: ignore[arg-type]
    ignored = int(one["value"] is not None and float(one["value"]) <= 0.5)  # type: ignore[arg-type]
    if _CONTROL.search(name):
        raise DataError("a class whose name XML cannot hold", where=name, fix="Write COCO (--to coco).")
    box = "".join(f"<{k}>{v:.9g}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), (x0 + 1, y0 + 1, x1, y1)))
    return f"<object><name>{escape(name)}</name><difficult>{ignored}</difficult><bndbox>{box}</bndbox></object>\n"
