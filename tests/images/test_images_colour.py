"""Alpha, bit depth, colour models and embedded profiles, each against a value worked out apart from the loader."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from latent_inv.errors import ImageError, SpecError
from latent_inv.images import load, to_uint8


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG written by hand, for kinds that Pillow cannot write. `rows` has the filter byte before each row."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    middle = b"".join(chunk(name.encode(), body) for name, body in chunks.items())
    return head + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def hole(hidden: tuple[int, int, int]) -> np.ndarray:
    pixels = np.random.default_rng(3).integers(0, 256, (12, 12, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[2:6, 3:9] = (*hidden, 0)
    return pixels


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_hidden_colours_never_matter(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    black, red = (load(encode(Image.fromarray(hole(c)), kind, **options)) for c in ((0, 0, 0), (240, 10, 10)))
    assert black.pixels.tobytes() == red.pixels.tobytes()
    assert (black.weight[2:6, 3:9] == 0).all()
    assert black.weight.sum() == 12 * 12 - 24
    assert (black.pixels[:, 2:6, 3:9] == 0).all()


def test_half_transparent_colour_is_composited_on_mid_grey() -> None:
    picture = load(Image.new("RGBA", (2, 2), (255, 0, 51, 51)))
    # a = 51/255 = 0.2; c = (1, -1, -0.6)
    assert picture.weight == pytest.approx(0.2, abs=1e-7)
    assert picture.pixels[:, 0, 0] == pytest.approx([0.2, -0.2, -0.12], abs=1e-7)


def test_opaque_alpha_is_no_weight() -> None:
    assert load(Image.new("RGBA", (3, 3), (1, 2, 3, 255))).weight is None
    assert load(Image.new("LA", (3, 3), (7, 255))).weight is None


def test_every_picture_transparent_is_refused() -> None:
    with pytest.raises(ImageError, match="hides every pixel"):
        load(Image.new("RGBA", (3, 3), (1, 2, 3, 0)))


def test_grey_with_alpha() -> None:
    image = Image.new("LA", (4, 2), (200, 255))
    image.putpixel((1, 0), (9, 0))
    for source in (image, encode(image)):
        picture = load(source)
        assert to_uint8(picture.pixels)[1, 3].tolist() == [200, 200, 200]
        assert picture.weight[0].tolist() == [1, 0, 1, 1]
        assert (picture.pixels[:, 0, 1] == 0).all()


def test_palette_with_alpha_plane() -> None:
    image = Image.new("PA", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), (1, 255))
    picture = load(image)
    assert to_uint8(picture.pixels)[0, 0].tolist() == [0, 0, 255]
    assert picture.weight.tolist() == [[1, 0]]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_entry(kind: str) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 9, 9, 9])
    image.putdata([0, 1, 2])
    picture = load(encode(image, kind, transparency=2))
    assert picture.weight.tolist() == [[1, 1, 0]]
    assert to_uint8(picture.pixels)[0, :2].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_palette_with_an_alpha_an_entry() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 9, 9, 9])
    image.putdata([0, 1, 2])
    picture = load(encode(image, transparency=bytes([255, 51, 0])))
    assert picture.weight[0].tolist() == pytest.approx([1, 0.2, 0])


@pytest.mark.parametrize(("depth", "row"), [(1, [0b01000000]), (2, [0b00011011]), (4, [0x01, 0x23]), (8, [0, 1, 2, 3])])
def test_transparent_level_of_grey_png(depth: int, row: list[int]) -> None:
    data = png(2 if depth == 1 else 4, 1, depth, 0, b"\0" + bytes(row), tRNS=struct.pack(">H", 1))
    picture = load(data)
    top = (1 << depth) - 1
    assert picture.weight.tolist() == ([[1, 0]] if depth == 1 else [[1, 0, 1, 1]])
    grey = to_uint8(picture.pixels)[0, :, 0].tolist()
    assert [v for v, w in zip(grey, picture.weight[0], strict=True) if w] == [
        round(255 * k / top) for k in range(len(grey)) if k != 1
    ]


def test_transparent_colour_of_rgb_png() -> None:
    rows = b"\0" + bytes([1, 2, 3, 1, 2, 4])
    assert load(png(2, 1, 8, 2, rows, tRNS=struct.pack(">HHH", 1, 2, 3))).weight.tolist() == [[0, 1]]
    deep = b"\0" + struct.pack(">6H", 0x0101, 0x0202, 0x0303, 0x4101, 0x0202, 0x0303)
    picture = load(png(2, 1, 16, 2, deep, tRNS=struct.pack(">HHH", 0x0101, 0x0202, 0x0303)))
    assert picture.weight.tolist() == [[0, 1]]
    assert picture.warnings == ("16-bit colour is read with 8 bits a channel",)


def test_transparent_level_of_16_bit_grey_png() -> None:
    data = png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 0, 1000, 65535), tRNS=struct.pack(">H", 0))
    assert load(data).weight.tolist() == [[0, 1, 1]]


def ramp16() -> np.ndarray:
    return np.tile((np.arange(256) * 257).astype(np.uint16), (4, 1))


@pytest.mark.parametrize("source", ["png", "tiff", "ppm", "I;16", "I;16B", "I", "array"])
def test_16_bit_grey_is_scaled_and_not_clipped(source: str) -> None:
    image = Image.fromarray(ramp16())
    made = {
        "png": lambda: encode(image),
        "tiff": lambda: encode(image, "TIFF"),
        "ppm": lambda: b"P5 256 4 65535\n" + ramp16().astype(">u2").tobytes(),
        "I;16": lambda: image,
        "I;16B": lambda: Image.frombytes("I;16B", (256, 4), ramp16().astype(">u2").tobytes()),
        "I": lambda: Image.fromarray(ramp16().astype(np.int32)),
        "array": ramp16,
    }[source]()
    pixels = load(made).pixels
    # Column x holds x/255 of full scale; 1e-6: rounding of float32.
    assert np.abs((pixels + 1) / 2 - np.arange(256) / 255).max() < 1e-6
    assert len(np.unique(pixels)) == 256


def test_16_bit_grey_keeps_its_depth() -> None:
    fine = np.arange(30000, 30064, dtype=np.uint16).reshape(8, 8)
    assert len(np.unique(load(encode(Image.fromarray(fine))).pixels)) == 64


def test_integers_beyond_16_bits_are_refused_with_their_range() -> None:
    for values in ([[0, 70000]], [[-1, 5]]):
        with pytest.raises(ImageError, match=f"go from {values[0][0]} to {values[0][1]}"):
            load(Image.fromarray(np.array(values, np.int32)))
    small = load(Image.fromarray(np.array([[0, 255]], np.int32)), value_range=(0, 255))
    assert small.pixels[0, 0].tolist() == [-1, 1]


def test_float_samples_need_a_range() -> None:
    image = Image.fromarray(np.array([[0.0, 0.25], [0.5, 1.0]], np.float32))
    for source in (image, encode(image, "TIFF")):
        with pytest.raises(ImageError, match="state value_range"):
            load(source)
        with pytest.raises(ImageError, match=r"declared range \(-1, 1\)|go from") as caught:
            load(Image.fromarray(np.array([[-3.0, 2.0]], np.float32)), value_range=(-1, 1))
        assert "-3 to 2" in str(caught.value)
        assert load(source, value_range=(0, 1)).pixels[2].tolist() == [[-1, -0.5], [0, 1]]
    with pytest.raises(SpecError, match="accepted"):
        load(image, value_range=(0, 2))


def test_8_bit_files_refuse_a_range_that_is_not_theirs() -> None:
    data = encode(Image.new("RGB", (2, 2), (1, 2, 3)))
    assert load(data, value_range=(0, 255)).pixels.shape == (3, 2, 2)
    with pytest.raises(ImageError, match="leave it out"):
        load(data, value_range=(0, 1))


def test_one_bit_and_palette_and_hsv() -> None:
    bits = Image.fromarray(np.array([[0, 255, 255, 0]], np.uint8)).convert("1")
    for source in (bits, encode(bits), encode(bits, "TIFF"), encode(bits, "PPM")):
        assert to_uint8(load(source).pixels)[0, :, 1].tolist() == [0, 255, 255, 0]
    quantised = Image.new("RGB", (4, 4), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert (to_uint8(load(encode(quantised)).pixels) == (10, 200, 30)).all()
    assert (to_uint8(load(Image.new("HSV", (2, 2), (0, 255, 255))).pixels) == (255, 0, 0)).all()
    assert (to_uint8(load(Image.new("YCbCr", (2, 2), (255, 128, 128))).pixels) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_profile(kind: str) -> None:
    # Adobe's JPEGs hold inverted ink; Pillow writes them so. Full cyan is (0, 255, 255), no ink is white.
    image = Image.new("CMYK", (16, 8), (255, 0, 0, 0))
    image.paste((0, 0, 0, 0), (8, 0, 16, 8))
    out = to_uint8(load(encode(image, kind, quality=95)).pixels).astype(int)
    assert np.abs(out[4, 2] - (0, 255, 255)).max() <= 3
    assert np.abs(out[4, 13] - (255, 255, 255)).max() <= 3


# Profiles, written by hand after ICC.1:2001-04

D50 = np.array([0.9642, 1.0, 0.8249])
#: XYZ (D50) of the sRGB primaries, as columns
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
#: the same for Display P3
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])


def fixed(values: np.ndarray | list[float]) -> bytes:
    return b"".join(struct.pack(">i", round(float(v) * 65536)) for v in values)


def profile(space: bytes, kind: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78, b"wtpt": xyz(D50), **tags}
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = bytearray(128)
    header[0:4] = struct.pack(">I", offset + len(body))
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = kind + space + pcs
    header[24:36] = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    header[36:40] = b"acsp"
    header[68:80] = fixed(D50)
    return bytes(header) + struct.pack(">I", len(tags)) + table + body


def xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(values)


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def srgb_curve() -> bytes:
    x = np.arange(1024) / 1023
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I", 1024) + np.round(y * 65535).astype(">u2").tobytes()


def rgb_profile(primaries: np.ndarray) -> bytes:
    tags = {name: xyz(primaries[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return profile(b"RGB ", b"mntr", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), srgb_curve()))


def grey_profile(value: float) -> bytes:
    return profile(b"GRAY", b"mntr", b"XYZ ", {b"kTRC": gamma(value)})


def to_srgb(xyz_d50: np.ndarray) -> np.ndarray:
    linear = np.clip(np.linalg.solve(SRGB, xyz_d50), 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def decode_srgb(levels: np.ndarray) -> np.ndarray:
    x = levels / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


CMYK_LAB = {0: (100, 0, 0), 1: (60, -30, -40)}  # paper; full cyan. All other nodes are black.


def cmyk_profile() -> bytes:
    """A table of 2⁴ nodes from ink to Lab in 8 bits; the first channel varies slowest."""
    identity = fixed(np.eye(3).ravel())
    straight = bytes(range(256))
    nodes = b""
    for index in range(16):
        lab = CMYK_LAB[0] if index == 0 else CMYK_LAB[1] if index == 8 else (0, 0, 0)
        nodes += bytes([round(lab[0] * 2.55), lab[1] + 128, lab[2] + 128])
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + straight * 4 + nodes + straight * 3
    return profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table})


def lab_to_srgb(lab: tuple[int, int, int]) -> np.ndarray:
    fy = (lab[0] + 16) / 116
    f = np.array([fy + lab[1] / 500, fy, fy - lab[2] / 200])
    return to_srgb(D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))


needs_cms = pytest.mark.skipif(not features.check_module("littlecms2"), reason="Pillow without littleCMS")


@needs_cms
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_wide_gamut_is_converted(kind: str) -> None:
    colour = np.array([200, 100, 50])
    expected = to_srgb(P3 @ decode_srgb(colour))
    assert np.abs(expected - colour).max() > 10
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encode(Image.new("RGB", (8, 8), tuple(colour.tolist())), kind, icc_profile=rgb_profile(P3), **options)
    picture = load(data)
    assert picture.warnings == ()
    # 2 levels: 8-bit transform, and JPEG's rounding.
    assert np.abs(to_uint8(picture.pixels) - expected).max() <= 2


@needs_cms
def test_profile_reaches_palette_and_alpha_pictures() -> None:
    expected = to_srgb(P3 @ decode_srgb(np.array([200, 100, 50])))
    flat = Image.new("RGB", (4, 4), (200, 100, 50))
    alpha = flat.convert("RGBA")
    alpha.putpixel((0, 0), (1, 2, 3, 0))
    for image in (flat.convert("P", palette=Image.Palette.ADAPTIVE), alpha):
        picture = load(encode(image, icc_profile=rgb_profile(P3)))
        assert np.abs(to_uint8(picture.pixels)[2, 2] - expected).max() <= 1.5
    assert (picture.pixels[:, 0, 0] == 0).all()


@needs_cms
def test_srgb_profiles_change_no_level() -> None:
    # Many colours: the transform itself is off by one level for one in some thousand.
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    standard = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for embedded in (standard, rgb_profile(SRGB)):
        assert (to_uint8(load(encode(Image.fromarray(pixels), icc_profile=embedded)).pixels) == pixels).all()


@needs_cms
@pytest.mark.parametrize("deep", [False, True])
def test_grey_profile(deep: bool) -> None:
    # Linear grey: level v is v/255 of the light.
    levels = np.arange(0, 256, 5)
    image = Image.fromarray((levels * 257).astype(np.uint16)[None] if deep else levels.astype(np.uint8)[None])
    picture = load(encode(image, icc_profile=grey_profile(1.0)))
    expected = to_srgb(D50[:, None] * (levels / 255))
    assert np.abs(to_uint8(picture.pixels)[0].T - expected).max() <= 1.5
    if not deep:
        with_alpha = load(encode(image.convert("LA"), icc_profile=grey_profile(1.0)))
        assert np.abs(with_alpha.pixels - picture.pixels).max() == 0


@needs_cms
def test_cmyk_profile() -> None:
    image = Image.new("CMYK", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 255))
    out = to_uint8(load(encode(image, "TIFF", icc_profile=cmyk_profile())).pixels)[0].astype(int)
    for found, lab in zip(out, (CMYK_LAB[0], CMYK_LAB[1], (0, 0, 0)), strict=True):
        # 3 levels: Lab in 8 bits.
        assert np.abs(found - lab_to_srgb(lab)).max() <= 3
    assert np.abs(out[1] - (0, 255, 255)).max() > 50  # what ignoring the profile gives


@needs_cms
def test_lab_pictures() -> None:
    image = Image.merge("LAB", [Image.new("L", (2, 2), v) for v in (153, 98, 88)])  # L · 2.55, a + 128, b + 128
    for source in (image, encode(image, "TIFF")):
        # 2 levels: Lab in 8 bits
        assert np.abs(to_uint8(load(source).pixels)[0, 0] - lab_to_srgb((60, -30, -40))).max() <= 2


@pytest.mark.parametrize(
    "junk", [b"not a profile", b"\0" * 200, rgb_profile(P3)[:150], cmyk_profile(), grey_profile(2.2)]
)
def test_profile_that_cannot_be_used_is_a_warning(junk: bytes) -> None:
    picture = load(encode(Image.new("RGB", (4, 4), (200, 100, 50)), icc_profile=junk))
    assert (to_uint8(picture.pixels) == (200, 100, 50)).all()
    assert len(picture.warnings) == 1
    assert "taken as sRGB" in picture.warnings[0]


def test_without_colour_management_a_profile_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ImportError("no littleCMS")

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", missing)
    picture = load(encode(Image.new("RGB", (4, 4), (200, 100, 50)), icc_profile=rgb_profile(P3)))
    assert (to_uint8(picture.pixels) == (200, 100, 50)).all()
    assert "taken as sRGB" in picture.warnings[0]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures(level: int) -> None:
    for mode in ("L", "RGB"):
        picture = load(encode(Image.new(mode, (8, 8), level if mode == "L" else (level,) * 3)))
        assert np.unique(picture.pixels).tolist() == pytest.approx([level / 127.5 - 1], abs=1e-7)
