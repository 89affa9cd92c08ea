"""Laws of trust rules: what they say is a guess and a belief, whatever the guesses, in any order, without gradient."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from modicum.core.program import Info
from modicum.testing import tolerances
from modicum.testing.compare import near, same
from modicum.testing.part import INFO, Part, believed, counted, guesses
from modicum.testing.results import check, demand


@check("trust answers", ("trust",), "A target of another type or range, or a weight that is not cut to 0 to 1.")
def right(part: Part) -> None:
    """target int64 of the classes, weight float in 0 to 1, one for each guess."""
    part.run(part.make())


@check("trust permutation", ("trust",), "Something depends on the place of a guess in the batch.")
def permuted(part: Part) -> None:
    """In the middle of training, the same guesses in another order are believed alike and remembered alike."""
    module, (*before, (probs, rows)) = part.make(), guesses()
    for given in before:
        believed(module, *given)
    other, order = copy.deepcopy(module), torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    (target, weight), (target2, weight2) = believed(module, probs, rows), believed(other, probs[order], rows[order])
    same(target[order], target2, "the targets of guesses in another order")
    near(weight[order], weight2, tolerances.FP32, "the weights of guesses in another order")
    for name, value in module.state_dict().items():
        near(value, other.state_dict()[name], tolerances.FP32, f"what is remembered of another order: {name}")


@check("trust extremes", ("trust",), "A division by a count or a spread of 0, or the logarithm of 0.")
def extremes(part: Part) -> None:
    """It stays sane, and so does what it remembers, where there is little, or all alike, to judge."""
    for what, info, probs in _extremes():
        module = part.make(info)
        for step in range(3):
            rows = (torch.arange(len(probs)) + step) % info.images
            try:
                believed(module, probs.clone(), rows)
            except Exception as error:
                raise AssertionError(f"{what}: {error}") from error
        for name, value in module.state_dict().items():
            demand(bool(value.isfinite().all()), f"{what}: {name} is not finite")


def _extremes() -> Iterator[tuple[str, Info, Tensor]]:
    classes = len(INFO.classes)
    yield "a batch of one", INFO, guesses()[0][0][:1]
    yield "all probabilities equal", INFO, torch.full((8, classes), 1 / classes)
    yield "a batch of one, all probabilities equal", INFO, torch.full((1, classes), 1 / classes)
    yield "one-hot guesses", INFO, torch.eye(classes).repeat(2, 1)
    yield "only one class is guessed, for certain", INFO, torch.eye(classes)[[2] * 8]
    yield "a class without a label", counted(0, 5, 9, 1), guesses()[0][0]
    yield "no label", counted(0, 0, 0, 0), guesses()[0][0]
    yield "two images", Info(INFO.classes, INFO.counts, 2, 2), guesses()[0][0][:2]


@check("trust gradient", ("trust",), "A Parameter, or a gradient that is switched on inside.")
def without_gradient(part: Part) -> None:
    """Called without gradient it keeps it so, also where the guesses carry one."""
    module, (probs, rows) = part.make(), guesses()[0]
    target, weight = believed(module, probs.requires_grad_(), rows)
    demand(not target.requires_grad and not weight.requires_grad, "the answers carry a gradient")
    held = [n for n, v in module.named_buffers() if v.requires_grad]
    demand(not held, f"what is remembered carries a gradient: {held}")
