"""A weighted sum of networks, as one that can be saved: ensembles, a small net beside a frozen large one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modicum.core.errors import ModelError
from modicum.core.net import Net, Out


class Sum(Net):
    """logits = sum of weights[i] * parts[i].logits, (B,C); features are the first part's, maps there are none.

    parts: networks of the same classes, channels and side; frozen ones are run without gradient.  Its `spec` lists
    theirs, so models/files.py saves and loads it as one network.  ModelError for parts that do not go together.
    """

    def __init__(self, parts: Sequence[Net], weights: Sequence[float]) -> None:
        if not parts or len(parts) != len(weights):
            fix = "Give one weight a network."
            raise ModelError(f"{len(parts)} networks and {len(weights)} weights", where="sum of networks", fix=fix)
        super().__init__(len(parts[0].mean))
        self.parts, self.weights = nn.ModuleList(parts), tuple(float(w) for w in weights)
        if all(p.spec for p in parts):
            sizes = [{k: p.spec["args"][k] for k in ("classes", "channels", "side")} for p in parts]
            if any(s != sizes[0] for s in sizes):
                fix = "Sum networks of the same classes, channels and side."
                raise ModelError(f"networks of different sizes: {sizes}", where="sum of networks", fix=fix)
            args = {**sizes[0], "weights": list(self.weights)}
            self.spec = {"door": "sum", "name": "sum", "args": args, "edits": [], "parts": [p.spec for p in parts]}

    def spatial(self, x: Tensor) -> Tensor:
        raise ModelError("a sum of networks has no maps", where="explain", fix="Explain one of its parts.")

    def body(self, x: Tensor) -> Tensor:
        features: Tensor = self.parts[0].body(x)  # type: ignore[operator]
        return features

    def forward(self, x: Tensor) -> Out:
        first = self.parts[0](x)
        logits = self.weights[0] * first.logits
        for part, weight in zip(list(self.parts)[1:], self.weights[1:], strict=True):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not part.frozen):
                more = part(x).logits
            logits = logits + weight * more
        return Out(logits, first.features)
