"""What an exported segmenter says of image files, as PNG files of class numbers, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modicum.core.disk import whole
from modicum.core.errors import DataError
from modicum.core.space import writing
from modicum.data.images import decode
from modicum.deploy.made import CLASSES, GROUND, MARK, refuse_others
from modicum.deploy.predict import files_of, free_name, model_of


class Mask(NamedTuple):
    """id: the image's path.  file: the PNG's name.  shares: of the image, by class, the largest first; without those
    that are not in it.  fault: why the image could not be read; then there is no file."""

    id: str
    file: str
    shares: dict[str, float]
    fault: str = ""


def write_masks(model: Path | str, images: Iterable[Path | str], folder: Path) -> Iterator[Mask]:
    """Write a PNG of class numbers (0 background, 1 the first class) for each image, and classes.txt beside them.

    The folder is a `masks/` that `fit` reads, once `images/` lies beside it.  Memory is that of one image.  ModelError
    for a network that says nothing of pixels, SettingsError for a folder that holds other pictures: at once and not at
    the first image.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", MARK)
    net, taken = model_of(model), set[str]()
    net.refuse_plain("masks")
    refuse_others(folder, masks=True)
    with writing(folder, "masks"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CLASSES).write_text("\n".join((GROUND, *net.classes)) + "\n", encoding="utf-8")
    for path in files_of(images):
        try:
            labels = next(net.masks([decode(path)]))
        except DataError as error:
            yield Mask(str(path), "", {}, error.found)
            continue
        name = free_name(path, ".png", taken)
        with writing(folder / name, "a mask"), whole(folder / name) as making:
            Image.fromarray(labels).save(making, "PNG", pnginfo=mark)
        yield Mask(str(path), name, shares(labels, net.classes))


def shares(labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """How much of a class map (H,W) each class has, the largest first, without those that have nothing."""
    count = np.bincount(labels.ravel(), minlength=len(classes) + 1)[1:]
    order = [int(c) for c in np.argsort(-count, kind="stable") if count[c]]
    return {classes[c]: float(count[c] / labels.size) for c in order}


