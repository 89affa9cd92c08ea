"""Every tolerance of the suite, in one place.  What is not named here is compared bit for bit."""

from __future__ import annotations

FP32 = (1e-5, 1e-6)  # relative, absolute: the same sums in another order
FP64 = (1e-9, 1e-12)
RANKS = 1e-9  # weights of two ranks and of one process, in float64, relative to the largest weight
BF16 = 5e-2  # a loss in bfloat16, relative to the same in float32
EXPORT = 1e-3  # logits of an ONNX file, absolute
FALL = 0.9  # what is left, at most, of the loss after training on toy data
DIRECTION = 0.9  # least area under the curve of a score on its planted case
COST = 2.5  # a card's cost and the measured one agree within this factor; told, not enforced
CPU_SECONDS = 4.0  # a method's checks in the fast tier
