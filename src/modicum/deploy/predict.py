"""Prediction from the ONNX file with onnxruntime, Pillow and numpy: torch is never imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modicum.core import form
from modicum.core.errors import DataError, ModelError
from modicum.core.form import SIZES
from modicum.data.images import decode, resize, square
from modicum.data.names import safe
from modicum.deploy.export import FORMAT, open_session
from modicum.deploy.made import aside
from modicum.deploy.seal import opened
from modicum.deploy.suppress import Located, found
from modicum.functional.drafts import class_map
from modicum.runs.run import Run

Image = Path | str | np.ndarray
MOST = 2**31
_FLOATS = "tensor(float)"
_AGAIN = "Export the run: modicum export RUN."
_FORM = {
    "classes": [form.LABEL], "side": SIZES["side"], "channels": SIZES["channels"],
    "shorter": range(SIZES["side"][-1] + 1), "temperature": (float, None), "net": str, "dtype": str,
    "tells": str,
}  # fmt: skip


class Prediction(NamedTuple):
    """One image's answer: probs, float32 (C,), for `classes`, of which `name` has the largest, `confidence`.

    fault: why the image could not be read; then name is '', confidence NaN and probs empty.  many: each class is a yes
    or no of its own, as with tags, masks and boxes.
    """

    id: str
    name: str
    confidence: float
    probs: np.ndarray
    classes: tuple[str, ...]
    fault: str = ""
    many: bool = False

    @property
    def told(self) -> tuple[str, ...]:
        """What is in the image: `name`; where there may be many classes, those of a probability above one half, the
        largest first."""
        if self.fault or not self.many:
            return (self.name,) * (not self.fault)
        return tuple(self.classes[c] for c in np.argsort(-self.probs, kind="stable") if self.probs[c] > 0.5)


def predict(model: Path | str, images: Iterable[Path | str], batch: int = 64, threads: int = 1) -> Iterator[Prediction]:
    """Answers for image files and for the images below folders, in order; a folder's unreadable ones are faults too.

    model: the file that `export` wrote, or the run's folder that holds it as model.onnx.  ModelError if it cannot be
    used, at once and not at the first image.
    """
    return model_of(model, threads).predict(files_of(images), batch)


def model_of(model: Path | str, threads: int = 1) -> OnnxModel:
    """The file that `export` wrote, or that of a run's folder, which must be its own network's; else a ModelError,
    which says why where the run's network could not be exported."""
    path = Path(model)
    if not path.is_dir():
        return OnnxModel(path, threads)
    if not (path / "model.onnx").is_file():
        Run(path).refuse_held()
        said = Run(path).read("export.json") if (path / "export.json").is_file() else {}
        if said.get("refused"):
            raise ModelError(f"not exported: {said['refused']}", where=path, fix=str(said.get("fix", "")))
    own = OnnxModel(path / "model.onnx", threads)
    _of_this_run(own, path)
    return own


def _of_this_run(model: OnnxModel, run: Path) -> None:
    """ModelError where a run's model.onnx was exported from other weights than its net.json names."""
    if (run / "net.json").exists():
        page = form.load(run / "net.json", {"sha256": str, ...: object}, ModelError, "Copy it again from its run.")
        if page["sha256"] != model.net:
            found = "not exported from the network in this folder: it is older, or of another run"
            raise ModelError(found, where=run / "model.onnx", fix=f"Export it again: modicum export {run}")


def free_name(image: Path, ending: str, taken: set[str]) -> str:
    """The name of a file about an image that no other image of this call has, also where letters have no case."""
    stem = safe(image.stem)[:60]
    name, n = f"{stem}{ending}", 1
    while name.casefold() in taken:
        name, n = f"{stem}-{n}{ending}", n + 1
    taken.add(name.casefold())
    return name


def files_of(images: Iterable[Path | str]) -> Iterator[Path]:
    """Files as they are given, and those below folders, in order, with those that cannot be read as images.
    Sub folders of masks, or of what predict drew, are passed over."""
    for image in map(Path, images):
        if not image.is_dir():
            yield image
            continue
        from modicum.data.walk import each

        own: dict[Path, bool] = {Path(): False}
        for name in each(image):
            above = Path(name).parents
            for folder in above:
                if folder not in own:
                    own[folder] = aside(image / folder)
            if not any(own[folder] for folder in above):
                yield image / name


def _properties(props: dict[str, str], path: Path) -> dict[str, Any]:
    """What the file says of itself, as values."""
    texts = ("net", "dtype", "tells")
    if (number := props.get("format", "")).isdecimal() and int(number[:9]) > FORMAT:
        raise ModelError(f"its format is {number[:9]}, this version reads {FORMAT}", where=path, fix=form.NEWER)
    try:
        values = {k: props[k] if k in texts else form.parse(props[k]) for k in (*_FORM, "format")}
        wrong = form.misfit(values, _FORM | {"format": range(FORMAT, FORMAT + 1)})
    except KeyError as key:
        wrong = f"{key} is missing"
    except ValueError as error:
        wrong = str(error)
    known = {"dtype": ("uint8", "uint16"), "tells": ("class", "tags", "masks", "boxes")}
    if wrong := wrong or next((k for k, words in known.items() if values[k] not in words), ""):
        raise ModelError(f"what the file says of itself is damaged: {wrong}", where=path, fix=_AGAIN)
    return values


