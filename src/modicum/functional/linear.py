"""Linear classifiers fitted whole: strictly convex problems, solved to the optimum in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.errors import ModelError

NEAR = 1e-4  # largest distance to the optimum, as a share of the solution's length


def fit_linear(
    x: Tensor, cls: Tensor, classes: int, *, loss: str = "svm", c: float = 1.0, balanced: bool = False
) -> tuple[Tensor, Tensor]:
    """Features (N,D) and their classes int64 (N,) -> weights (classes,D) and biases (classes,), float64 on the CPU.

        min  (|W|^2 + |b|^2) / 2 + c sum_i a_i l(W x_i + b, y_i)

    loss: "svm", l(z,y) = sum_k max(0, 1 - s_k z_k)^2 with s_k = 1 for k = y, else -1 (one against the rest), or
    "logistic", l = cross-entropy of softmax(z).  a_i = 1, or N / (K N_y) where balanced, K being the classes that
    occur.  Biases are penalised as in LIBLINEAR (Fan et al., 2008), so that one solution exists for any data, also
    where a class has no example.  ModelError where the optimum is not reached.
    """
    wide, cls = F.pad(x.detach().cpu().double(), (0, 1), value=1.0), cls.detach().cpu()
    # The solution is a combination of the examples: with fewer of them than features, solve for its coordinates.
    basis = torch.linalg.qr(wide.T).Q if len(wide) < wide.shape[1] else torch.eye(wide.shape[1], dtype=wide.dtype)
    inside, count = wide @ basis, torch.bincount(cls, minlength=classes)
    even = len(cls) / ((count > 0).sum() * count.clamp_min(1)).double()
    each = c * (even[cls] if balanced else torch.ones(len(cls), dtype=wide.dtype))
    with torch.enable_grad():
        if loss == "svm":
            sign = 2.0 * F.one_hot(cls, classes).double() - 1
            weights = torch.stack([_hinge(inside, sign[:, k], each) for k in range(classes)])
        else:
            weights = _softmax(inside, cls, classes, each)
    found = weights @ basis.T
    return found[:, :-1].contiguous(), found[:, -1].contiguous()


def _hinge(x: Tensor, sign: Tensor, each: Tensor, rounds: int = 100) -> Tensor:
    """The squared hinge of two classes by Newton's method on the examples inside the margin (Keerthi, DeCoste 2005).

    x: (N,R).  sign: +-1, (N,).  each: weights (N,).  -> (R,)
    """
    w = x.new_zeros(x.shape[1])

    def value(w: Tensor) -> Tensor:
        return w @ w / 2 + (each * (1 - sign * (x @ w)).clamp_min(0).square()).sum()

    for _ in range(rounds):
        slack = 1 - sign * (x @ w)
        on = slack > 0
        slope = w - 2 * x[on].T @ (each * sign * slack)[on]
        if slope.norm() <= NEAR * w.norm():
            return w
        curve = torch.eye(len(w), dtype=w.dtype) + 2 * x[on].T @ (each[on, None] * x[on])
        step, size, now = torch.cholesky_solve(slope[:, None], torch.linalg.cholesky(curve))[:, 0], 1.0, value(w)
        while value(w - size * step) > now - 1e-4 * size * (slope @ step) and size > 1e-6:
            size /= 2
        w = w - size * step
    raise _far(slope, w)


def _softmax(x: Tensor, cls: Tensor, classes: int, each: Tensor, rounds: int = 100) -> Tensor:
    """Softmax regression by L-BFGS.  -> (classes,R)"""
    w = torch.zeros(classes, x.shape[1], dtype=x.dtype, requires_grad=True)

    def slope() -> float:
        w.grad = None
        out = w.square().sum() / 2 + (each * F.cross_entropy(x @ w.T, cls, reduction="none")).sum()
        out.backward()
        return float(out.detach())

    solver = torch.optim.LBFGS(
        [w], max_iter=50, tolerance_grad=0.0, tolerance_change=0.0, history_size=50, line_search_fn="strong_wolfe"
    )
    for _ in range(rounds):
        solver.step(slope)
        slope()
        left, found = torch.zeros_like(w) if w.grad is None else w.grad, w.detach()
        if left.norm() <= NEAR * found.norm():
            return found
    raise _far(left, found)


def _far(slope: Tensor, w: Tensor) -> ModelError:
    """The curvature is 1 at least, so the optimum is no farther than the gradient is long."""
    found = f"the optimum was not reached: it may be {100 * float(slope.norm() / w.norm()):.1g} % away"
    return ModelError(found, where="linear classifier", fix="Lower C, or normalise the features.")
