"""Encoded bytes and PIL images to planes.

Each format's own decoder is called, not `PIL.Image.open`: that keeps every decoder but these out of reach (some start
other programs), and it leaves out `open`'s size check, which warns or raises by a process-wide number. The check of
this library, `Limits`, stands in its place and runs between reading the header and decoding the pixels.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from latent_inv.errors import ImageError, LatentInvError, LimitError
from latent_inv.images import colour
from latent_inv.images.orientation import read_orientation, upright
from latent_inv.images.picture import Limits
from latent_inv.images.sniff import describe, ends_early, find_format, webp_size

Planes = tuple[np.ndarray, "np.ndarray | None", tuple[str, ...]]


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG without Pillow's reading of the resolution, which warns on damaged metadata.

    Used for stereo files (MPO) too: their first picture is the JPEG that they begin with.
    """

    def _read_dpi_from_exif(self) -> None:
        return


_DECODERS: dict[str, Callable[[Any, str], Image.Image]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": _Jpeg,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}

#: Formats that are always accepted. AVIF (a Pillow built with it) and HEIF (a plugin registered with Pillow) may join.
FORMATS = tuple(_DECODERS)

_OPTIONAL = ("AVIF", "HEIF")

#: Formats whose decoder never reads past the end of a whole file, so that doing so proves truncation.
_STRICT = ("PNG", "JPEG", "GIF", "BMP", "TIFF")

#: The same for the kinds of PPM with binary samples; those of text are read in blocks until nothing comes.
_STRICT_PPM = (b"P4", b"P5", b"P6")


class _EndOfDataError(OSError):
    """A decoder wants more bytes than the file has."""


class _File(io.BytesIO):
    """Bytes as a file. While `strict`, reading at the end is an error.

    Pillow's process-wide LOAD_TRUNCATED_IMAGES, which another library may have set, turns that read into grey pixels.
    """

    strict = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.strict and not data and size != 0:
            raise _EndOfDataError("read past the end")
        return data


def decode(data: bytes, value_range: object, limits: Limits) -> Planes:
    """Decode an encoded picture.

    Args:
        data: the whole file.
        value_range: see `colour.planes`.
        limits: checked before decoding.
    Returns:
        (colour [3, H, W] float32 in [-1, 1], alpha [H, W] or None, warnings), upright.
    Raises:
        ImageError: no accepted picture, or damaged, or truncated.
        LimitError: over a limit.
    """
    limits.check_bytes(len(data))
    kind = find_format(data)
    decoder = _decoder(kind)
    if decoder is None:
        found = f"a {kind} picture, which needs a Pillow plugin that is not here" if kind else describe(data)
        here = [name for name in (*FORMATS, *_OPTIONAL) if _decoder(name) is not None]
        raise ImageError(f"found {found}; accepted: {', '.join(here)}")
    if kind == "WEBP":
        size = webp_size(data)
        if size is not None:
            limits.check_size(*size)
    file = _File(data)
    with _decoding(kind, data):
        image = decoder(file, "")
        limits.check_size(image.height, image.width)
        frames = _count_frames(image)
        file.strict = kind in _STRICT or data[:2] in _STRICT_PPM
        return _finish(image, value_range, frames)


def decode_pil(image: Image.Image, value_range: object, limits: Limits) -> Planes:
    """Bring a PIL image, decoded or only opened, to planes; see `decode`."""
    limits.check_size(image.height, image.width)
    with _decoding(image.format or "PIL", None):
        # A person who moved to another frame chose it, and the two pictures of a stereo file are no frames.
        chosen = image.format == "MPO" or (hasattr(image, "tell") and image.tell() > 0)
        return _finish(image, value_range, 1 if chosen else _count_frames(image))


def _finish(image: Image.Image, value_range: object, frames: int) -> Planes:
    raw_mode = _raw_mode(image)
    image.load()
    pixels, alpha, warnings = colour.planes(image, raw_mode, value_range)
    if frames > 1:
        warnings += (f"the file holds {frames} frames or pages; only the first is used",)
    turn = _orientation(image)
    return upright(pixels, turn), None if alpha is None else upright(alpha, turn), warnings


@contextmanager
def _decoding(kind: str, data: bytes | None) -> Iterator[None]:
    """Turn whatever a decoder raises into one sentence."""
    try:
        yield
    except LatentInvError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Some decoders check Pillow's own number inside; it may be lower than the limits here.
        raise LimitError(
            "the picture has more pixels than Pillow's MAX_IMAGE_PIXELS allows: make it smaller first"
        ) from error
    except MemoryError as error:
        raise LimitError("not enough memory to decode the picture: make it smaller first") from error
    except Exception as error:  # damaged data makes decoders raise anything from struct.error to RecursionError
        text = str(error).lower()
        cut = isinstance(error, (_EndOfDataError, EOFError)) or "truncated" in text or "not enough image data" in text
        if cut or (data is not None and ends_early(data, kind)):
            raise ImageError("image data is truncated") from error
        raise ImageError(f"{kind} data is damaged and cannot be decoded") from error


def _decoder(kind: str) -> Callable[[Any, str], Image.Image] | None:
    if kind not in _OPTIONAL:
        return _DECODERS.get(kind)
    if kind == "AVIF":
        try:
            from PIL import AvifImagePlugin
        except ImportError:
            return None
        if not AvifImagePlugin.SUPPORTED:
            return None
    # A HEIF plugin registers itself when the caller imports it.
    entry = Image.OPEN.get(kind)
    return None if entry is None else _call(entry[0])


def _call(factory: Callable[[IO[bytes], str], Image.Image]) -> Callable[[Any, str], Image.Image]:
    return lambda file, name: factory(file, name)


def _count_frames(image: Image.Image) -> int:
    """Count frames or pages; a file whose later frames are damaged still has its first."""
    try:
        return int(getattr(image, "n_frames", 1))
    except (OSError, EOFError, SyntaxError, ValueError, LookupError, TypeError, struct.error):
        image.seek(0)
        return 1


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _orientation(image: Image.Image) -> int:
    """The turn that is still to be made, asked after loading."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Pillow turns TIFF pictures while loading and then drops the tag.
        value = image.getexif().get(0x0112, 1)
        return value if isinstance(value, int) else 1
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return read_orientation(exif)
    text = image.info.get("Raw profile type exif")
    if isinstance(text, str):
        # As ImageMagick writes it into PNG: two lines of heading, then hexadecimal digits.
        try:
            return read_orientation(bytes.fromhex("".join(text.split("\n")[3:])))
        except ValueError:
            return 1
    return 1
