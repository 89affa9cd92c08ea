"""What image-level labels ask of logits: one class (softmax), or any number of tags (a sigmoid each).

B images, C classes.  `kind` is "class" or "tags".
"""

from __future__ import annotations

from torch import Tensor

from modicum.core.batch import Labels
from modicum.core.loss import Term, mean
from modicum.functional.losses import binary_cross_entropy, cross_entropy


def asked(logits: Tensor, labels: Labels, kind: str) -> Term:
    """The classifier's loss on logits (B,C).

    class: the mean cross-entropy of images whose class is known.  tags: the mean over known tags of their binary
    cross-entropy, times C, so that an image with all tags known weighs what its classes add up to.
    """
    if kind == "class":
        values, known = cross_entropy(logits, labels.cls)
        return mean(values, known, known.sum())
    values, known = binary_cross_entropy(logits, labels.tagged(logits.shape[1]))
    return mean(values, known, known.sum(), weight=float(logits.shape[1]))


def present(labels: Labels, classes: int) -> tuple[Tensor, Tensor]:
    """Every class that is known to be in an image: image and class, int64 (P,) each, by image, then class."""
    image, cls = (labels.tagged(classes) == 1).nonzero(as_tuple=True)
    return image, cls
