"""Encoded files: orientation, frames, damage, limits, and what is no picture."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from latent_inv.errors import ImageError, LimitError
from latent_inv.images import Limits, load, to_uint8, with_weight

T = Image.Transpose
#: orientation → how the upright picture is turned before it is stored
STORED = {
    1: None,
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}


def scene(height: int = 24, width: int = 16) -> Image.Image:
    """No symmetry: red on top, green on the left, blue at the bottom right, in blocks large enough for JPEG."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[:8] = (200, 40, 40)
    pixels[8:, :8] = (40, 200, 40)
    pixels[16:, 8:] = (40, 40, 200)
    return Image.fromarray(pixels)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 64, width: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def levels(source: object) -> np.ndarray:
    return to_uint8(load(source).pixels).astype(int)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_once_in_every_format(kind: str, orientation: int) -> None:
    turn = STORED[orientation]
    stored = scene() if turn is None else scene().transpose(turn)
    options = {"TIFF": {"tiffinfo": {0x0112: orientation}}}.get(kind, {"exif": exif(orientation)})
    quality = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encode(stored, kind, **options, **quality)
    # 4 levels: loss of JPEG at quality 95 on flat blocks; a wrong turn is off by 160.
    expected = np.asarray(scene()).astype(int)
    assert np.abs(levels(data) - expected).max() <= 4
    opened = Image.open(io.BytesIO(data))
    assert np.abs(levels(opened) - expected).max() <= 4
    opened.load()
    assert np.abs(levels(opened) - expected).max() <= 4


def test_orientation_in_png_text_as_imagemagick_writes_it() -> None:
    from PIL.PngImagePlugin import PngInfo

    raw = exif(6)
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(raw):8d}\n{raw.hex()}\n")
    assert (levels(encode(scene().transpose(T.ROTATE_90), "PNG", pnginfo=text)) == np.asarray(scene())).all()


def test_mask_and_picture_with_one_tag_stay_aligned() -> None:
    mask = Image.fromarray(np.uint8(255) * (np.arange(24)[:, None] < 8).repeat(16, axis=1))
    stored = [encode(im.transpose(T.ROTATE_90), "PNG", exif=exif(6)) for im in (scene(), mask)]
    picture = with_weight(load(stored[0]), stored[1])
    assert (picture.weight[:8] == 1).all()
    assert (picture.weight[8:] == 0).all()
    assert (to_uint8(picture.pixels)[:8] == (200, 40, 40)).all()


@pytest.mark.parametrize(
    "junk", [b"", b"II*\0", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff", bytes(range(50))]
)
def test_damaged_exif_leaves_the_picture_as_stored(junk: bytes) -> None:
    data = encode(scene(), "JPEG", exif=b"Exif\0\0" + junk, quality=95, subsampling=0)
    assert load(data).pixels.shape == (3, 24, 16)


def test_exif_with_tags_beyond_its_end_makes_no_python_warning() -> None:
    # One rational tag whose value would lie far outside: Pillow warns on this, and warnings are errors here.
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 2)
    block += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 5, 1, 60000)
    data = encode(scene().transpose(T.ROTATE_90), "JPEG", exif=b"Exif\0\0" + block, quality=95, subsampling=0)
    assert load(data).pixels.shape == (3, 24, 16)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_of_several_frames_with_one_wording(kind: str) -> None:
    red, green, blue = (Image.new("RGB", (16, 16), c) for c in ("red", "lime", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = load(encode(red, kind, save_all=True, append_images=[green, blue], **options))
    assert (to_uint8(picture.pixels) == (255, 0, 0)).all()
    assert picture.warnings == ("the file holds 3 frames or pages; only the first is used",)


def test_stereo_photo_is_no_animation() -> None:
    data = encode(scene(), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 24))], quality=95, subsampling=0)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    for source in (data, Image.open(io.BytesIO(data))):
        picture = load(source)
        assert picture.warnings == ()
        assert np.abs(to_uint8(picture.pixels).astype(int) - np.asarray(scene())).max() <= 4


