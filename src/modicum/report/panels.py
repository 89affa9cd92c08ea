"""Maps as pictures to look at: one picture an image, and sheets of many small ones.

Captions are set in the font that comes with Pillow, which has plain Latin letters alone: see `writable`.
"""

from __future__ import annotations

import functools
import io
import unicodedata
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from modicum.report.pictures import coloured, enlarged, rgb, shrink, stretched

SIDE = 224  # pixels of a picture's longer side
SIZE = 14  # pixels of a caption's letters
INK, MUTED, PAPER, GAP = (26, 26, 26), (102, 102, 102), (255, 255, 255), 8
ACROSS, DOWN, THUMB = 4, 6, 112
_LINE = SIZE + 4


class Panel(NamedTuple):
    """pixels: uint8 (H,W,3).  lines: up to two, under it; the first in ink, the second in grey."""

    pixels: np.ndarray
    lines: tuple[str, ...] = ()


def plain(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A picture as panels show it, uint8 (H,W,3), its longer side `side`.

    One of half that or less is enlarged a whole number of times, so that its pixels stay sharp; it may stay smaller.
    """
    small = shrink(rgb(pixels), side)
    height, width = small.shape[:2]
    longer = max(height, width)
    if 2 * longer <= side:
        return enlarged(small, side // longer)
    size = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return small if longer == side else np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def over(picture: np.ndarray, heat: np.ndarray, contour: bool = True) -> np.ndarray:
    """A picture of `plain` in grey under a map (h,w), uint8 (H,W,3).

    contour: a white line with a dark rim around what is at or above half of the map's peak, so that the map can be read
    without its colours.
    """
    wide = stretched(heat, *picture.shape[:2])
    out = coloured(picture, wide)
    if contour and wide.any():
        high = wide >= 0.5 * wide.max()
        out[_grown(high) & ~high] = (20, 20, 20)
        out[high & _grown(~high)] = (255, 255, 255)
    return out


def joined(rows: list[list[Panel]]) -> Image.Image:
    """Panels in rows, on white; columns line up, and rows may be of unlike length."""
    widths = [max(p.pixels.shape[1] for p in column) for column in _columns(rows)]
    heights = [max(p.pixels.shape[0] for p in row) + _LINE * max(len(p.lines) for p in row) for row in rows]
    size = sum(widths) + GAP * (len(widths) + 1), sum(heights) + GAP * (len(rows) + 1)
    page = Image.new("RGB", size, PAPER)
    y = GAP
    for row, height in zip(rows, heights, strict=True):
        x = GAP
        for panel, width in zip(row, widths):
            _place(page, panel, x, y, width)
            x += width + GAP
        y += height + GAP
    return page


class Sheet:
    """Collects pairs of a small picture and its map until a sheet is full: ACROSS x DOWN pairs."""

    def __init__(self) -> None:
        self.pairs: list[Panel] = []

    def add(self, pixels: np.ndarray, heat: np.ndarray, lines: tuple[str, ...], contour: bool = True) -> None:
        """pixels: any picture.  heat: (h,w).  lines: under the pair."""
        small = plain(pixels, THUMB)
        both = np.concatenate([small, over(small, heat, contour)], 1)
        cell = np.full((len(both), 2 * THUMB, 3), 255, np.uint8)
        cell[:, : both.shape[1]] = both
        self.pairs.append(Panel(cell, lines))

    @property
    def full(self) -> bool:
        """Whether no other pair has room."""
        return len(self.pairs) >= ACROSS * DOWN

    def take(self) -> Image.Image:
        """The sheet; what comes next is on another one."""
        rows = [self.pairs[i : i + ACROSS] for i in range(0, len(self.pairs), ACROSS)]
        self.pairs = []
        return joined(rows)


def png(page: Image.Image) -> bytes:
    """A PNG file.  zlib's run-length strategy: a fifth of the default's time, for a few per cent more bytes."""
    file = io.BytesIO()
    page.save(file, "PNG", compress_type=zlib.Z_RLE)
    return file.getvalue()


def writable(text: str, instead: str) -> str:
    """A text as the captions' font has it, accents left away (Pillow's font has plain Latin alone); `instead` where it
    has not all of its letters."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return bare if all(_has(letter) for letter in bare) else instead


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(SIZE)


@functools.lru_cache(4096)
def _has(letter: str) -> bool:
    return letter == " " or bytes(_font().getmask(letter)) != bytes(_font().getmask("\uffff"))


def _grown(area: np.ndarray) -> np.ndarray:
    """The area and the pixels beside it; nothing lies beyond the rim."""
    out = area.copy()
    out[1:] |= area[:-1]
    out[:-1] |= area[1:]
    out[:, 1:] |= area[:, :-1]
    out[:, :-1] |= area[:, 1:]
    return out


def _columns(rows: list[list[Panel]]) -> list[list[Panel]]:
    return [[row[i] for row in rows if i < len(row)] for i in range(max(map(len, rows)))]


def _place(page: Image.Image, panel: Panel, x: int, y: int, width: int) -> None:
    page.paste(Image.fromarray(panel.pixels), (x, y))
    draw, y = ImageDraw.Draw(page), y + panel.pixels.shape[0] + 2
    for line, ink in zip(panel.lines, (INK, MUTED)):
        draw.text((x, y), _cut(line, width), ink, _font())
        y += _LINE


def _cut(line: str, width: int) -> str:
    """The line, shortened in the middle if it is wider than `width` pixels."""
    if _font().getlength(line) <= width:
        return line
    keep = len(line)
    while keep > 1:
        keep -= 1
        short = f"{line[: keep - keep // 2]}…{line[len(line) - keep // 2 :]}"
        if _font().getlength(short) <= width:
            return short
    return "…"
