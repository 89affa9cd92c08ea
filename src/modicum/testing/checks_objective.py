"""Laws of objectives: a finite Term with a gradient, that falls as guesses get right, fair to the order of things."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from modicum.core.loss import Term
from modicum.models import files
from modicum.models.doors import make
from modicum.testing import tolerances
from modicum.testing.checks_part import finite
from modicum.testing.compare import near, same
from modicum.testing.part import DONE, INFO, Part, counted, labelled
from modicum.testing.results import check, demand


@check("objective term", ("objective",), "`term` is no Term, or the values have no path back to the logits.")
def term(part: Part) -> None:
    """A value and a weight of at least 0 for each row; a finite scalar Term, whose gradient reaches each row."""
    module = part.make()
    for done in DONE:
        logits, target = labelled()
        values, weights = module(logits.requires_grad_(), target, done)
        demand(values.shape == weights.shape == target.shape, f"shapes {values.shape} and {weights.shape}")
        sound = weights.isfinite() & (weights >= 0)
        demand(bool(sound.all()), f"a weight is below 0 or not finite: {weights.tolist()}")
        got = module.term(logits, target, done)
        demand(isinstance(got, Term) and got.total.ndim == 0, "`term` is not a Term with a scalar total")
        finite(got.total, "the total")
        demand(float(got.count) > 0, f"the count is {float(got.count)}")
        got.total.backward()
        grad = logits.grad
        assert grad is not None, "no gradient reaches the logits"
        finite(grad, "the gradient")
        demand(bool((grad.abs().sum(1) > 0)[weights > 0].all()), "a row with a weight has no gradient")


@check("objective falls", ("objective",), "The sign is wrong, or the target is not what the loss is least at.")
def falls(part: Part) -> str:
    """Steps down its gradient make it smaller, and every row's class the largest logit."""
    said = []
    for done in (0.0, 1.0):
        module, (logits, target) = part.make(), labelled()
        seen = []
        for _ in range(60):
            logits = logits.detach().requires_grad_()
            total, count, _ = module.term(logits, target, done)
            seen.append((total / count).item())
            (grad,) = torch.autograd.grad(total, logits)
            logits = logits - 0.3 * grad / grad.abs().amax(1, keepdim=True).clamp_min(1e-12)
        demand(seen[-1] <= tolerances.FALL * seen[0], f"from {seen[0]:.3g} to {seen[-1]:.3g} with {done:.0%} done")
        wrong = int((logits.argmax(1) != target).sum())
        demand(not wrong, f"{wrong} of {len(target)} rows are classified wrongly after training, {done:.0%} done")
        said.append(f"{seen[0]:.3g} to {seen[-1]:.3g}")
    return ", ".join(said)


@check("objective permutation", ("objective",), "Something depends on the place of a row or on the number of a class.")
def permuted(part: Part) -> None:
    """Rows in another order, and classes under other numbers with their counts, have the same values and weights."""
    (logits, target), order = labelled(), torch.tensor([2, 0, 3, 1])  # new class i was order[i]
    renamed = part.make(counted(*(INFO.counts[i] for i in order.tolist())))
    rows, module = torch.arange(len(target)).flip(0), part.make()
    for done in DONE:
        usual = module(logits, target, done)
        turned = module(logits[rows], target[rows], done)
        other = renamed(logits[:, order], order.argsort()[target], done)
        for i, what in enumerate(("values", "weights")):
            near(usual[i][rows], turned[i], tolerances.FP32, f"{what} of rows in another order")
            near(usual[i], other[i], tolerances.FP32, f"{what} of classes under other numbers")


@check("objective extremes", ("objective",), "A logarithm or a division by a class's count of 0.")
def extremes(part: Part) -> None:
    """It and its gradient are finite with a class without a label, one row, one class, and logits that are large."""
    logits, target = labelled()
    seen, sure = target > 0, 1e4 * torch.eye(len(INFO.classes))
    cases = (
        ("a class without a label", counted(0, 5, 9, 1), logits[seen], target[seen]),
        ("labels of one class", counted(0, 0, 9, 0), logits[target == 2], target[target == 2]),
        ("a batch of one", INFO, logits[:1], target[:1]),
        ("many labels", counted(10**7, 1, 1, 1), logits, target),
        ("large logits, right", INFO, sure, torch.arange(4)),
        ("large logits, wrong", INFO, sure, torch.arange(4).flip(0)),
    )  # fmt: skip
    for what, info, z, y in cases:
        module = part.make(info)
        for done in DONE:
            z = z.detach().clone().requires_grad_()
            total, count, _ = module.term(z, y, done)
            demand(bool(torch.as_tensor(count) > 0), f"{what}: the count is {float(count)}")
            finite(total, f"{what}: the total")
            total.backward()
            finite(z.grad, f"{what}: the gradient")


@check("objective head", ("objective",), "`dress` changes the number of classes, or leaves a net that cannot be saved.")
def dressed(part: Part) -> None:
    """The network with its head gives finite logits of the classes, and the same ones after it is saved and loaded."""
    net = part.make().dress(make("tiny-conv:width=4", classes=len(INFO.classes), channels=3, side=16)).eval()
    x = torch.linspace(0, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        logits = net(x).logits
        demand(logits.shape == (2, len(INFO.classes)), f"logits of shape {tuple(logits.shape)}")
        finite(logits, "a logit")
        files.save(net, Path(folder), classes=INFO.classes)
        again, _ = files.load(Path(folder))
        same(logits, again.eval()(x).logits, "logits of the reloaded net")
