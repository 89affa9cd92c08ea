"""Geometry of views: where a view's pixel lies in the image, and how labels move with it.

Coordinates are pixel edges, (x, y): the image is [0, W] x [0, H], the centre of its first pixel (0.5, 0.5).
Boxes are xyxy, half open.  An affine (B,2,3) maps view coordinates to image coordinates, p_image = A p_view + t, since
that is what sampling needs; labels move the other way.  Sizes are (height, width).  M points or boxes; `image` (M,)
says whose.
An affine that folds the plane (determinant 0) has no inverse: what it gives is not finite.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def identity(n: int, like: Tensor | None = None) -> Tensor:
    """Affines (n,2,3) that leave every point where it is, of the type and device of `like`."""
    eye = torch.eye(2, 3) if like is None else torch.eye(2, 3, dtype=like.dtype, device=like.device)
    return eye.expand(n, 2, 3)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """First `inner`, then `outer`: affines (B,2,3).  A view of a view: compose(view -> image, inner -> view)."""
    linear, shift = outer[..., :2], outer[..., 2:]
    return torch.cat([linear @ inner[..., :2], linear @ inner[..., 2:] + shift], -1)


def invert(affine: Tensor) -> Tensor:
    """The way back, (B,2,3)."""
    a, b, c, d = affine[..., 0, 0], affine[..., 0, 1], affine[..., 1, 0], affine[..., 1, 1]
    linear = torch.stack([d, -b, -c, a], -1).unflatten(-1, (2, 2)) / (a * d - b * c)[..., None, None]
    return torch.cat([linear, -(linear @ affine[..., 2:])], -1)


MOVES = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")


def moves(kind: Tensor, amount: Tensor, side: int) -> Tensor:
    """One movement an image as Pillow defines it, affines (B,2,3) of a square of `side` pixels onto itself.

    kind: int64 (B,), places in MOVES, -1 for none.  amount: (B,), degrees against the clock about the centre; shear as
    pixels a pixel, from the upper left corner; shift in shares of the side.
    """
    turn, shear_x, shear_y, x, y = (torch.where(kind == k, amount, 0) for k in range(len(MOVES)))
    cos, sin, half = torch.cos(torch.deg2rad(turn)), torch.sin(torch.deg2rad(turn)), side / 2
    across = torch.stack([cos, shear_x - sin, half * (1 - cos + sin) + side * x], 1)
    down = torch.stack([shear_y + sin, cos, half * (1 - cos - sin) + side * y], 1)
    return torch.stack([across, down], 1)


def move_points(points: Tensor, image: Tensor, affine: Tensor) -> Tensor:
    """Points (M,2) by the affine of their image, in the affine's own direction: view -> image."""
    mine = affine[image]
    return (mine[:, :, :2] * points[:, None, :]).sum(-1) + mine[:, :, 2]


def warp_points(points: Tensor, image: Tensor, affine: Tensor) -> Tensor:
    """Points (M,2), image coordinates -> view coordinates; not clipped.  affine: (B,2,3), view -> image."""
    return move_points(points, image, invert(affine))


def warp_boxes(xyxy: Tensor, image: Tensor, affine: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Boxes (M,4), image -> view: (boxes (M,4) clipped to the view, kept (M,) in [0, 1]).

    A box becomes the axis-aligned hull of its four warped corners.  kept: the share of the hull's area that lies inside
    the view, 0 for a box without area.  Boxes are never dropped here: the caller decides what share is too little.
    size: height and width of the view.
    """
    corners = xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    moved = warp_points(corners, image.repeat_interleave(4), affine).reshape(-1, 4, 2)
    hull = torch.cat([moved.amin(1), moved.amax(1)], 1)
    limit = torch.tensor([size[1], size[0], size[1], size[0]], dtype=hull.dtype, device=hull.device)
    inside = torch.minimum(hull.clamp_min(0), limit)
    whole = _area(hull)
    return inside, torch.where(whole > 0, _area(inside) / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0)


def _area(xyxy: Tensor) -> Tensor:
    return (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])


def grid(affine: Tensor, out_hw: tuple[int, int], image_hw: tuple[int, int] | Tensor) -> Tensor:
    """Where each view pixel's centre lies in the image, (B,H,W,2), for F.grid_sample(align_corners=False): [-1, 1].

    image_hw: height and width, of all images or of each, (B,2).
    """
    rows, columns = out_hw
    whole = torch.as_tensor(image_hw, dtype=affine.dtype, device=affine.device)
    a = affine * (2 / whole.flip(-1)).unsqueeze(-1)
    x = torch.arange(columns, dtype=a.dtype, device=a.device) + 0.5
    y = torch.arange(rows, dtype=a.dtype, device=a.device) + 0.5
    across = a[:, None, :, 0] * x[:, None] + (a[:, None, :, 2] - 1)
    down = a[:, None, :, 1] * y[:, None]
    return across[:, None] + down[:, :, None]


def warp_maps(
    maps: Tensor, affine: Tensor, size: tuple[int, int], image_hw: tuple[int, int] | Tensor | None = None, *,
    mode: str = "bilinear", fill: float = 0.0,
) -> Tensor:  # fmt: skip
    """Maps (B,C,h,w) that cover the whole image -> the view, (B,C,*size), same dtype.

    image_hw: height and width of the image, or (B,2) of each (`View.size`), where the maps have another size than it;
    affines count in its pixels.
    mode: "bilinear", or "nearest" for class numbers.  fill: the value outside the image, e.g. 255 for unknown; it is
    not mixed into the image's rim.
    """
    values = maps if maps.is_floating_point() else maps.to(affine.dtype)
    whole = (maps.shape[-2], maps.shape[-1]) if image_hw is None else image_hw
    out, inside = _sampled(values, affine, size, whole, mode)
    return torch.where(inside, out if maps.is_floating_point() else out.round(), fill).to(maps.dtype)


def warp_images(x: Tensor, affine: Tensor, size: tuple[int, int]) -> Tensor:
    """Images, finite float (B,c,h,w), -> the view (B,c,*size): bilinear, black outside, no dark rim inside."""
    out, inside = _sampled(x, affine, size, (x.shape[-2], x.shape[-1]), "bilinear")
    return out * inside.to(out.dtype)  # a third of the time of torch.where


def _sampled(
    values: Tensor, affine: Tensor, size: tuple[int, int], image_hw: tuple[int, int] | Tensor, mode: str
) -> tuple[Tensor, Tensor]:
    """Values (B,C,*size) with the rim repeated outside, and what is inside, bool (B,1,*size)."""
    points = grid(affine, size, image_hw)
    inside = torch.maximum(points[..., 0].abs(), points[..., 1].abs()) <= 1
    out = F.grid_sample(values, points.to(values.dtype), mode=mode, padding_mode="border", align_corners=False)
    return out, inside[:, None]
