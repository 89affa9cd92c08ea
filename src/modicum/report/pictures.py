"""Pictures as data URIs: thumbnails, maps laid over pictures, and the colours both use.

Letters: H W height and width of a picture, h w of a map, c channels.  Pixels are uint8.
"""

from __future__ import annotations

import base64
import functools
import io

import numpy as np
from PIL import Image

from modicum.core.errors import DataError
from modicum.evaluate.marks import evidence

SIDE = 112


def rgb(pixels: np.ndarray) -> np.ndarray:
    """Any picture (H,W) or (H,W,c) as uint8 (H,W,3): grey is repeated; of more than three channels the first three are
    shown; 16-bit values are stretched over their own range."""
    pixels = np.asarray(pixels)
    if pixels.dtype == np.uint16 and pixels.size:
        low, high = int(pixels.min()), max(int(pixels.max()), int(pixels.min()) + 1)
        pixels = ((pixels.astype(np.float32) - low) * (255 / (high - low))).astype(np.uint8)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise DataError(
            f"{pixels.dtype} of shape {pixels.shape}", where="picture", fix="Give uint8 (H,W) or (H,W,c), not empty."
        )
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.repeat(pixels[..., :1], 3, 2) if pixels.shape[2] < 3 else pixels[..., :3]


def shrink(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The picture (H,W,3) with its longer side at most `side`; small ones are left as they are, the page enlarges
    them."""
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return pixels
    fit = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(
        Image.fromarray(pixels).resize(fit, Image.Resampling.BOX if factor < 0.5 else Image.Resampling.BICUBIC)
    )


def png(pixels: np.ndarray) -> bytes:
    """A PNG file; grey pictures are stored as grey."""
    pixels = rgb(pixels)
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels)).save(file, "PNG", optimize=True)
    return file.getvalue()


def uri(pixels: np.ndarray) -> str:
    """A data URI of `png`."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def thumbnail(pixels: np.ndarray, side: int = SIDE) -> str:
    """A data URI of the picture, longer side at most `side`."""
    return uri(shrink(rgb(pixels), side))


@functools.cache
def colours() -> np.ndarray:
    """uint8 (256,3), dark blue over grey to yellow: a line of evenly rising lightness in Oklab (Ottosson, 2020).

    The hue moves along blue and yellow alone, which people with red-green blindness tell apart.
    """
    t = np.linspace(0, 1, 256)
    light, a, b = 0.25 + 0.68 * t, -0.01 - 0.02 * t, -0.095 + 0.235 * t
    lms = (
        np.stack(
            [
                light + 0.3963377774 * a + 0.2158037573 * b,
                light - 0.1055613458 * a - 0.0638541728 * b,
                light - 0.0894841775 * a - 1.2914855480 * b,
            ]
        )
        ** 3
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((to_rgb @ lms).T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(255 * srgb).astype(np.uint8))


def overlay(pixels: np.ndarray, heat: np.ndarray, side: int = SIDE, strength: float = 0.6) -> str:
    """A data URI of `drawn`."""
    return uri(drawn(pixels, heat, side, strength))


def drawn(pixels: np.ndarray, heat: np.ndarray, side: int = SIDE, strength: float = 0.6) -> np.ndarray:
    """The picture in grey under the map (h,w) in colour, uint8 (H,W,3); the map is stretched over the whole picture."""
    small = shrink(rgb(pixels), side)
    if max(small.shape[:2]) < 56:
        small = enlarged(small, -(-56 // max(small.shape[:2])))
    return coloured(small, stretched(heat, small.shape[0], small.shape[1]), strength)


def enlarged(pixels: np.ndarray, times: int) -> np.ndarray:
    """Every pixel as a square of `times` pixels: (H,W,...) -> (H times, W times, ...)."""
    return np.repeat(np.repeat(pixels, times, 0), times, 1)


def stretched(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """The evidence of a map (h,w) over a whole picture, bilinear: float32 (height,width) in [0,1]."""
    wide = Image.fromarray(evidence(heat)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(np.clip(np.asarray(wide), 0, 1))


def coloured(pixels: np.ndarray, over: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """The picture (H,W,3) in grey under a stretched map (H,W) in colour, uint8 (H,W,3)."""
    colour = colours()[np.round(255 * over).astype(np.uint8)]
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.round((1 - strength) * grey[..., None] + strength * colour).astype(np.uint8)


def scale() -> str:
    """A data URI of the colour scale, from little to much."""
    return uri(np.repeat(colours()[None], 8, 0))
