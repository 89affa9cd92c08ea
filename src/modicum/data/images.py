"""Files to arrays with numpy and Pillow alone: prediction without torch decodes with these same functions.

One rule an image kind, the same for every image of every set:

- grey is one channel, everything else three (RGB); 8 bits stay 8, 16-bit grey stays 16, 16-bit colour becomes 8.
- in training, white is 255 or 65535 and black 0 in every image: no image is stretched over its own range.
- floating-point grey is read where all values lie in [0, 1], as 16 bits (65535 times the value); else it is refused.
- transparency is laid over white.  EXIF turns are carried out.  Colour profiles are not.
- of an animation or a phone's burst, the first picture; of a TIFF, a page an image (data/tiff.py).

Images from outside are hostile: six formats are opened, by what is in the file and not by its name; the size is checked
before any pixel is decoded; a damaged file is refused, never read in part.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.JpegImagePlugin import JpegImageFile

from modicum.core.errors import DataError, SettingsError
from modicum.data.tiff import Page, page_of

MAX_PIXELS = 89_478_485  # Pillow's own line between large and suspect: 256 MiB of RGB
LIMIT = "MODICUM_MAX_PIXELS"
_KINDS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile, b"\xff\xd8\xff": JpegImageFile,
    b"BM": BmpImagePlugin.BmpImageFile, b"GIF87a": GifImagePlugin.GifImageFile, b"GIF89a": GifImagePlugin.GifImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile, b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile, b"II+\0": TiffImagePlugin.TiffImageFile,
}  # fmt: skip
_OTHERS = {
    b"PK\x03\x04": "a zip archive", b"%PDF": "a PDF", b"\x1f\x8b": "a gzip archive", b"<": "a web page or SVG",
    b"8BPS": "a Photoshop file", b"\0\0\0\x0cjP": "a JPEG 2000", b"v/1\x01": "an OpenEXR", b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array", b"II": "a camera's raw picture", b"MM\0+": "a BigTIFF of the other byte order",
}  # fmt: skip
_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_SIDEWAYS = tuple(_TURNS[n] for n in (5, 6, 7, 8))
_COLOURS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_WHOLE = 64 << 20
_EMPTY = "the file is empty: fetch or save it again"

Source = bytes | str | Path


def decode(source: Source, where: object = "") -> np.ndarray:
    """An image as (H,W,c), read-only: uint8 with c 1 (grey) or 3 (RGB), or uint16 with c 1 (16-bit grey).

    source: a file, a page of a TIFF (`stack.tif#3`), or the bytes of a file.  DataError says in a few words why an
    image is refused and what to do.
    """
    return glimpse(source, 0, where)[0]


def glimpse(source: Source, side: int, where: object = "") -> tuple[np.ndarray, int, int]:
    """The image as `decode` gives it, or smaller where that is quicker, and the whole height and width.

    side: a JPEG may come at 1/2, 1/4 or 1/8, with both sides at least this long; 0 = whole.  All of its data are read
    all the same, so the same files are refused.
    """
    with _safely(source, where) as image:
        width, height = image.size
        if side and isinstance(image, JpegImageFile):
            image.draft(None, (side, side))
        smaller = image.size != (width, height)
        image.load()
        turn = _turn(image)
        array = _array(image if turn is None else image.transpose(turn))
        if not smaller:
            return array, *array.shape[:2]
        return (array, width, height) if turn in _SIDEWAYS else (array, height, width)


def measure(source: Source, where: object = "") -> tuple[int, int]:
    """Height and width of an image as `decode` gives it, by its header alone.  DataError as there."""
    with _safely(source, where) as image:
        width, height = image.size
        return (width, height) if _turn(image) in _SIDEWAYS else (height, width)


def levels(source: Source, where: object = "") -> np.ndarray:
    """What each pixel says as a number, (H,W): 8- or 16-bit grey as it is, indices of a palette, bool of one bit.

    DataError where the picture has colours, or cannot be decoded.
    """
    with _safely(source, where) as image:
        image.load()
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise DataError(f"{image.mode} colours, not one number a pixel: save it as grey or with a palette")
        return np.asarray(image)


@contextmanager
def _safely(source: Source, where: object) -> Iterator[ImageFile.ImageFile]:
    """An image whose size is allowed; whatever a hostile file raises becomes a DataError in a few words."""
    where = where or ("image" if isinstance(source, bytes) else source)
    most = limit()
    try:
        with _file(source) as file, _opened(file) as image:
            width, height = image.size
            if width * height > most:
                raise DataError(f"{width} x {height} pixels, more than the {most:,} allowed: {LIMIT} raises the limit")
            yield image
    except DataError as error:
        raise DataError(error.found, where=where) from None
    except Exception as error:  # a hostile file may raise anything inside a decoder
        raise DataError(_reason(error), where=where) from None


def contents(file: str | Path, where: object = "") -> bytes | None:
    """The bytes of an image file; None where it is over 64 MiB or a page, which is better left on the disk.

    DataError where it cannot be read, is empty or no plain file.
    """
    path, page = page_of(str(file))
    try:
        handle, size = _handle(path)
        try:
            return os.read(handle, size) if page < 0 and size <= _WHOLE else None
        finally:
            os.close(handle)
    except DataError as error:
        raise DataError(error.found, where=where or file) from None
    except OSError as error:
        raise DataError(_reason(error), where=where or file) from None


def limit() -> int:
    """The most pixels an image may have: MODICUM_MAX_PIXELS where it is set, else MAX_PIXELS."""
    asked = os.environ.get(LIMIT)
    if asked is None:
        return MAX_PIXELS
    if not asked.isdecimal() or not int(asked):
        raise SettingsError(f"{asked!r} is not a number of pixels", where=LIMIT, fix=f"The default is {MAX_PIXELS}.")
    if Image.MAX_IMAGE_PIXELS is not None and int(asked) > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = int(asked)  # Pillow asks again inside some decoders
    return int(asked)


def _file(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        if not source:
            raise DataError(_EMPTY)
        return io.BytesIO(source)
    path, page = page_of(str(source))
    file = os.fdopen(_handle(path)[0], "rb")
    if page < 0:
        return file
    file.close()
    try:
        return cast(BinaryIO, Page(path, page))
    except LookupError:
        raise DataError(f"the file has no page {page}: scan the folder again") from None


def _handle(path: str) -> tuple[int, int]:
    """An open file and its size.  A pipe or device is refused, and not waited for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    state = os.fstat(handle)
    if stat.S_ISREG(state.st_mode) and state.st_size:
        return handle, state.st_size
    os.close(handle)
    raise DataError(_EMPTY if stat.S_ISREG(state.st_mode) else "not a plain file")


