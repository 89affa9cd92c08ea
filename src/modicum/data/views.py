"""Views: images moved and recoloured, each by its own draw, with the geometry kept.

Two ways to the same picture, chosen by a recorded rule (`way`): whole batches in torch, or one image at a time by
Pillow in threads.  At 32 px the first is several times faster on a CPU, at 224 px the second.
Letters: B images, c channels, H W pixels of the stored image, S side of the view.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from modicum.core.batch import View
from modicum.core.recipe import PLAIN, Augment
from modicum.data.images import square
from modicum.functional import geometry, randaugment

DRAWS = 12  # numbers an image's view is made from, and two more for each of RandAugment's operations


def way(side: int) -> str:
    """ "batch" up to 96 px a side, "images" above, where Pillow in threads overtakes it (docs/architecture.md)."""
    return "batch" if side <= 96 else "images"


def needs(augment: Augment) -> int:
    """How many draws an image of this view takes."""
    return DRAWS + 2 * augment.randaugment


def make_view(
    pixels: np.ndarray,
    sizes: np.ndarray,
    augment: Augment,
    draws: Tensor,
    side: int,
    device: torch.device,
    how: str = "",
) -> View:
    """pixels: uint8 or uint16 (B,H,W,c), zero padded; sizes: int (B,2); draws: (B,needs) in [0,1), on the CPU.

    -> View (B,c,S,S).  What moves pixels becomes one affine and one sampling; colours follow.

    The plain view is what prediction and the ONNX file see: `images.square`, pixel for pixel.  Elsewhere is black.
    """
    size = torch.from_numpy(sizes.astype(np.int64))
    affine = place(size, side, augment, draws)
    if augment == PLAIN:
        return View(_unit(_squares(pixels, sizes, side), device), affine.to(device), size.to(device))
    drawn = [randaugment.chosen(draws[:, at : at + 2]) for at in range(DRAWS, needs(augment), 2)]
    for which, amount in drawn:
        affine = geometry.compose(affine, geometry.moves(_MOVE[which], amount, side))
    if (how or way(side)) == "images" and pixels.dtype == np.uint8:
        x = _unit(_warp_images(pixels, sizes, affine.numpy(), side), device)
    elif (sizes == pixels.shape[1:3]).all():
        x = geometry.warp_images(_unit(pixels, device), affine.to(device), (side, side))
    else:
        x = _warp_batch(_unit(pixels, device), size.to(device), affine.to(device), side)
    for which, amount in drawn:
        x = randaugment.recoloured(x, which, amount)
    return View(recolour(x, augment, draws.to(device)), affine.to(device), size.to(device))


# RandAugment's operation -> geometry's movement, -1 for one of colours.
_MOVE = torch.tensor([geometry.MOVES.index(n) if n in geometry.MOVES else -1 for n in randaugment.NAMES])


def _unit(pixels: np.ndarray, device: torch.device) -> Tensor:
    """uint8 or uint16 (B,H,W,c) -> float (B,c,H,W) in [0,1]."""
    most = np.iinfo(pixels.dtype).max
    x = torch.from_numpy(pixels if most == 255 else pixels.astype(np.float32)).to(device)
    return x.permute(0, 3, 1, 2).contiguous().float().div_(most)


def _squares(pixels: np.ndarray, sizes: np.ndarray, side: int) -> np.ndarray:
    if pixels.shape[1:3] == (side, side) and (sizes == side).all():
        return pixels
    channels = pixels.shape[3]
    return np.stack([square(p[:h, :w], side, channels) for p, (h, w) in zip(pixels, sizes, strict=True)])


def place(size: Tensor, side: int, augment: Augment, draws: Tensor) -> Tensor:
    """The affine of each view, (B,2,3): view pixel -> image pixel.  size: (B,2).  Unmoved, the whole image fills it.

    image = centre + scale * (R(angle) * Shear * zoom * mirror * (view - side/2) / side + shift)

    A view that is only shifted and mirrored moves by whole pixels, each shift as likely, like a padded crop.
    """
    spread = 2 * draws - 1
    angle = spread[:, 0] * math.radians(augment.rotate)
    shear = torch.tan(spread[:, 1] * math.radians(augment.shear))
    zoom = torch.exp(spread[:, 2] * math.log1p(augment.zoom))
    mirror = torch.where(draws[:, 3] < 0.5, -1.0, 1.0) if augment.flip else torch.ones_like(zoom)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = torch.stack([torch.stack([cos, cos * shear - sin], 1), torch.stack([sin, sin * shear + cos], 1)], 1)
    linear = rows * zoom[:, None, None] * torch.stack([mirror, torch.ones_like(mirror)], 1)[:, None, :]
    scale = size.flip(1).to(draws.dtype)
    linear = scale[:, :, None] * linear / side
    shift = spread[:, 4:6] * augment.shift
    if not (augment.rotate or augment.zoom or augment.shear):
        most = round(augment.shift * side)
        shift = ((draws[:, 4:6] * (2 * most + 1)).floor() - most) / side
    centre = scale * (0.5 + shift)
    offset = centre - linear.sum(2) * (side / 2)
    return torch.cat([linear, offset[:, :, None]], 2)


def _warp_batch(x: Tensor, size: Tensor, affine: Tensor, side: int) -> Tensor:
    """geometry.warp_images where images are smaller than the array (B,c,H,W) that holds them: black outside each."""
    height, width = x.shape[2:]
    where = geometry.grid(affine, (side, side), (height, width))
    bound = 2 * size.flip(1).to(where.dtype) / torch.tensor([width, height], device=where.device) - 1
    inside = ((where >= -1) & (where <= bound[:, None, None, :])).all(3)
    pixel = torch.tensor([1 / width, 1 / height], device=where.device)
    where = torch.maximum(torch.minimum(where, bound[:, None, None, :] - pixel), -1 + pixel)
    return grid_sample(x, where, mode="bilinear", align_corners=False) * inside[:, None].to(x.dtype)


def _warp_images(pixels: np.ndarray, sizes: np.ndarray, affine: np.ndarray, side: int) -> np.ndarray:
    """The same by Pillow, an image at a time in threads (it releases the interpreter lock)."""
    out = np.empty((len(pixels), side, side, pixels.shape[3]), np.uint8)

    def one(i: int) -> None:
        whole = pixels[i, : sizes[i, 0], : sizes[i, 1]]
        image = Image.fromarray(whole if whole.shape[2] == 3 else whole[:, :, 0])
        moved = image.transform(
            (side, side), Image.Transform.AFFINE, affine[i].ravel().tolist(), Image.Resampling.BILINEAR
        )
        out[i] = np.asarray(moved).reshape(side, side, -1)

    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        list(pool.map(one, range(len(pixels))))
    return out


def recolour(x: Tensor, augment: Augment, draws: Tensor) -> Tensor:
    """Brightness, contrast and saturation in [0,1], then one square of the image's mean colour.

    The three are one affine map of colours an image: v -> M v + t.
    """
    mean = x.mean((2, 3), keepdim=True)
    if augment.brightness or augment.contrast or augment.saturation:
        bright, contrast, colour = (2 * draws[:, 6:9] - 1)[:, :, None, None].unbind(1)
        mix = torch.eye(x.shape[1], device=x.device).expand(len(x), -1, -1)
        if x.shape[1] == 3:
            mix = torch.lerp(torch.full_like(mix, 1 / 3), mix, 1 + colour * augment.saturation)
        gain = 1 + contrast * augment.contrast
        shift = mix @ (mean[:, :, 0] * (1 - gain) + bright * augment.brightness)
        x = torch.baddbmm(shift, mix * gain, x.flatten(2)).view_as(x).clamp_(0, 1)
    if not augment.cutout:
        return x
    side = x.shape[-1]
    at = torch.arange(side, device=x.device) + 0.5
    half = augment.cutout * side / 2
    in_y = (at - draws[:, 9:10] * side).abs() <= half
    in_x = (at - draws[:, 10:11] * side).abs() <= half
    return torch.lerp(x, mean.to(x.dtype), (in_y[:, :, None] & in_x[:, None, :])[:, None].to(x.dtype))