class OnnxModel:
    """A file that `deploy.export` wrote.

    classes: names in the order of probs.  side, channels, dtype: of the images the net takes.  tells: class, tags,
    masks or boxes; many: whether each class is a yes or no of its own.  temperature: None where not calibrated.
    segments, finds: whether it has masks, boxes.  net: sha256 of the weights it was exported from.  threads: that
    onnxruntime may use.  ModelError for a file that is missing, damaged or not ours (see `deploy.seal`).
    """

    def __init__(self, path: Path | str, threads: int = 1) -> None:
        self.path = path = Path(path)
        if not path.is_file():
            raise ModelError("no such file", where=path, fix="Export the run first: modicum export RUN.")
        if path.stat().st_size >= MOST:
            raise ModelError("an ONNX file of 2 GiB or more", where=path, fix="Export the run: modicum export RUN.")
        # From memory: a file from outside must not name further files to read.
        content = path.read_bytes()
        props = _properties(opened(content, path), path)
        self.classes: tuple[str, ...] = tuple(props["classes"])
        self.side, self.channels, self.shorter = (int(props[k]) for k in ("side", "channels", "shorter"))
        self.dtype = np.dtype(props["dtype"])
        self.tells: str = props["tells"]
        self.many = self.tells != "class"
        self.temperature: float | None = props["temperature"]
        self.net: str = props["net"]
        self._session = open_session(content, path, threads)
        try:
            ends = [(e.name, e.type, *e.shape[1:]) for e in (*self._session.get_inputs(), *self._session.get_outputs())]
        except (ValueError, TypeError, RuntimeError):  # a name that is no text
            ends = []
        told: list[tuple[Any, ...]] = [("images", f"tensor({self.dtype})", self.side, self.side, self.channels)]
        told += [(name, _FLOATS, len(self.classes)) for name in ("logits", "probs")]
        more = ends[len(told) :] if ends[: len(told)] == told else [()]
        self.segments = more == [("masks", _FLOATS, len(self.classes) + 1, self.side, self.side)]
        self.positions = more[0][2] if len(more) == 2 and len(more[0]) == 4 else 0
        places = [("xyxy", _FLOATS, self.positions, 4), ("score", _FLOATS, self.positions, len(self.classes))]
        self.finds = more == places and type(self.positions) is int and 0 < self.positions <= 2 * self.side**2
        if more and not self.segments and not self.finds:
            raise ModelError("its inputs and outputs are not those it names", where=path, fix=_AGAIN)

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
        try:
            logits, probs = self._session.run(["logits", "probs"], {"images": np.ascontiguousarray(images)})
        except Exception as error:  # onnxruntime's errors share no base class
            why = " ".join(str(error).split())[:160]
            found = f"the network failed on {len(images)} images: {why}"
            raise ModelError(found, where=self.path, fix=_AGAIN) from None
        if logits.shape != (len(images), len(self.classes)) or probs.shape != logits.shape:
            found = f"the network answers {len(images)} images with numbers of shape {probs.shape}"
            raise ModelError(found, where=self.path, fix=_AGAIN)
        return logits, probs

    def refuse_plain(self, kind: str) -> None:
        """ModelError where the network says nothing of this kind, "masks" or "boxes"."""
        if not {"masks": self.segments, "boxes": self.finds}[kind]:
            what = {"masks": "says nothing of pixels", "boxes": "finds no boxes"}[kind]
            fix = f"Train with `--want {kind}`, and export that run."
            raise ModelError(f"a network that {what}: it tells {self.tells}", where=self.path, fix=fix)

    def masks(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The class map of each image (H,W,c), uint8 (H,W): 0 background, c + 1 class c.  ModelError where the network
        says nothing of pixels.

        One image at a time: a batch of logits a pixel is large.
        """
        self.refuse_plain("masks")
        for image in images:
            logits = self._one(image, {"masks": (len(self.classes) + 1, self.side, self.side)})[0]
            yield class_map(logits, image.shape[:2])

    def boxes(self, images: Iterable[np.ndarray]) -> Iterator[Located]:
        """The boxes in each image (H,W,c), in its pixels.  ModelError where the network finds no boxes."""
        self.refuse_plain("boxes")
        shapes = {"xyxy": (self.positions, 4), "score": (self.positions, len(self.classes))}
        for image in images:
            xyxy, score = self._one(image, shapes)
            said = found(xyxy, score, (self.side, self.side))
            height, width = image.shape[:2]
            yield said._replace(xyxy=said.xyxy * (np.array([width, height, width, height], np.float32) / self.side))

    def _one(self, image: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> list[np.ndarray]:
        """What is said of one image under these names.  ModelError where it has another shape; DataError, which is
        about the image alone, where it is not finite."""
        fitted = np.ascontiguousarray(self.fit(image)[None])
        try:
            said = [part[0] for part in self._session.run(list(shapes), {"images": fitted})]
        except Exception as error:  # onnxruntime's errors share no base class
            why = " ".join(str(error).split())[:160]
            raise ModelError(f"the network failed on an image: {why}", where=self.path, fix=_AGAIN) from None
        if wrong := [name for part, (name, shape) in zip(said, shapes.items()) if part.shape != shape]:
            raise ModelError(f"its {wrong[0]} have another shape than it says", where=self.path, fix=_AGAIN)
        if not all(np.isfinite(part).all() for part in said):
            raise DataError("the network's answer is not a number", where=self.path, fix="Leave this image out.")
        return said

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
        return Prediction(name, "", float("nan"), np.empty(0, np.float32), self.classes, why, self.many)

    def _answer(self, held: list[Prediction | tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        pixels = [item[1] for item in held if not isinstance(item, Prediction)]
        rows = iter(self.run(np.stack(pixels))[1] if pixels else ())
        for item in held:
            if isinstance(item, Prediction):
                yield item
                continue
            probs = next(rows)
            if not np.isfinite(probs).all():
                yield self._fault(item[0], "the network's answer is not a number")
                continue
            best = int(probs.argmax())
            yield Prediction(item[0], self.classes[best], float(probs[best]), probs, self.classes, many=self.many)
