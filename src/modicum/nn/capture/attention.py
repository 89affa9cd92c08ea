"""The attention of a transformer, seen while it runs, whoever wrote it.

Fused attention never forms its weights.  While a Tap lasts, torch's fused function is computed from its definition, and
every softmax over a square of the last two axes is seen; torch's MultiheadAttention is computed again from its weights.
Attention of one token to many, by which some heads read the patches, is only noted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

SOFTMAX = (torch.softmax, Tensor.softmax, F.softmax)


class Tap(TorchFunctionMode):
    """Hands every weight matrix (B,heads,N,N), rows sum to 1, to `see`, which gives the one to go on with."""

    def __init__(self, model: nn.Module, see: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.see = model, see
        self.handles: list[Any] = []
        self.asked = False  # whether a single token asked all others, in an attention of its own

    def __enter__(self) -> Self:
        for m in self.model.modules():
            if isinstance(m, nn.MultiheadAttention):
                self.handles.append(m.register_forward_hook(_again, with_kwargs=True))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **given)
        out = func(*args, **given)
        return self._seen(out) if func in SOFTMAX else out

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        if q.ndim != 4 or is_causal or enable_gqa:
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if hidden else scores + attn_mask
        return self._seen(scores.softmax(-1)) @ v

    def _seen(self, weights: Tensor) -> Tensor:
        if weights.ndim != 4 or weights.shape[-1] < 2:
            return weights
        self.asked |= weights.shape[-2] == 1
        return self.see(weights) if weights.shape[-1] == weights.shape[-2] else weights


def _again(m: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
    """torch's multi-head attention of itself, from its definition; masked or crossed, it is left as it is."""
    query, key, value = args[:3] if len(args) >= 3 else (kwargs["query"], kwargs["key"], kwargs["value"])
    masked = kwargs.get("attn_mask") is not None or kwargs.get("key_padding_mask") is not None
    if query is not key or key is not value or m.in_proj_weight is None or query.ndim != 3 or masked:
        return out
    x = query if m.batch_first else query.transpose(0, 1)
    parts = F.linear(x, m.in_proj_weight, m.in_proj_bias).chunk(3, -1)
    q, k, v = (p.unflatten(-1, (m.num_heads, -1)).transpose(1, 2) for p in parts)
    weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1)
    y = m.out_proj((weights @ v).transpose(1, 2).flatten(2))
    return (y if m.batch_first else y.transpose(0, 1), out[1])
