"""Prediction from the ONNX file with onnxruntime, Pillow and numpy: torch is never imported."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modicum.core.errors import DataError, ModelError
from modicum.data.images import decode, resize, square
from modicum.deploy.export import open_session

Image = Path | str | np.ndarray


class Prediction(NamedTuple):
    """One image's answer: probs, float32 (C,), for `classes`, of which `name` has the largest, `confidence`.

    fault: why the image could not be read; then name is '', confidence NaN and probs empty.
    """

    id: str
    name: str
    confidence: float
    probs: np.ndarray
    classes: tuple[str, ...]
    fault: str = ""


def predict(
    model: Path | str, images: Iterable[Path | str], batch: int = 64, threads: int = 1
) -> Iterator[Prediction]:
    """Answers for image files and for the images below folders, in order; a folder's unreadable ones are faults too.

    model: the file that `export` wrote, or the run's folder that holds it as model.onnx.  ModelError if it cannot be
    used, at once and not at the first image.
    """
    path = Path(model)
    return OnnxModel(path / "model.onnx" if path.is_dir() else path, threads).predict(_files(images), batch)


def _files(images: Iterable[Path | str]) -> Iterator[Path]:
    for image in map(Path, images):
        if not image.is_dir():
            yield image
            continue
        from modicum.data.walk import walk

        names, faults = walk(image)
        yield from (image / name for name in sorted([*names, *(f.where for f in faults)]))


class OnnxModel:
    """A file that `deploy.export` wrote.

    classes: names in the order of probs.  side, channels, dtype: of the images the net takes.  temperature: None where
    not calibrated.  threads: that onnxruntime may use.  ModelError for a file that is missing, cut or not ours.
    """

    def __init__(self, path: Path | str, threads: int = 1) -> None:
        path = Path(path)
        if not path.is_file():
            raise ModelError("no such file", where=path, fix="Export the run first: modicum export RUN.")
        # From memory: a file from outside must not name further files to read.
        self._session = open_session(path.read_bytes(), path, threads)
        props = self._session.get_modelmeta().custom_metadata_map
        try:
            self.classes: tuple[str, ...] = tuple(map(str, json.loads(props["classes"])))
            self.side, self.channels, self.shorter = (int(props[k]) for k in ("side", "channels", "shorter"))
            self.dtype = {"uint8": np.dtype(np.uint8), "uint16": np.dtype(np.uint16)}[props["dtype"]]
            self.temperature: float | None = json.loads(props["temperature"])
            given, (logits, probs) = self._session.get_inputs(), self._session.get_outputs()
            shape = (given[0].name, *given[0].shape[1:], len(given), logits.name, probs.name, probs.shape[1])
            if shape != ("images", self.side, self.side, self.channels, 1, "logits", "probs", len(self.classes)):
                raise ValueError
        except (KeyError, ValueError, TypeError, IndexError, RecursionError):
            raise ModelError(
                "an ONNX file, but not one that Modicum exported", where=path, fix="Export the run: modicum export RUN."
            ) from None

    def fit(self, array: np.ndarray) -> np.ndarray:
        """An image (H,W,c), uint8 or uint16 -> what the net takes: (side,side,channels) of its dtype."""
        if array.ndim == 2:
            array = array[..., None]
        kinds, depths = (np.uint8, np.uint16), (1, 3)
        if array.ndim != 3 or array.dtype not in kinds or array.shape[2] not in depths or not array.size:
            raise DataError(
                f"an array {array.shape} of {array.dtype} is not an image",
                fix="Give (H,W), (H,W,1) or (H,W,3), uint8 or uint16.",
            )
        array = square(resize(array, self.shorter), self.side, self.channels)
        if array.dtype == self.dtype:
            return array
        return array * np.uint16(257) if self.dtype == np.uint16 else ((array + np.uint32(128)) // 257).astype(np.uint8)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B,side,side,channels) of the net's dtype -> logits and probs, float32 (B,C) each."""
        logits, probs = self._session.run(["logits", "probs"], {"images": np.ascontiguousarray(images)})
        return logits, probs

    def predict(self, images: Iterable[Image], batch: int = 64) -> Iterator[Prediction]:
        """Answers in the order of the images: paths, or arrays (H,W,c) whose id is their position.

        Memory is that of one batch.  An image that cannot be read gives a Prediction with a fault.
        """
        held: list[Prediction | tuple[str, np.ndarray]] = []
        for position, image in enumerate(images):
            name = str(position) if isinstance(image, np.ndarray) else str(image)
            try:
                held.append((name, self.fit(image if isinstance(image, np.ndarray) else decode(Path(image)))))
            except DataError as error:
                held.append(self._fault(name, error.found))
            if len(held) == batch:
                yield from self._answer(held)
                held = []
        yield from self._answer(held)

    def _fault(self, name: str, why: str) -> Prediction:
        return Prediction(name, "", float("nan"), np.empty(0, np.float32), self.classes, why)

    def _answer(self, held: list[Prediction | tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        pixels = [item[1] for item in held if not isinstance(item, Prediction)]
        rows = iter(self.run(np.stack(pixels))[1] if pixels else ())
        for item in held:
            if isinstance(item, Prediction):
                yield item
                continue
            probs = next(rows)
            best = int(probs.argmax())
            yield Prediction(item[0], self.classes[best], float(probs[best]), probs, self.classes)
