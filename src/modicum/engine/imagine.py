"""Imaginary images: a method of that role makes them, here they are kept, and put beside real ones.

As a step of a chain they lie in made/NAME, whole or not at all, so that a run that was killed takes them up.  They are
rows of the training set with the domain `imaginary`, whose tags a model has said; what comes after training, pictures,
measures and predictions, is about the real images alone (`without`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw

from modicum.core import draws, form, registry
from modicum.core.dataset import MODEL, Dataset
from modicum.core.disk import whole_folder
from modicum.core.errors import DataError, NeedsError, RunError, SettingsError
from modicum.core.method import Doors, Imagine, Imagined
from modicum.core.recipe import parse_call
from modicum.core.space import writing
from modicum.data import cache
from modicum.data.cutouts import cutouts
from modicum.data.images import square
from modicum.data.lines import write_csv
from modicum.data.names import name_of, safe
from modicum.data.store import new_folder, png
from modicum.engine.arms import Bench
from modicum.nn import ranks

if TYPE_CHECKING:
    from modicum.engine.fit import Job

DOMAIN, LABELS = "imaginary", "labels.csv"
SHOWN, SMALL = 10, 96  # pictures of a class on a sheet, and their side
_IMAGES, _COUNT, _SHEET = "images.npy", "count.json", "sheet.png"

Tick = Callable[[int, int], None]


@dataclass
class Made:
    """What was made.  images: uint8 (N,S,S,3); of a set that was written, those of its sheet alone.  data: tags and
    captions of all.  painted: with those turned down."""

    images: np.ndarray
    data: Dataset
    painted: int

    @property
    def said(self) -> str:
        """Its numbers in a sentence."""
        n, out = len(self.data), self.painted - len(self.data)
        rest = f"; {out:,} of {self.painted:,} ({out / self.painted:.0%}) were turned down by the filter" if out else ""
        return f"{n:,} imaginary images of {len(self.data.names)} classes{rest}"


def doors() -> Doors:
    """What methods that make images are lent; libraries are imported when a door is opened."""
    from modicum.models.brush import brush
    from modicum.models.language import language

    return Doors(language, brush, cutouts, judge)


def judge(place: str, names: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Images uint8 (B,S,S,3) -> probabilities (B,C) of these classes, by the classifier of a finished run."""
    import torch

    from modicum.engine.table import Finished

    done = Finished.open(place)
    known, tells = list(done.meta["classes"]), done.meta["tells"]
    if tells != "class" or (lacking := [n for n in names if n not in known]):
        what = f"its network tells {tells}" if tells != "class" else f"it does not know {', '.join(lacking[:5])}"
        raise NeedsError(what, where=f"filter {place}", fix="Give a run that tells the class, of these classes.")
    order = [known.index(n) for n in names]

    def tell(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = done.net(done.batch([*images])).logits.float() / (done.meta.get("temperature") or 1.0)
        return np.asarray(logits.softmax(1).numpy()[:, order])

    return tell


# -- making ------------------------------------------------------------------------------------------------------------


def imagine(
    names: Sequence[str] | str, out: str | Path, method: str = "", seed: int = 0, progress: Tick | None = None,
    **settings: Any,
) -> Made:  # fmt: skip
    """Make images of named classes and write them as a set that `fit` reads: PNG files, and labels.csv with a tag
    for each class and the sentence behind each image.  A sheet of some lies beside the folder, as OUT-sheet.png.

    names: of the classes.  out: a new folder, which appears whole or not at all.  method: of role imagine; '' = the
    usual one.  settings: of the method.  DataError, NeedsError and SettingsError say what is missing and what to do.
    """
    known = registry.cards("imagine")
    method = method or min(known, key=lambda n: (known[n].cost, n))
    if method not in known:
        fix = f"Known: {', '.join(known)}."
        raise NeedsError(f"{method} is not a method to make images with", where="imagine", fix=fix)
    cls = registry.load(method)
    made, names = cls.of({**cls.presets["small"], **settings}, where=method), _named(names)
    place, number = Path(out), made.many(len(names), 0)
    with new_folder(place) as making:
        ids, images, tags, captions, painted = [], list[np.ndarray](), [], [], 0
        for painted, done, one in pictures(made, names, number, seed, method, progress):  # noqa: B007
            ids.append(f"{done // number:03d}-{safe(names[done // number])[:80]}-{done % number + 1:05d}.png")
            (making / ids[-1]).write_bytes(png(one.pixels))
            tags.append(one.tags)
            captions.append(one.caption)
            if done % number < SHOWN:
                images.append(one.pixels)
        heads = ["image", "split", "domain", *(f"tag:{n}" for n in names), "caption"]
        rows = ([i, "train", DOMAIN, *map(str, t), c] for i, t, c in zip(ids, tags, captions, strict=True))
        write_csv(making / LABELS, heads, rows)
    shown = sheet(np.stack(images), names, min(number, SHOWN))
    with writing(place.parent, "the sheet of images"):
        shown.save(place.with_name(f"{place.name}-sheet.png"))
    return Made(np.stack(images), _told(ids, names, np.stack(tags), captions, images[0].shape[0], method), painted)


def pictures(
    method: Imagine, names: Sequence[str], number: int, seed: int, name: str, progress: Tick | None = None
) -> Iterator[tuple[int, int, Imagined]]:
    """(painted so far, number of the image from 0, image) for those that are kept, `number` of each class in order."""
    total, done = number * len(names), 0
    rng = np.random.default_rng(draws.key(seed, "imagine", name))
    for painted, one in enumerate(method.imagine(names, number, rng, doors()), 1):
        if one.kept:
            yield painted, done, one
            done += 1
            if progress is not None:
                progress(done, total)
    if done != total:
        raise DataError(f"{done} images were made, {total} were asked for", where=name, fix="Report it, please.")


def _named(names: Sequence[str] | str) -> list[str]:
    """Names of classes as every set may have them, each once."""
    words = names.split(",") if isinstance(names, str) else names
    try:
        found = [name_of(w) for w in words]
    except ValueError as error:
        raise SettingsError(f"{error}", where="names", fix="Write them apart by commas: cat,dog.") from None
    if not all(found) or len({w.casefold() for w in found}) < len(found):
        what = "a name is empty" if not all(found) else "a class is named twice"
        raise SettingsError(what, where=",".join(words)[:60], fix="Write them apart by commas: cat,dog.")
    return found


def _told(
    ids: Sequence[str], names: Sequence[str], tags: np.ndarray, captions: Sequence[str], side: int, source: str
) -> Dataset:
    """What is said of imaginary images, by a model: a tag for every class, and the sentence."""
    bare = Dataset.build(ids, names, split="train", domain=DOMAIN, height=side, width=side, bits=8, channels=3)
    row, cls = (v.ravel() for v in np.indices(tags.shape))
    said: dict[str, Any] = {"class": cls, "value": tags.astype(np.float32).ravel()}
    bare = bare + bare.delta(source=source, who=MODEL, row=row, kind="tags", **said)
    text: dict[str, Any] = {"class": np.full(len(ids), -1), "data": [c.encode() for c in captions]}
    return bare + bare.delta(source=source, who=MODEL, row=np.arange(len(ids)), kind="text", **text)


def sheet(images: np.ndarray, names: Sequence[str], each: int) -> Image.Image:
    """A picture of pictures: a row for each class, its name above.  images: uint8 (C * each,S,S,3)."""
    line = SMALL + 16
    out = Image.new("RGB", (each * SMALL, len(names) * line), "white")
    pen = ImageDraw.Draw(out)
    for i, image in enumerate(images):
        small = Image.fromarray(square(image, SMALL, 3))
        out.paste(small, (i % each * SMALL, i // each * line + 16))
    for i, name in enumerate(names):
        pen.text((2, i * line + 2), name.encode("latin-1", "replace").decode("latin-1"), "black")
    return out


# -- as a step of a chain ----------------------------------------------------------------------------------------------


def grown(job: Job, bench: Bench, text: str) -> Bench:
    """The bench with imaginary images beside its own: made, and put into the run by the first rank, or taken up.

    text: the step as config.json has it, such as `imaginary-images:ratio=1`.
    """
    name, given = parse_call(text)
    cls, home = registry.load(name), job.run / "made" / name
    method = cls.of({**cls.presets.get(job.asked.preset, {}), **given}, where=name)
    names, real = bench.data.names, int((bench.pool & bench.pixels.good).sum())
    if not ranks.of_first(float(home.is_dir())):
        if not ranks.rank():
            tick = lambda done, total: job.listen.tick(name, done, total, {})  # noqa: E731
            with writing(job.run.folder, "images"):
                home.parent.mkdir(exist_ok=True)
                with whole_folder(home) as making:
                    _keep(making, method, names, method.many(len(names), real), bench.seed, name, tick)
        ranks.wait()
    made = taken(home, names)
    job.listen.say(f"{registry.card(name).title}: {made.said}, beside {real:,} real ones")
    return beside(bench, made)


def _keep(
    folder: Path, method: Imagine, names: Sequence[str], number: int, seed: int, name: str, progress: Tick
) -> None:
    """Make images into a folder: images.npy, their tags and captions, how many were painted, and a sheet."""
    images, tags, captions, painted = np.zeros(0, np.uint8), [], [], 0
    for painted, done, one in pictures(method, names, number, seed, name, progress):  # noqa: B007
        if not done:
            shape = (number * len(names), *one.pixels.shape)
            images = np.lib.format.open_memmap(folder / _IMAGES, "w+", np.uint8, shape)
        images[done] = one.pixels
        tags.append(one.tags)
        captions.append(one.caption)
    images.flush()  # type: ignore[attr-defined]
    ids = [f"{DOMAIN}/{names[i // number]}-{i % number + 1:05d}" for i in range(len(tags))]
    _told(ids, names, np.stack(tags), captions, one.pixels.shape[0], name).save(folder)
    (folder / _COUNT).write_text(json.dumps({"painted": painted}), encoding="utf-8")
    some = np.concatenate([images[i * number : i * number + SHOWN] for i in range(len(names))])
    sheet(some, names, min(number, SHOWN)).save(folder / _SHEET)


def taken(home: Path, names: Sequence[str]) -> Made:
    """Images as they lie in a run, mapped into memory; RunError where they are damaged or of other classes."""
    fix = "Remove this folder: its images are then made again."
    try:
        data = Dataset.load(home)
        images: np.ndarray = np.load(home / _IMAGES, mmap_mode="r", allow_pickle=False)
        painted = int(form.load(home / _COUNT, {"painted": range(1, 2**62)}, DataError, fix)["painted"])
        right = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3 and images.shape[2] > 0
    except (DataError, OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"cannot be read: {error}".splitlines()[0], where=home, fix=fix) from None
    if not right or len(images) != len(data) or data.names != tuple(names) or painted < len(data):
        raise RunError("these images are not those that this run made", where=home, fix=fix)
    return Made(images, data, painted)


def beside(bench: Bench, made: Made) -> Bench:
    """The bench with these images after its own: all of them may be trained on, and nobody else's rows move."""
    before, images = len(bench.data), made.images
    if bench.channels == 1:
        images = np.stack([square(image, image.shape[0], 1) for image in images])
    new = {f: _moved(getattr(made.data, f), before) for f in ("annotations", "looked")}
    columns = {n: _longer(np.asarray(v), len(made.data)) for n, v in bench.data.columns.items()}
    data = bench.data + replace(made.data, columns=columns, **new)
    pixels = cache.join(bench.pixels, cache.of_images(np.asarray(images)))
    return replace(bench, data=data, pixels=pixels, pool=np.r_[bench.pool, np.ones(len(made.data), bool)], moments=None)


def without(bench: Bench, own: Bench) -> Bench:
    """A bench whose images are those of `own` alone, with what was said of them meanwhile."""
    if len(bench.data) == len(own.data):
        return bench
    data = bench.data.take(np.arange(len(own.data)))
    return replace(bench, data=data, pixels=own.pixels, pool=own.pool, moments=own.moments)


def _moved(said: pa.Table, by: int) -> pa.Table:
    """Statements about rows that come after so many others."""
    row = said.schema.get_field_index("row")
    return said.set_column(row, said.schema.field("row"), pc.add(said["row"], pa.scalar(by, pa.int32())))


def _longer(values: np.ndarray, by: int) -> np.ndarray:
    """A column (N,...) with so many rows more of which nothing is known: NaN, -1 or False."""
    nothing = np.nan if values.dtype.kind == "f" else -1 if values.dtype.kind == "i" else 0
    return np.concatenate([values, np.full((by, *values.shape[1:]), nothing, values.dtype)])