def _opened(file: BinaryIO) -> ImageFile.ImageFile:
    """The picture in a file, by its first bytes; nothing is decoded yet."""
    head = file.read(16)
    file.seek(0)
    kind = next((k for start, k in _KINDS.items() if head.startswith(start)), None)
    if kind is None or (head[:4] == b"RIFF" and head[8:12] != b"WEBP"):
        raise DataError(_unlike(head))
    return kind(file)


def _unlike(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        other = {b"hei": "a HEIC photograph", b"mif": "a HEIC photograph", b"avi": "an AVIF"}.get(head[8:11], "a video")
    else:
        other = next((word for start, word in _OTHERS.items() if head.startswith(start)), "")
    found = f" but {other}" if other else ""
    return f"not a readable PNG, JPEG, TIFF, WebP, BMP or GIF image{found}: save it as PNG or JPEG"


def _turn(image: ImageFile.ImageFile) -> Image.Transpose | None:
    """How to set a picture upright; None where it is, or where Pillow turned it while it loaded it (TIFF)."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) or not image.info:
        return None
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF is no reason to lose the picture
        return None


def _array(image: Image.Image) -> np.ndarray:
    mode, clear = image.mode, image.info.get("transparency")
    if mode == "RGB" and clear is None:
        return np.asarray(image)
    if mode == "L" and clear is None:
        return np.asarray(image)[..., None]
    if mode in ("F", "I") or mode.startswith("I;16"):
        return _deep(image, clear)[..., None]
    if mode not in _COLOURS:
        raise DataError(f"{mode} colours are not read: save it as RGB or grey")
    grey = mode in ("1", "L", "LA", "La")
    if clear is not None or mode in ("LA", "La", "RGBA", "RGBa", "PA"):
        if mode == "La":
            image = image.convert("LA")
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return np.asarray(image.convert("L"))[..., None] if grey else np.asarray(image.convert("RGB"))


def _deep(image: Image.Image, clear: object) -> np.ndarray:
    """Grey of more than 8 bits as uint16 (H,W)."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # also where there is a NaN
            raise DataError(f"floating-point pixels from {low:g} to {high:g}: bring them to [0, 1], or save 16 bits")
        return np.rint(values * np.float32(65535)).astype(np.uint16)
    if low < 0 or high > 65535:
        raise DataError(f"integer pixels from {low} to {high}: bring them to 0 .. 65535, or save 16 bits")
    values = values.astype(np.uint16, copy=False)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow minds up to 8 bits alone
        values = ~values
    return values if clear is None else np.where(values == clear, np.uint16(65535), values)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:80]
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than are allowed: {LIMIT} raises the limit"
    if isinstance(error, FileNotFoundError):
        return "no such file: scan the folder again"
    if isinstance(error, PermissionError):
        return "the file may not be read: change its permissions"
    if isinstance(error, MemoryError):
        return "there is no memory for an image of this size"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the file cannot be read ({error.strerror})"
    if "truncated" in text.lower():
        return "the file is cut short: fetch or save it again"
    return f"the file is damaged ({text or type(error).__name__}): fetch or save it again"


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
