"""Where a network looks: as tensors (`explain`), and as numbers and a sentence for each map (`looks`)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modicum.core.errors import DataError, SettingsError, did_you_mean
from modicum.engine.inputs import Input, Inputs
from modicum.engine.table import Finished
from modicum.evaluate.marks import Marks, Rival, marks, overlap, sentence
from modicum.evaluate.sanity import rank_correlation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modicum.nn.capture import Maps


class Look(NamedTuple):
    """One map.  cls, rival: classes, rival -1 where there is no other.  probability: as `predict` gives it.  score: of
    what was explained.  heat: float32 (h,w), sign kept.  rank: correlation with the rival's map, NaN without one."""

    method: str
    layer: str
    cls: int
    probability: float
    score: float
    heat: np.ndarray
    marks: Marks
    rival: int
    rival_probability: float
    overlap: float
    rank: float
    sentence: str


@dataclass(frozen=True)
class Asked:
    """target: classes by name, between commas; '' = the `top` most probable ones of each image.

    methods, layers: none = the usual one.
    """

    target: str = ""
    top: int = 1
    methods: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    def classes(self, names: Sequence[str]) -> list[int]:
        """Numbers of the classes that are named, which the network must know.  A name with commas may stand alone."""
        if not 1 <= self.top <= len(names):
            found = f"{self.top} classes are asked for, and the network knows {len(names)}"
            raise SettingsError(found, where="explain", fix=f"Ask for 1 to {len(names)}.")
        words = [w.strip() for w in self.target.split(",") if w.strip()]
        words = [self.target] if self.target in names else words
        for word in words:
            if word not in names:
                raise DataError(f"no class {word!r}", where="explain", fix=did_you_mean(word, names))
        return [list(names).index(w) for w in dict.fromkeys(words)]


def explain(
    model: Any, images: Any, targets: Any = None, methods: Any = None, layers: Any = None, *, sanity: bool = False,
    **given: Any,
) -> Maps:  # fmt: skip
    """Where a network looks, as tensors: `maps[method, layer]` (B,T,h,w), `scores`, `warnings`.

    model: any torch module, with images (B,c,H,W) as it wants them; or the folder of a run, with image files, folders
    or sets of them (or such a tensor, in [0,1]).  targets, methods, layers and what else may be given: see
    `modicum.nn.capture.explain`.  sanity: also draw the network's top layers anew, and warn of maps that do not change.
    An image that cannot be read is an error here.
    """
    from modicum.nn.capture import explain as capture

    if isinstance(model, str | Path):
        done = Finished.open(model)
        model = done.net
        if isinstance(images, str | Path | list | tuple):
            places = [images] if isinstance(images, str | Path) else list(images)
            images = done.batch([_pixels(i) for i in Inputs.of(places)])
    found = capture(model, images, targets, methods, layers, **given)
    if sanity:
        from modicum.engine.sanity import checked, warned

        made = [methods] if isinstance(methods, str) or not isinstance(methods, Sequence) else list(methods)
        found.warnings.extend(warned(checked(model, images, found, targets, made if methods else None, **given)))
    return found


def looks(
    net: nn.Module, x: Tensor, asked: Asked, names: Sequence[str], meta: Mapping[str, Any]
) -> tuple[list[list[Look]], Maps]:
    """What the maps of each image show, class by class and method by method; and the maps, the rivals' among them.

    x: (B,c,S,S) in [0,1].  names: of the network's classes.  meta: see `probabilities`.  Targets of the maps: first
    those asked for.
    """
    import torch

    from modicum.nn.capture import explain as capture

    with torch.no_grad():
        probs = probabilities(net(x).logits, meta)
    order, named = np.argsort(-probs, 1, kind="stable"), asked.classes(names)
    shown = np.tile(named, (len(x), 1)) if named else order[:, : asked.top]
    targets = np.concatenate([shown, order[:, :2]], 1) if named else order[:, : max(2, asked.top)]
    found = capture(net, x, torch.from_numpy(targets.copy()), asked.methods or None, asked.layers or None)
    out: list[list[Look]] = [[] for _ in range(len(x))]
    for (b, t), (key, maps) in itertools.product(np.ndindex(shown.shape), found.maps.items()):
        cls = int(targets[b, t])
        others = [int(c) for c in order[b, :2] if c != cls]
        rival = maps[b, list(targets[b]).index(others[0])].cpu().numpy() if others else None
        score, chance = float(found.scores[b, t]), [float(probs[b, c]) for c in (cls, *others[:1])]
        out[b].append(_look(key, cls, others[:1], chance, score, maps[b, t].cpu().numpy(), rival, names))
    return out, found


def kept(
    net: nn.Module, x: Tensor, names: Sequence[str], meta: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """What a run keeps of a few images (B,c,S,S): classes int64 (B,), maps float32 (B,h,w), and the content of
    maps.json: the method, whether it passed the sanity check, a sentence for each map."""
    from modicum.engine.sanity import checked

    found, maps = looks(net, x, Asked(), names, meta)
    first = [seen[0] for seen in found]
    key = (first[0].method, first[0].layer)
    check = checked(net, x, maps, None).get(key)
    page = {
        "method": key[0], "layer": key[1], "sentences": [s.sentence for s in first],
        "sanity": check and {"correlation": check.correlation, "passed": check.passed, "said": check.said},
    }  # fmt: skip
    return np.array([s.cls for s in first]), np.stack([s.heat for s in first]), page


def probabilities(logits: Tensor, meta: Mapping[str, Any]) -> np.ndarray:
    """What `predict` would say of logits (B,C), float64: softmax, or a sigmoid each where several classes may be there.

    meta: net.json, with `temperature` and `tells`.
    """
    soft = logits.double() / (meta["temperature"] or 1)
    return np.asarray((soft.softmax(1) if meta["tells"] == "class" else soft.sigmoid()).cpu().numpy())


def _look(
    key: tuple[str, str], cls: int, others: list[int], chance: list[float], score: float, heat: np.ndarray,
    rival: np.ndarray | None, names: Sequence[str],
) -> Look:  # fmt: skip
    seen = marks(heat)
    if rival is None:
        said = sentence(names[cls], chance[0], seen)
        return Look(*key, cls, chance[0], score, heat, seen, -1, np.nan, np.nan, np.nan, said)
    both, rank = overlap(heat, rival), np.nan
    if np.isfinite(heat).all() and np.isfinite(rival).all():
        rank = float(rank_correlation(heat[None], rival[None])[0])
    said = sentence(names[cls], chance[0], seen, Rival(names[others[0]], chance[1], both))
    return Look(*key, cls, chance[0], score, heat, seen, others[0], chance[1], both, rank, said)


def _pixels(given: Input) -> np.ndarray:
    if given.pixels is None:
        raise DataError(given.fault, where=given.name, fix="Leave it out, or save it again as PNG or JPEG.")
    return given.pixels