@pytest.mark.parametrize("anyway", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_truncated_data_is_refused(kind: str, anyway: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another library in the process may have asked Pillow to let truncated pictures pass.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", anyway)
    whole = encode(noise(), kind)
    with pytest.raises(ImageError, match=r"^picture: image data is truncated$"):
        load(whole[: len(whole) * 6 // 10], field="picture")
    assert anyway is ImageFile.LOAD_TRUNCATED_IMAGES
    assert load(whole).pixels.shape == (3, 64, 64)


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}])
def test_truncated_jpegs_of_other_kinds(options: dict[str, object]) -> None:
    whole = encode(noise(), "JPEG", **options)
    load(whole)
    for part in (0.3, 0.6, 0.95):
        with pytest.raises(ImageError, match="truncated"):
            load(whole[: int(len(whole) * part)])


@pytest.mark.parametrize("anyway", [False, True])
@pytest.mark.parametrize("data", [b"P3 4 4 255 1 2 3 4 5 6", b"P6 4 4 15 12345", b"P5 4 4 65535 1234567"])
def test_truncated_ppms_of_other_kinds(data: bytes, anyway: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", anyway)
    with pytest.raises(ImageError, match="image data is truncated"):
        load(data)


def test_ppm_of_text_without_a_last_newline() -> None:
    assert (levels(b"P3 2 1 255 1 2 3 4 5 6") == [[[1, 2, 3], [4, 5, 6]]]).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"])
def test_whole_tiffs_of_every_compression(compression: str) -> None:
    data = encode(scene(), "TIFF", compression=compression, **({"quality": 95} if compression == "jpeg" else {}))
    assert np.abs(levels(data) - np.asarray(scene())).max() <= (24 if compression == "jpeg" else 0)


def test_truncated_pil_image_is_refused_too() -> None:
    whole = encode(noise(), "PNG")
    with pytest.raises(ImageError, match="image data is truncated"):
        load(Image.open(io.BytesIO(whole[: len(whole) // 2])))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_damage_ends_in_an_image_error_or_a_picture(kind: str) -> None:
    whole = encode(noise(16, 16), kind)
    rng = np.random.default_rng(1)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 120), 3):
            data[place] = rng.integers(256)
        with contextlib.suppress(ImageError, LimitError):
            load(bytes(data), limits=Limits(max_pixels=4096))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file (0 bytes)"),
        (b"\xef\xbb\xbfhello, this is a list of pictures\n", "plain text"),
        ("été\n".encode() * 300, "plain text"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG text"),
        (b"<!DOCTYPE html><html>", "HTML text"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer instead of the file"),
        (b"\x00" * 64, "a file of zero bytes only"),
        (b"\x01\x02\xff\xfe\x00" * 9, "data of an unknown kind"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIF picture, which needs a Pillow plugin that is not here"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, found: str) -> None:
    with pytest.raises(ImageError) as caught:
        load(data)
    assert caught.value.message.startswith(f"found {found}; accepted: PNG, JPEG, WEBP, GIF, TIFF, BMP, PPM")


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "JPEG2000", "EPS", "PDF"])
def test_other_formats_of_pillow_are_out_of_reach(kind: str) -> None:
    with pytest.raises(ImageError, match="accepted: PNG"):
        load(encode(scene(), kind))


def test_files_by_path_whatever_the_name(tmp_path: Path) -> None:
    for name in ("ünï 猫.png", "u\u0308.png", "png_inside.jpg", "no_suffix"):
        path = tmp_path / name
        path.write_bytes(encode(scene(), "PNG"))
        for form in (path, str(path)):
            assert (levels(form) == np.asarray(scene())).all()


def test_errors_name_the_file_and_never_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "secret_folder"
    folder.mkdir()
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    cases = {"gone.png": "there is no file", "sub": "is a folder", "pipe": "not a regular file", "a\0b": "cannot read"}
    (folder / "text.png").write_text("text")
    cases["text.png/x"] = "cannot read"
    for name, words in cases.items():
        with pytest.raises(ImageError, match=words) as caught:
            load(f"{folder}/{name}")
        assert "secret_folder" not in str(caught.value)
    for source in (folder / "text.png", "", ".", "/"):
        with pytest.raises(ImageError) as caught:
            load(source)
        assert "secret_folder" not in str(caught.value)


@pytest.mark.parametrize("source", [None, 3, [[0]], io.BytesIO(b"x"), {"a": 1}])
def test_other_types_are_refused_by_name(source: object) -> None:
    with pytest.raises(ImageError, match=f"found {type(source).__name__}; accepted: a path"):
        load(source)


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def webp_bomb(width: int, height: int) -> bytes:
    extended = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + extended
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_bombs_are_refused_by_their_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    # The middle one is where Image.open would warn, the last where it would raise.
    for width, height in ((8000, 5001), (10000, 9500), (16000, 16000)):
        with pytest.raises(LimitError, match=rf"{width}x{height} pixels .* at most 40000000 pixels"):
            load(bomb(width, height))
    for data in (bomb(20000, 1), webp_bomb(1 << 20, 100)):
        with pytest.raises(LimitError, match="a side of at most 16384"):
            load(data)
    with pytest.raises(LimitError, match="at most 10 pixels"):
        load(Image.new("L", (4, 4)), limits=Limits(max_pixels=10))
    with pytest.raises(ImageError, match="at least 32"):
        load(bomb(31, 64), limits=Limits(min_side=32))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "PPM"])
@pytest.mark.parametrize("allowed", [1, 400])
def test_pillows_own_pixel_limit_plays_no_part(kind: str, allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", allowed)
    assert load(encode(noise(24, 24), kind)).height == 24
    assert allowed == Image.MAX_IMAGE_PIXELS


def test_bytes_are_limited_before_reading(tmp_path: Path) -> None:
    data = encode(noise(), "PNG")
    path = tmp_path / "large.png"
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), path):
        assert load(source, limits=Limits(max_bytes=len(data))).height == 64
        with pytest.raises(LimitError, match=f"{len(data)} bytes, at most {len(data) - 1} are accepted"):
            load(source, limits=Limits(max_bytes=len(data) - 1))
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no room, but could not be read
    with pytest.raises(LimitError):
        load(path)


def test_a_frame_that_the_caller_chose_is_kept() -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "lime", "blue")]
    opened = Image.open(io.BytesIO(encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])))
    assert isinstance(opened, TiffImagePlugin.TiffImageFile)
    opened.seek(2)
    picture = load(opened)
    assert (to_uint8(picture.pixels) == (0, 0, 255)).all()
    assert picture.warnings == ()


def test_no_torch_is_imported() -> None:
    code = "import latent_inv.images, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
