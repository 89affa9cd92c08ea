from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modicum.core.errors import DataError, SettingsError
from modicum.data.images import decode, glimpse, levels, measure, resize, square

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning")]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 9), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9)).astype(np.uint16)


def packed(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(values: np.ndarray, bits: int, colour: int, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG written from its specification, so that its pixels are known without Pillow: values (H,W,channels)."""
    height, width = values.shape[:2]
    if bits < 8:
        lines = [np.packbits((row.reshape(-1, 1) >> np.arange(bits)[::-1]) & 1).tobytes() for row in values]
    else:
        lines = [row.astype(">u2" if bits == 16 else np.uint8).tobytes() for row in values]
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    chunks = [(b"IHDR", head), *extra, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


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


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_of_every_depth(bits: int) -> None:
    """Witness: the values that went into the file, spread over 0 .. 255; those of 16 bits as they are."""
    values = RNG.integers(0, 2**bits, (5, 9, 1))
    found = decode(png(values, bits, 0))
    assert found.dtype == (np.uint16 if bits == 16 else np.uint8)
    np.testing.assert_array_equal(found, values if bits >= 8 else values * 255 // (2**bits - 1))


def test_sixteen_bit_colour_keeps_the_upper_eight() -> None:
    values = RNG.integers(0, 65536, (5, 9, 3))
    np.testing.assert_array_equal(decode(png(values, 16, 2)), values >> 8)


@pytest.mark.parametrize("colour", [4, 6])
def test_sixteen_bits_with_transparency_become_eight_bit_colour(colour: int) -> None:
    """Witness: the upper eight bits, laid over white."""
    values = RNG.integers(0, 65536, (200, 9, 2 if colour == 4 else 4))
    upper = (values >> 8).astype(float)
    share = upper[..., -1:] / 255
    want = np.broadcast_to(upper[..., :-1] * share + 255 * (1 - share), (200, 9, 3))
    np.testing.assert_allclose(decode(png(values, 16, colour)), want, atol=1)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_grey_is_white(bits: int) -> None:
    values = RNG.integers(0, 2**bits, (5, 9, 1))
    clear = struct.pack(">H", int(values[1, 2, 0]))
    want = np.where(values == values[1, 2], 2**bits - 1, values)
    np.testing.assert_array_equal(decode(png(values, bits, 0, (b"tRNS", clear))), want)


def test_a_transparent_colour_is_white() -> None:
    values = RNG.integers(0, 256, (5, 9, 3))
    clear = struct.pack(">HHH", *values[1, 2].tolist())
    want = values.copy()
    want[1, 2] = 255
    np.testing.assert_array_equal(decode(png(values, 8, 2, (b"tRNS", clear))), want)


def test_a_palette_with_shares_of_transparency() -> None:
    table, share = RNG.integers(0, 256, (4, 3)), np.array([0, 80, 255])  # the fourth colour is opaque
    values = RNG.integers(0, 4, (5, 9, 1))
    found = decode(png(values, 2, 3, (b"PLTE", bytes(table.ravel().tolist())), (b"tRNS", bytes(share.tolist()))))
    alpha = np.append(share, 255)[:, None] / 255
    want = (table * alpha + 255 * (1 - alpha))[values[..., 0]]
    np.testing.assert_allclose(found, want, atol=1)


def test_floats_in_the_unit_range_become_sixteen_bits() -> None:
    share = RNG.random((6, 9), np.float32)
    share.ravel()[:2] = 0, 1
    found = decode(packed(Image.fromarray(share), "TIFF"))
    assert found.dtype == np.uint16 and found.min() == 0 and found.max() == 65535
    np.testing.assert_allclose(found[..., 0] / 65535, share, atol=0.51 / 65535)


@pytest.mark.parametrize("odd", [-0.01, 1.01, np.nan, np.inf])
def test_other_floats_are_refused(odd: float) -> None:
    share = np.full((6, 9), 0.5, np.float32)
    share[2, 3] = odd
    with pytest.raises(DataError, match=r"floating-point pixels from .* bring them to \[0, 1\]"):
        decode(packed(Image.fromarray(share), "TIFF"))


def test_whole_numbers_of_32_bits_are_read_where_16_hold_them() -> None:
    np.testing.assert_array_equal(decode(packed(Image.fromarray(DEEP.astype(np.int32)), "TIFF"))[..., 0], DEEP)
    for odd in (-1, 65536):
        values = DEEP.astype(np.int32)
        values[0, 0] = odd
        with pytest.raises(DataError, match=r"integer pixels from .* bring them to 0 \.\. 65535"):
            decode(packed(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_tiff_where_white_is_zero(bits: int) -> None:
    """Written from the specification: one strip behind the tags, PhotometricInterpretation 0."""
    values = RNG.integers(0, 2**bits, (4, 8))
    strip = np.packbits(values.astype(np.uint8)) if bits == 1 else values.astype(f"<u{bits // 8}")
    tags = {256: 8, 257: 4, 258: bits, 259: 1, 262: 0, 273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: 4, 279: strip.nbytes}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    whole = b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4) + strip.tobytes()
    top = 2**bits - 1
    want = (top - values) * (255 if bits == 1 else 1)
    np.testing.assert_array_equal(decode(whole)[..., 0], want)


def test_cmyk_by_its_formula() -> None:
    values = RNG.integers(0, 256, (6, 9, 4), np.uint8)
    ink = values / 255
    want = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    np.testing.assert_allclose(decode(packed(Image.fromarray(values, "CMYK"), "TIFF")), want, atol=1)


def test_lab_is_refused_with_a_way_out() -> None:
    with pytest.raises(DataError, match="LAB colours are not read: save it as RGB"):
        decode(packed(Image.new("LAB", (4, 3)), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_its_first_picture(kind: str) -> None:
    first, second = (Image.fromarray(RNG.integers(0, 256, (6, 9, 3), np.uint8)) for _ in range(2))
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode(packed(first, kind, save_all=True, append_images=[second], **options))
    np.testing.assert_array_equal(found, np.asarray(first))


def test_a_burst_of_a_phone_is_its_first_picture() -> None:
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("navy", "yellow"))
    found = decode(packed(first, "MPO", save_all=True, append_images=[second]))
    np.testing.assert_allclose(found, np.broadcast_to([0, 0, 128], found.shape), atol=4)


def test_a_gif_that_is_clear_in_places() -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    found = decode(packed(image, "GIF", transparency=1))
    assert found.tolist() == [[[255, 0, 0], [255, 255, 255]], [[0, 0, 255], [255, 255, 255]]]


def test_what_is_in_a_file_counts_not_its_name(tmp_path: Path) -> None:
    for name, kind in (("a.png", "BMP"), ("b.jpg", "PNG"), ("c.tif", "WEBP"), ("d.bmp", "GIF"), ("e.tif", "PNG")):
        file = tmp_path / name
        file.write_bytes(packed(Image.fromarray(RGB), kind, **({"lossless": True} if kind == "WEBP" else {})))
        np.testing.assert_array_equal(decode(file), RGB)


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
    assert measure(packed(Image.fromarray(RGB), kind, exif=exif, **options)) == upright.shape[:2]


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
        decode(b"noise" + bytes(40))
    with pytest.raises(DataError, match=r"slide\.tif: the file is cut short"):
        decode(packed(Image.fromarray(DEEP), "TIFF")[:-1], "slide.tif")


@pytest.mark.parametrize(
    "start, word",
    [
        (b"PK\x03\x04", "a zip archive"), (b"%PDF-1.7", "a PDF"), (b"<!DOCTYPE html>", "a web page"),
        (b"\0\0\0\x18ftypheic", "a HEIC photograph"), (b"\0\0\0\x18ftypavif", "an AVIF"),
        (b"\0\0\0\x18ftypmp42", "a video"), (b"RIFF\0\0\0\0WAVE", "GIF image:"),
    ],
)  # fmt: skip
def test_other_kinds_of_files_are_named(start: bytes, word: str) -> None:
    with pytest.raises(DataError, match=f"not a readable PNG, .*{word}.* save it as PNG or JPEG"):
        decode(start + bytes(100))


@pytest.mark.parametrize("side", [9_500, 14_000, 2**31 - 1])
def test_bombs_are_refused_before_they_are_decoded(side: int) -> None:
    """A header alone, which promises many pixels: the error names them, so none was looked for."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + chunk(b"IDAT", b"")
    with pytest.raises(
        DataError, match=rf"{side} x {side} pixels, more than the 89,478,485 allowed: MODICUM_MAX_PIXELS"
    ):
        decode(b"\x89PNG\r\n\x1a\n" + head)


def test_the_limit_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    image = packed(Image.new("1", (30, 20), 1), "TIFF", compression="group4")
    monkeypatch.setenv("MODICUM_MAX_PIXELS", "599")
    with pytest.raises(DataError, match="30 x 20 pixels, more than the 599 allowed"):
        decode(image)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow itself stops at twice this, inside its decoder
    monkeypatch.setenv("MODICUM_MAX_PIXELS", "600")
    assert decode(image).shape == (20, 30, 1)
    monkeypatch.setenv("MODICUM_MAX_PIXELS", "many")
    with pytest.raises(SettingsError, match="'many' is not a number of pixels"):
        decode(image)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_glimpse_is_the_image_made_smaller(turn: int) -> None:
    """Witness: averages of 8 x 8 pixels of the whole image, which is what a JPEG holds of each block at 1/8."""
    exif = Image.Exif()
    exif[0x0112] = turn
    smooth = RNG.integers(0, 256, (9, 12, 3), np.uint8)
    stored = packed(Image.fromarray(smooth).resize((384, 288), Image.Resampling.BICUBIC), "JPEG", quality=95, exif=exif)
    whole = decode(stored)
    found, height, width = glimpse(stored, 32)
    assert (height, width) == whole.shape[:2] and found.shape == (height // 8, width // 8, 3)
    means = whole.reshape(height // 8, 8, width // 8, 8, 3).mean((1, 3))
    assert np.abs(found - means).mean() < 2
    same, *sizes = glimpse(stored, 289)
    np.testing.assert_array_equal(same, whole)
    assert sizes == [height, width]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_a_glimpse_refuses_what_decoding_refuses(options: dict[str, object]) -> None:
    image = Image.fromarray(RNG.integers(0, 256, (96, 128, 3), np.uint8))
    whole = packed(image, "JPEG", **options)

    def refused(stored: bytes, side: int) -> bool:
        try:
            glimpse(stored, side)
        except DataError:
            return True
        return False

    cuts = range(2, len(whole), max(1, len(whole) // 60))
    assert [refused(whole[:n], 12) for n in cuts] == [refused(whole[:n], 0) for n in cuts]
    assert sum(refused(whole[:n], 12) for n in cuts) > 55


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


def test_levels_are_what_each_pixel_says() -> None:
    """Indices of a palette, grey of 8 and 16 bits and single bits; never a colour."""
    palette = Image.fromarray(GREY % 7)
    palette.putpalette([5 * i for i in range(21)])
    assert palette.mode == "P"
    np.testing.assert_array_equal(levels(packed(palette, "PNG")), GREY % 7)
    np.testing.assert_array_equal(levels(packed(Image.fromarray(GREY), "PNG")), GREY)
    np.testing.assert_array_equal(levels(packed(Image.fromarray(DEEP), "PNG")), DEEP)
    np.testing.assert_array_equal(levels(packed(Image.fromarray(GREY > 99), "PNG")), GREY > 99)
    with pytest.raises(DataError, match="RGB colours, not one number a pixel"):
        levels(packed(Image.fromarray(RGB), "PNG"))


def test_a_measure_refuses_what_decoding_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    for content, says in ((b"", "empty"), (b"x", "not a readable"), (b"%PDF-1", "a PDF")):
        with pytest.raises(DataError, match=says):
            measure(content)
    monkeypatch.setenv("MODICUM_MAX_PIXELS", "53")
    for look in (measure, levels):
        with pytest.raises(DataError, match="9 x 6 pixels, more than the 53 allowed"):
            look(packed(Image.fromarray(GREY), "PNG"))
