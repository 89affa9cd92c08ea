"""What an exported detector finds in image files: boxes, COCO's JSON and pictures, without PyTorch."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from modicum.core.disk import whole
from modicum.core.errors import DataError
from modicum.core.space import writing
from modicum.data.images import decode
from modicum.deploy.made import HEAD, LABELS, PICTURES, RESULTS, refuse_others
from modicum.deploy.predict import OnnxModel, files_of, free_name, model_of
from modicum.deploy.suppress import Located
from modicum.report import pictures
from modicum.report.masks import colour

SURE = 0.5  # score from which on a box is a label, and drawn
LARGEST, SMALLEST = 1600, 256  # pixels of the longer side of a drawn picture
TEXT = 12  # pixels of a letter in it


class Boxes(NamedTuple):
    """The boxes of one image.  id: its path.  pixels: as stored, (H,W,c).  found: in its pixels, of `classes`.
    fault: why the image could not be read; then there are no pixels and no boxes."""

    id: str
    pixels: np.ndarray
    found: Located
    classes: tuple[str, ...]
    fault: str = ""

    def counts(self, sure: float = SURE) -> dict[str, int]:
        """How many there are of each class, of a score of `sure` or more, the commonest class first."""
        cls = Counter(self.found.cls[self.found.score >= sure].tolist())
        return {self.classes[c]: n for c, n in cls.most_common()}


def find_boxes(model: Path | str | OnnxModel, images: Iterable[Path | str]) -> Iterator[Boxes]:
    """The boxes in image files and in the images below folders, in order, of a score above 0.05, at most 100 an image.

    model: the file that `export` wrote, or a run's folder.  ModelError for a network that finds no boxes, at once and
    not at the first image.  Memory is that of one image.
    """
    net = model if isinstance(model, OnnxModel) else model_of(model)
    net.refuse_plain("boxes")
    return _find(net, images)


def _find(net: OnnxModel, images: Iterable[Path | str]) -> Iterator[Boxes]:
    none = Located(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))
    for path in files_of(images):
        try:
            pixels = decode(path)
            yield Boxes(str(path), pixels, next(net.boxes([pixels])), net.classes)
        except DataError as error:
            yield Boxes(str(path), np.empty((0, 0, 1), np.uint8), none, net.classes, error.found)


# -- to disk -----------------------------------------------------------------------------------------------------------


def write_boxes(
    model: Path | str, images: Iterable[Path | str], folder: Path, *, sure: float = SURE,
    told: Callable[[int, int, Boxes], None] = lambda done, total, boxes: None,
) -> int:  # fmt: skip
    """Write what is found into a folder; -> how many images could be read.

    results.json: COCO's results, image_id, category_id, bbox and score of every box.  instances.json: a COCO data set
    of the boxes whose score is `sure` or more; `fit` takes it for labels where the folder is called annotations and
    lies beside, or above, the images.  pictures/: each image with those boxes.  The numbers of images and classes are
    those of instances.json.  Pictures that lie in the folder are not looked at; SettingsError for tables there that
    somebody else wrote.  Files are whole or not there.
    told: called with (images done, images, what was found in this one).
    """
    net = model_of(model)
    net.refuse_plain("boxes")
    refuse_others(folder)
    files = [p for p in files_of(images) if not p.absolute().is_relative_to(folder.absolute())]
    root, good, taken = root_of(files, folder), 0, set[str]()
    with writing(folder, "boxes"), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        labels, results = (stack.enter_context(whole(folder / name)) for name in (LABELS, RESULTS))
        with labels.open("w", encoding="utf-8") as one, results.open("w", encoding="utf-8") as other:
            pages = _Pages(one, other, net, sure)
            for done, boxes in enumerate(find_boxes(net, files), 1):
                if not boxes.fault:
                    good += 1
                    pages.add(boxes, root)
                    name = free_name(Path(boxes.id), ".jpg", taken)
                    with whole(folder / PICTURES / name) as making:
                        drawn(boxes, sure).save(making, "JPEG", quality=92, subsampling=0)
                told(done, len(files), boxes)
            pages.end()
        if not good:
            fix = "Give image files, or folders of them."
            raise DataError("no image could be read", where=", ".join(map(str, files[:3])) or folder, fix=fix)
    return good


def root_of(files: Sequence[Path], folder: Path) -> Path:
    """What names in instances.json begin at: the place of the folder, if all images lie there, else what they share."""
    home, above = folder.absolute().parent, [str(p.absolute().parent) for p in files]
    if all(Path(a).is_relative_to(home) for a in above):
        return home
    try:
        return Path(os.path.commonpath(above))
    except ValueError:
        fix = "Give those of one drive at a time."
        raise DataError("images of several drives", where=files[0], fix=fix) from None


class _Pages:
    """The two JSON files, box by box; names of images wait in memory."""

    def __init__(self, labels: TextIO, results: TextIO, net: OnnxModel, sure: float) -> None:
        self.labels, self.results, self.sure = labels, results, sure
        self.images: list[tuple[str, int, int]] = []
        self.boxes, self.sound = 0, 0
        about = f'{HEAD}, "net": {_json(net.net)}, "least_score": {_json(sure)}}}'
        categories = [{"id": i + 1, "name": n, "supercategory": ""} for i, n in enumerate(net.classes)]
        self.labels.write(f'{about},\n"categories": {_json(categories)},\n"annotations": [')
        self.results.write("[")

    def add(self, boxes: Boxes, root: Path) -> None:
        name, (height, width) = Path(boxes.id).absolute().relative_to(root).as_posix(), boxes.pixels.shape[:2]
        self.images.append((name, height, width))
        corners = boxes.found.xyxy.astype(np.float64).round(2)
        for (x0, y0, x1, y1), cls, score in zip(corners.tolist(), boxes.found.cls.tolist(), boxes.found.score.tolist()):
            w, h = round(x1 - x0, 2), round(y1 - y0, 2)
            if w <= 0 or h <= 0:
                continue
            entry: dict[str, Any] = {"image_id": len(self.images), "category_id": cls + 1, "bbox": [x0, y0, w, h]}
            entry["score"] = round(score, 5)
            self.results.write((",\n" if self.boxes else "\n") + _json(entry))
            self.boxes += 1
            if score >= self.sure:
                own = {"id": self.sound + 1, **entry, "area": round(w * h, 2), "iscrowd": 0}
                self.labels.write((",\n" if self.sound else "\n") + _json(own))
                self.sound += 1

    def end(self) -> None:
        self.results.write("\n]\n")
        self.labels.write('\n],\n"images": [')
        for i, (name, height, width) in enumerate(self.images, 1):
            entry = {"id": i, "file_name": name, "height": height, "width": width}
            self.labels.write((",\n" if i > 1 else "\n") + _json(entry))
        self.labels.write("\n]}\n")


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def drawn(boxes: Boxes, sure: float = SURE) -> Image.Image:
    """The picture with its boxes, their classes and scores: RGB, the longer side SMALLEST to LARGEST pixels."""
    shown = pictures.shrink(pictures.rgb(boxes.pixels), LARGEST)
    shown = pictures.enlarged(shown, max(1, SMALLEST // max(shown.shape[:2])))
    out = Image.fromarray(shown)
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(TEXT)
    scale = np.array([out.width / boxes.pixels.shape[1], out.height / boxes.pixels.shape[0]] * 2)
    for box, cls, score in reversed([*zip((boxes.found.xyxy * scale).round().astype(int).tolist(), *boxes.found[1:])]):
        if score >= sure:
            corners = (box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1))
            tint = tuple(colour(int(cls)).tolist())
            draw.rectangle(corners, outline=tint, width=2)
            text = f"{boxes.classes[int(cls)][:24]} {score:.2f}"
            size = (draw.textlength(text, font), TEXT + 2)
            x, y = max(0, min(corners[0], out.width - size[0])), max(0, corners[1] - size[1])
            draw.rectangle((x, y, x + size[0], y + size[1]), fill=tint)
            dark = np.dot(tint, [0.299, 0.587, 0.114]) > 120
            draw.text((x, y), text, fill="black" if dark else "white", font=font)
    return out
