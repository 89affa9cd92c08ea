"""What papers say helps, and whether it does here: rows of claims.csv, from the results of these scripts alone.

A claim is a difference between two arms of one script, paired by seed, in points.  Papers measured theirs with other
networks on other data, so only its sign can be compared.  low, high: 95 % paired t.  A claim of which fewer than two
seeds have both arms is left out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.arena import RESULTS
from modicum.evaluate.intervals import paired_t

COLUMNS = ("method", "claim", "ours", "low", "high", "seeds", "adapted")


@dataclass(frozen=True)
class Claim:
    """method has the claim `text`: in the results called `file`, `measure` of the arm `more` less that of `less`.

    where: the rows meant, by columns.  adapted: an equation of the paper had to be replaced by one of ours.
    """

    method: str
    text: str
    file: str
    measure: str
    more: str
    less: str
    where: Mapping[str, str] = field(default_factory=dict)
    adapted: bool = False

    def differences(self) -> np.ndarray:
        """Of each seed that has both arms, in points, float64 (S,)."""
        path = RESULTS / f"{self.file}.csv"
        rows = [*csv.DictReader(path.open(encoding="utf-8"))] if path.exists() else []
        mine = [r for r in rows if all(r[k] == v for k, v in self.where.items())]
        a, b = ({r["seed"]: float(r[self.measure]) for r in mine if r["arm"] == arm} for arm in (self.more, self.less))
        return np.array([100 * (a[seed] - b[seed]) for seed in sorted(a.keys() & b.keys())])


def _boxes(method: str, arm: str, less: str, what: str, **more: bool) -> list[Claim]:
    """A claim about boxes from a tenth of them, on both sets."""
    text = "AP50 on {}, boxes on one image in ten, more than " + what
    return [
        Claim(method, text.format(name), "few_boxes", "ap50", arm, less, {"set": name}, **more)
        for name in ("scenes", "cells")
    ]


CLAIMS = (
    *_boxes("box-teacher", "box-teacher", "untaught", "without the other images"),
    *_boxes("soft-teacher", "soft-teacher", "box-teacher", "by one threshold"),
    *(
        Claim(name, f"CorLoc on {on}, more than WSDDN", "weak_boxes", "corloc", name, "wsddn", {"set": on})
        for name in ("oicr", "mist")
        for on in ("scenes", "cells")
    ),
    *_boxes("consistent-teacher", "consistent-teacher", "consistent-teacher, one threshold", "by one threshold"),
    *(
        Claim("lbba-adjuster", f"{what} of a weak detector's boxes on {on}, F1 more than F0", "adjusters", column,
              "oicr, moved by F1", "oicr, moved by F0", {"set": on}, adapted=True)
        for on in ("scenes", "cells")
        for what, column in (("CorLoc at 0.7", "corloc70"), ("mean IoU", "iou"))
    ),
    *(
        Claim("lbba", f"{what}, more than without an adjuster", "adjusters", column, "lbba, F0 and F1",
              "lbba without an adjuster", {"set": "scenes"}, adapted=True)
        for what, column in (("CorLoc at 0.7", "corloc70"), ("mean IoU", "iou"), ("AP50", "ap50"))
    ),
    *(
        Claim("w2n", f"AP50 from faulty boxes on scenes, two rounds more than {what}", "noisy_boxes", "ap50",
              "two rounds, tasks", less, {"set": "scenes"}, adapted=True)
        for what, less in (("training on them", "as they are"), ("by a split of images", "two rounds, images"))
    ),
    Claim("w2n", "AP50 from tags on cells, more than a detector on the same boxes", "noisy_boxes", "ap50",
          "oicr, then w2n, tasks", "oicr, then a detector", {"set": "cells"}, adapted=True),
    Claim("imaginary-images", "CorLoc on real scenes, grammar more than template", "imaginary", "corloc", "grammar",
          "template"),
    Claim("imaginary-images", "CorLoc, 100 real images with imaginary ones more than alone", "imaginary", "corloc",
          "100 real + grammar", "100 real"),
    Claim("imwa", "accuracy, more than one model trained twice as long", "imwa", "accuracy", "IMWA, E = 20", "one, 2T"),
)  # fmt: skip


def rows() -> list[dict[str, str]]:
    """A row a claim that was measured, as in claims.csv."""
    out = []
    for claim in CLAIMS:
        found = claim.differences()
        if len(found) > 1:
            i = paired_t(found)
            numbers = (f"{v:.2f}" for v in (i.value, i.low, i.high))
            values = (claim.method, claim.text, *numbers, str(len(found)), "yes" if claim.adapted else "")
            out.append(dict(zip(COLUMNS, values, strict=True)))
    return out


def written() -> str:
    """claims.csv."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows())
    return out.getvalue()


if __name__ == "__main__":
    print(written(), end="")
