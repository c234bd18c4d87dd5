"""Pictures in and out: one loader for every path and one writer.

A picture inside the library is always the same thing (`Picture`): three sRGB channels as float32 in [-1, 1], upright,
with a weight per pixel that says how much of it was seen. What a file can hide (orientation tags, alpha, colour
profiles, 16-bit samples, palettes, several frames) is resolved here, once, so no other file needs to know of it.

    load            path, bytes, PIL image, array or tensor → Picture
    with_weight     one more weight (a mask, white = seen) onto a picture
    crop_and_fit    Picture → the size that a generator makes, and the way back
    write_png       the only writer: plain PNG, nothing but pixels

Alpha: a pixel of colour c and opacity a becomes a·c over mid-grey (0 in [-1, 1]), and a is its weight. A wholly
transparent pixel is therefore mid-grey with weight 0 whatever colour the file keeps under it.
Colour: an embedded profile is converted to sRGB. Files without one are taken as sRGB; gAMA and cHRM chunks are ignored.
Several pictures in a file: the first is used, and a warning gives their number.
Hostile files: sizes are compared with `Limits` before any pixel is decoded, only the formats in `FORMATS` (and AVIF and
HEIF where Pillow has them) are ever tried, and neither Pillow's global switches nor the warning filters are changed.
"""

from __future__ import annotations

from latent_inv.images.decode import FORMATS
from latent_inv.images.fit import Placement, crop_and_fit, with_weight
from latent_inv.images.load import load
from latent_inv.images.picture import Limits, Picture
from latent_inv.images.write import encode_png, to_uint8, write_png

__all__ = [
    "FORMATS",
    "Limits",
    "Picture",
    "Placement",
    "crop_and_fit",
    "encode_png",
    "load",
    "to_uint8",
    "with_weight",
    "write_png",
]
