"""Files to arrays with numpy and Pillow alone: prediction without torch decodes with these same functions.

Images from outside are hostile: only five formats are opened, and very large or damaged files are refused.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from modicum.core.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
MAX_PIXELS = 89_478_485  # Pillow's own line between large and suspect: 256 MiB of RGB
_TOO_MANY = f"more than the {MAX_PIXELS // 10**6} million pixels allowed"
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def decode(source: bytes | str | Path, where: object = "") -> np.ndarray:
    """An image as (H,W,c): uint8 with c 1 (grey) or 3 (RGB), or uint16 with c 1 (16-bit grey).

    Rotated as EXIF says; palettes and CMYK become RGB, transparency is laid over white; of several frames, the first.
    DataError says in a few words why an image is refused.
    """
    where = where or ("image" if isinstance(source, bytes) else source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{image.width} x {image.height} pixels, {_TOO_MANY}")
            image.load()
            # Pillow itself turns a TIFF while it loads it.
            return _array(image if image.format == "TIFF" else _upright(image))
    except DataError as error:
        raise DataError(error.found, where=where) from None
    except Exception as error:  # a hostile file may raise anything inside a decoder
        raise DataError(_reason(error, source), where=where) from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF is no reason to lose the picture
        return image
    return image if turn is None else image.transpose(turn)


def _array(image: Image.Image) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DataError("32-bit integers beyond 16 bits are not read")
        return values.astype(np.uint16)[..., None]
    if mode == "F":
        raise DataError("floating-point pixels are not read; save as 8- or 16-bit")
    clear = "transparency" in image.info
    grey = mode in ("1", "L", "LA", "La")
    if mode in ("LA", "La", "RGBA", "RGBa", "PA") or (clear and mode in ("1", "L", "P", "RGB")):
        if mode == "La":
            image = image.convert("LA")
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return np.array(image.convert("L"))[..., None] if grey else np.array(image.convert("RGB"))


def _reason(error: Exception, source: bytes | str | Path) -> str:
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return _TOO_MANY
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "the file may not be read"
    if source == b"" or (not isinstance(source, bytes) and Path(source).is_file() and not Path(source).stat().st_size):
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not a readable PNG, JPEG, TIFF, WebP or BMP image"
    if "truncated" in str(error).lower():
        return "the file is cut short"
    return f"the file is damaged ({' '.join(str(error).split())[:80] or type(error).__name__})"


def resize(array: np.ndarray, shorter_side: int) -> np.ndarray:
    """The image (H,W,c) with its shorter side brought down to `shorter_side`, antialiased (bicubic); dtype kept.

    Never upscales; 0 leaves it as it is.  The longer side is rounded to a whole pixel.
    """
    height, width = array.shape[:2]
    short = min(height, width)
    if not 0 < shorter_side < short:
        return array
    size = max(1, round(width * shorter_side / short)), max(1, round(height * shorter_side / short))
    return _scale(array, size, Image.Resampling.BICUBIC)


def square(array: np.ndarray, side: int, channels: int) -> np.ndarray:
    """The whole image (h,w,c) made to fill (side, side, channels), antialiased (bilinear); dtype kept.

    What training's plain view, prediction and the exported network see.  Grey becomes RGB by repeating, RGB grey by
    luma (ITU-R BT.601).
    """
    if array.shape[2] == 3 and channels == 1:
        array = np.rint(array @ np.array([[0.299], [0.587], [0.114]])).astype(array.dtype)
    if array.shape[:2] != (side, side):
        array = _scale(array, (side, side), Image.Resampling.BILINEAR)
    return array if array.shape[2] == channels else np.repeat(array, channels, 2)


def _scale(array: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """(h,w,c) to size (width, height); Pillow has 16 bits for one plane at a time, as floats."""
    if array.dtype == np.uint16:
        floats = [Image.fromarray(plane) for plane in array.transpose(2, 0, 1).astype(np.float32)]
        planes = [np.array(plane.resize(size, how)) for plane in floats]
        return np.clip(np.rint(np.stack(planes, 2)), 0, 65535).astype(np.uint16)
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    return np.array(image.resize(size, how)).reshape(size[1], size[0], -1)
