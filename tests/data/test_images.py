from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modicum.core.errors import DataError
from modicum.data.images import decode, resize, square

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 9), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9)).astype(np.uint16)


def packed(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "kind, options",
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("WEBP", {"lossless": True})],
)
def test_lossless_formats_give_the_same_pixels(kind: str, options: dict[str, object]) -> None:
    np.testing.assert_array_equal(decode(packed(Image.fromarray(RGB), kind, **options)), RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_has_one_channel(kind: str) -> None:
    np.testing.assert_array_equal(decode(packed(Image.fromarray(GREY), kind)), GREY[..., None])


def test_jpeg_is_near(tmp_path: Path) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], (32, 32, 3))
    file = tmp_path / "a.jpg"
    Image.fromarray(np.ascontiguousarray(smooth)).save(file, quality=95)
    assert np.abs(decode(file).astype(int) - smooth).max() < 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_stay(kind: str) -> None:
    found = decode(packed(Image.fromarray(DEEP), kind))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, DEEP[..., None])


def test_big_endian_tiff() -> None:
    image = Image.frombytes("I;16B", (9, 6), DEEP.astype(">u2").tobytes())
    found = decode(packed(image, "TIFF"))
    assert found.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(found[..., 0], DEEP)


def test_alpha_is_laid_over_white() -> None:
    alpha = RNG.integers(0, 256, (6, 9, 1), np.uint8)
    rgba = np.concatenate([RGB, alpha], 2)
    share = alpha / 255
    np.testing.assert_allclose(decode(packed(Image.fromarray(rgba), "PNG")), RGB * share + 255 * (1 - share), atol=1)
    la = decode(packed(Image.fromarray(np.concatenate([GREY[..., None], alpha], 2), "LA"), "PNG"))
    assert la.shape == (6, 9, 1)
    np.testing.assert_allclose(la[..., 0], GREY * share[..., 0] + 255 * (1 - share[..., 0]), atol=1)


def test_palette_and_its_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(packed(image, "PNG")).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert decode(packed(image, "PNG", transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_cmyk_and_one_bit() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    found = decode(packed(red, "JPEG", quality=95)).reshape(-1, 3).mean(0)
    assert found[0] > 240 and found[1:].max() < 15
    assert decode(packed(Image.new("1", (3, 2), 1), "PNG")).tolist() == [[[255]] * 3] * 2


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_rotation(turn: int, kind: str) -> None:
    """Independent witness: the definition of the eight orientations as flips and transposes of the array."""
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1), 7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB),
    }[turn]  # fmt: skip
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode(packed(Image.fromarray(RGB), kind, exif=exif, **options)), upright)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_cut_short_is_refused(kind: str) -> None:
    whole = packed(Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)), kind)
    with pytest.raises(DataError):
        decode(whole[: len(whole) // 2])


def test_reasons_are_few_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        decode(b"")
    with pytest.raises(DataError, match="no such file"):
        decode(tmp_path / "none.png")
    with pytest.raises(DataError, match="not a readable PNG"):
        decode(b"GIF89a" + bytes(40))
    with pytest.raises(DataError, match="floating"):
        decode(packed(Image.fromarray(DEEP.astype(np.float32)), "TIFF"), "slide.tif")
    (tmp_path / "gif.png").write_bytes(packed(Image.fromarray(GREY), "GIF"))
    with pytest.raises(DataError, match=r"gif\.png"):
        decode(tmp_path / "gif.png")


@pytest.mark.parametrize("side", [9_500, 14_000])
def test_bombs_are_refused(side: int) -> None:
    with pytest.raises(DataError, match="89 million"):
        decode(packed(Image.new("1", (side, side)), "PNG"))


@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_image_or_a_data_error(noise: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"BM", b"RIFF\0\0\0\0WEBPVP8 "):
        with contextlib.suppress(DataError):
            assert decode(start + noise).ndim == 3


@given(st.integers(0, 500), st.binary(min_size=1, max_size=4))
def test_damaged_files_end_in_an_image_or_a_data_error(at: int, noise: bytes) -> None:
    for kind in ("PNG", "JPEG", "TIFF"):
        whole = bytearray(packed(Image.fromarray(RGB), kind))
        at %= len(whole)
        whole[at : at + len(noise)] = noise
        with contextlib.suppress(DataError):
            assert decode(bytes(whole)).ndim == 3


@pytest.mark.parametrize(
    "shape, side, want", [((60, 80, 3), 30, (30, 40)), ((80, 60, 1), 30, (40, 30)), ((7, 1000, 1), 3, (3, 429))]
)
def test_resize_shorter_side(shape: tuple[int, int, int], side: int, want: tuple[int, int]) -> None:
    for dtype in (np.uint8, np.uint16):
        found = resize(np.full(shape, 200, dtype), side)
        assert found.shape == (*want, shape[2]) and found.dtype == dtype
        assert (found == 200).all()


def test_resize_never_up_and_antialiased() -> None:
    assert resize(RGB, 6) is RGB and resize(RGB, 60) is RGB and resize(RGB, 0) is RGB
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * 255
    small = resize(board.astype(np.uint8), 16)
    assert np.abs(small.astype(int) - 127).max() < 12  # without antialiasing: 0 or 255
    deep = resize((board * 257).astype(np.uint16), 16)
    np.testing.assert_allclose(deep / 257, small, atol=1)


def test_square_fills_and_changes_channels() -> None:
    assert square(RGB[:6, :6], 6, 3) is not None and (square(RGB[:6, :6], 6, 3) == RGB[:6, :6]).all()
    assert square(RGB, 4, 1).shape == (4, 4, 1) and square(GREY[..., None], 12, 3).shape == (12, 12, 3)
    grey = square(RGB[:6, :6], 6, 1)[..., 0]
    np.testing.assert_allclose(grey, np.asarray(Image.fromarray(RGB[:6, :6]).convert("L")), atol=1)
    deep = square(DEEP[..., None], 4, 1)
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 257, square(np.rint(DEEP / 257).astype(np.uint8)[..., None], 4, 1), atol=1.5)
