"""A decoded PIL image of any mode to sRGB planes and alpha."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageCms, features

from latent_inv.errors import ImageError
from latent_inv.images.arrays import check_range, scale, scale_floats

Convert = Callable[[Image.Image], Image.Image]

#: Mode of the pixels that a profile of this colour space describes.
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}

#: Largest sample of a raw mode whose samples do not fill the 16 bits of the decoded mode.
_FULL_SCALE = {"I;12": 4095.0}

#: Grey PNGs of fewer than 8 bits are decoded to 0..255, but their transparent level stays in file units.
_KEY_STEP = {"L;2": 85, "L;4": 17}

#: cmsFLAGS_NOOPTIMIZE of littleCMS; Pillow before 10.3 has no name for it.
_NO_SHORTCUTS = 0x0100

_UNREADABLE = "the embedded colour profile cannot be used ({}); the colours are taken as sRGB"


def planes(
    image: Image.Image, raw_mode: str, value_range: object
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Bring decoded pixels to sRGB.

    Args:
        image: loaded, of any mode.
        raw_mode: Pillow's name of the sample layout in the file, "" if unknown.
        value_range: needed for float samples (mode F), possible for integers (mode I), else only (0, 255).
    Returns:
        (colour [3, H, W] float32 in [-1, 1], alpha [H, W] float32 in [0, 1] or None, warnings).
    Raises:
        ImageError: samples out of range, or a mode that cannot be brought to sRGB.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep(image, raw_mode, value_range)
    if value_range is not None and check_range(value_range) != (0.0, 255.0):
        raise ImageError(f"8-bit pictures span (0, 255), but value_range says {value_range}: leave it out")
    warnings: list[str] = []
    if "16" in raw_mode:
        warnings.append("16-bit colour is read with 8 bits a channel")
    base, alpha = _split_alpha(image, raw_mode)
    rgb = _to_srgb(base, image.info.get("icc_profile"), warnings)
    return scale(np.moveaxis(np.asarray(rgb), 2, 0), 0.0, 255.0), alpha, tuple(warnings)


def _deep(
    image: Image.Image, raw_mode: str, value_range: object
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Grey of more than 8 bits: scaled over its whole range, never clipped."""
    values = np.asarray(image)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    noted: tuple[str, ...] = ()
    if image.mode == "F" or value_range is not None:
        grey, noted = scale_floats(values.astype(np.float64), value_range, what=f"samples of mode {image.mode}")
    else:
        full = _FULL_SCALE.get(raw_mode, 65535.0)
        smallest, largest = int(values.min()), int(values.max())
        if smallest < 0 or largest > full:
            raise ImageError(
                f"integer samples are taken as 0..{full:.0f}, but these go from {smallest} to {largest}: "
                "save as 16-bit, or pass an array with its value_range"
            )
        grey = scale(values, 0.0, full)
    key = image.info.get("transparency")
    alpha = (values != key).astype(np.float32) if isinstance(key, int) else None
    # A curve of 256 points through the profile, read between its points, keeps more than 8 bits.
    warnings: list[str] = []
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    curve = np.asarray(_to_srgb(ramp, image.info.get("icc_profile"), warnings))[0]
    if (curve == np.arange(256)[:, None]).all():
        colour = np.repeat(grey[None], 3, axis=0)
    else:
        points = np.linspace(-1.0, 1.0, 256)
        colour = np.stack([np.interp(grey, points, scale(curve[:, c], 0.0, 255.0)) for c in range(3)])
    return colour.astype(np.float32, copy=False), alpha, noted + tuple(warnings)


def _split_alpha(image: Image.Image, raw_mode: str) -> tuple[Image.Image, np.ndarray | None]:
    """Separate opacity from colour, so that a profile is applied to colour as stored."""
    if image.mode in ("LA", "La"):
        grey, alpha = image.convert("LA").split()
        return grey, _opacity(alpha)
    if image.mode in ("RGBA", "RGBa", "P", "PA"):
        rgba = image.convert("RGBA")
        return Image.merge("RGB", rgba.split()[:3]), _opacity(rgba.getchannel("A"))
    base = image.convert("L") if image.mode == "1" else image
    key = image.info.get("transparency")
    if isinstance(key, int) and base.mode == "L":
        # 1-bit levels were 0 and 1 in the file and are 0 and 255 here.
        level = (255 if key else 0) if image.mode == "1" else key * _KEY_STEP.get(raw_mode, 1)
        return base, (np.asarray(base) != level).astype(np.float32)
    if isinstance(key, tuple) and len(key) == 3 and base.mode == "RGB":
        levels = np.array([level >> 8 if "16" in raw_mode else level for level in key])
        return base, (np.asarray(base) != levels).any(axis=2).astype(np.float32)
    return base, None


def _opacity(channel: Image.Image) -> np.ndarray:
    return np.asarray(channel).astype(np.float32) / np.float32(255)


def _to_srgb(image: Image.Image, profile: object, warnings: list[str]) -> Image.Image:
    """Bring colour without alpha to 8-bit sRGB; a profile that cannot be used adds a warning."""
    if not isinstance(profile, bytes) or not profile:
        return _plain_rgb(image)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        mode = _PROFILE_MODES.get(space, "")
        if image.mode == "L" and mode == "RGB":
            image = image.convert("RGB")
        if image.mode != mode:
            warnings.append(_UNREADABLE.format(f"it is for {space}, the picture is {image.mode}"))
            return _plain_rgb(image)
        convert = _transform(source, mode)
        if _changes_nothing(convert, mode):
            return _plain_rgb(image)
        return _through_curve(image, convert) if mode == "L" else convert(image)
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError, AttributeError) as error:
        reason = "unreadable" if features.check_module("littlecms2") else f"no colour management here: {error}"
        warnings.append(_UNREADABLE.format(reason))
        return _plain_rgb(image)


def _transform(source: Any, mode: str) -> Convert:
    # Without littleCMS' shortcuts for grey, which are off by 7 levels in the darks of a linear profile.
    flags: Any = _NO_SHORTCUTS if mode == "L" else 0
    change = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)

    def convert(image: Image.Image) -> Image.Image:
        result = ImageCms.applyTransform(image, change)
        if result is None:  # only in-place use returns None
            raise ValueError("the transform made no picture")
        return result

    return convert


def _through_curve(image: Image.Image, convert: Convert) -> Image.Image:
    """Convert each of the 256 greys once: an exact transform of every pixel is slow."""
    curve = np.asarray(convert(Image.fromarray(np.arange(256, dtype=np.uint8)[None])))[0]
    return Image.fromarray(curve[np.asarray(image)])


def _changes_nothing(convert: Convert, mode: str) -> bool:
    """Tell whether a profile is sRGB in all but name: then pixels stay exactly as stored, free of rounding."""
    if mode == "RGB":
        levels = np.arange(0, 256, 17, dtype=np.uint8)
        probe = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(16, -1, 3)
    elif mode == "L":
        probe = np.arange(256, dtype=np.uint8)[None]
    else:
        return False
    sent = Image.fromarray(probe)
    there = np.asarray(convert(sent)).astype(np.int16)
    return bool(np.abs(there - np.asarray(sent.convert("RGB"))).max() <= 1)


def _plain_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        try:
            return _transform(ImageCms.createProfile("LAB"), "LAB")(image)
        except (ImageCms.PyCMSError, ImportError) as error:
            raise ImageError("Lab colours need Pillow with littleCMS; save the picture as RGB") from error
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise ImageError(f"pixels of mode {image.mode} cannot be brought to RGB; save the picture as RGB") from error
