"""Files of every kind that the two decoders know, small, to be spoilt."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from .fuzz_messages import spoil_bytes


def pictures(seed: int) -> list[bytes]:
    """Pictures in every format, mode and oddity that the decoder tells apart, 12 × 9 pixels."""
    rng = np.random.default_rng(seed)
    colours = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    alpha = Image.fromarray(rng.integers(0, 256, (9, 12), dtype=np.uint8))
    clear = colours.copy()
    clear.putalpha(alpha)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    found = []

    def add(image: Image.Image, kind: str, **settings: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, kind, **settings)
        found.append(buffer.getvalue())

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        add(alpha.convert("I;16") if mode == "I;16" else clear.convert(mode), "PNG")
    add(colours.convert("P"), "PNG", transparency=3)
    add(colours, "PNG", transparency=(1, 2, 3))
    add(alpha, "PNG", transparency=7)
    add(colours, "PNG", icc_profile=profile)
    add(colours, "PNG", icc_profile=lab)
    add(colours, "PNG", icc_profile=b"no profile")
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(colours, "JPEG", exif=exif)
    for mode in ("L", "CMYK", "YCbCr"):
        add(colours.convert(mode), "JPEG")
    add(colours, "JPEG", progressive=True, icc_profile=profile)
    add(colours.convert("CMYK"), "JPEG", icc_profile=profile)
    add(colours, "WEBP", lossless=True)
    add(colours, "WEBP")
    add(clear, "WEBP")
    for kind in ("WEBP", "GIF", "PNG", "TIFF"):
        add(colours, kind, save_all=True, append_images=[colours.rotate(180)])
    add(colours.convert("P"), "GIF", transparency=1)
    for kind in ("BMP", "TIFF", "PPM", "ICO", "TGA"):
        add(colours, kind)
    for mode in ("F", "I", "LAB", "HSV", "CMYK"):
        if mode not in ("HSV",):
            add(
                alpha.convert(mode) if mode in ("F", "I") else colours.convert("RGB" if mode == "LAB" else mode), "TIFF"
            )
    old = PngInfo()
    old.add_text("Raw profile type exif", f"\nexif\n   14\n{_exif(6).hex()}\n")
    add(colours, "PNG", pnginfo=old)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab_picture = ImageCms.applyTransform(colours, to_lab)
    if lab_picture is not None:
        add(lab_picture, "TIFF")
    add(colours, "MPO", save_all=True, append_images=[colours])
    add(clear.point(lambda _: 0), "PNG")
    found += [png_of(side, side) for side in (0, 1, 100_000, 2**31 - 1)]
    found.append(png_of(4, 3, bits=16, content=b"".join(b"\0" + rng.bytes(24) for _ in range(3))))
    return [*found, b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP", b"<svg/>", b"BM"]


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_of(width: int, height: int, bits: int = 8, content: bytes = bytes(64)) -> bytes:
    """A PNG in colour that says it is so large, with this in it."""
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def spoil_file(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed; half of the PNGs get right check sums again, so that what they guard is reached."""
    spoilt = spoil_bytes(data, chance, most=3)
    if data[:4] != b"\x89PNG" or chance.random() < 0.5:
        return spoilt
    fixed, place = bytearray(spoilt[:8]), 8
    while place + 12 <= len(spoilt):
        (length,) = struct.unpack(">I", spoilt[place : place + 4])
        name, content = spoilt[place + 4 : place + 8], spoilt[place + 8 : place + 8 + length]
        fixed += _chunk(name, content)
        place += 12 + length
    return bytes(fixed)


def latents(seed: int) -> list[bytes]:
    """Files of latents in every layout that the reader knows, and some that it must refuse."""
    import safetensors.numpy
    import safetensors.torch
    import torch

    from latent_inv.latents import save_latents

    rng = np.random.default_rng(seed)
    z, w = rng.standard_normal((2, 5)).astype(np.float32), rng.standard_normal((2, 3, 4)).astype(np.float32)
    found = [save_latents(None, {"z": z, "w": w}, generator="faces", space="z", weights_sha256="ab" * 32)]
    found += [
        safetensors.numpy.save({"z": z.astype(kind)}, metadata={"any": "thing"})
        for kind in (np.float64, np.float16, np.int64, np.uint8, np.bool_)
    ]
    found.append(safetensors.torch.save({"z": torch.from_numpy(z).to(torch.bfloat16)}))
    layouts: list[Any] = [z, z.astype(">f8"), np.asfortranarray(w), z.astype(np.float16), np.zeros((0, 3))]
    found += [_numpy(array) for array in (*layouts, np.float32(3))]
    found += [_archive(z=z, w=w), _archive(compressed=True, z=z), _archive(z=np.array(["text"]))]
    for content in (
        torch.from_numpy(z),
        {"z": torch.from_numpy(z), "w": torch.from_numpy(w).half()},
        {"z": torch.from_numpy(z)[:1].expand(1000, 5)},
        [torch.from_numpy(z)],
        {"z": 3},
        {"z": torch.from_numpy(z).to_sparse()},
    ):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        found.append(buffer.getvalue())
    found.append(_numpy(np.array([{}], dtype=object)))
    found += [_zip_of(("data.pkl", b""), ("constants.pkl", b"")), _zip_of(("z.npy", _numpy(z)), ("z.npy", _numpy(z)))]
    found += [_zip_of(("readme.txt", b"text")), _zip_of(*((f"{number}.npy", b"") for number in range(20_000)))]
    found += [_safe('{"z":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[0,1]}}'), _safe("{" + " " * 2**21 + "}")]
    found.append(_safe('{"z":{"dtype":"F32","shape":[' + "1," * 40 + '1],"data_offsets":[0,4]}}'))
    found.append(_zip_of(*((f"part{number}.npy", _numpy(z)) for number in range(500))))
    return [
        *found,
        b"",
        b"\x80\x04K\x01.",
        b"PK",
        b"\x93NUMPY",
        b"{}",
        bytes(8) + b"{}",
        b"\x10" + bytes(7) + b"{" * 16,
    ]


def _numpy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _zip_of(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # a name that is there twice
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _safe(header: str) -> bytes:
    """A safetensors file with this header and one number."""
    return struct.pack("<Q", len(header)) + header.encode() + bytes(4)


def _archive(*, compressed: bool = False, **arrays: Any) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()
