"""The orientation tag: read from raw EXIF bytes, applied to planes.

Read here and not with Pillow's EXIF reader, which makes Python warnings of damaged metadata that has nothing to do with
the pixels. Layout of the bytes: TIFF 6.0 (1992), section 2.
"""

from __future__ import annotations

import struct

import numpy as np

_TAG = 0x0112
_SHORT = 3

#: orientation → (swap rows and columns first, flip rows, flip columns); 1 and unknown values change nothing.
_MOVES = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def read_orientation(exif: bytes) -> int:
    """Find the orientation in EXIF bytes.

    Args:
        exif: a TIFF header and its directory, with or without the leading "Exif\\0\\0".
    Returns:
        1..8; 1 where there is none or the bytes are damaged.
    """
    data = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return 1
    try:
        magic, start = struct.unpack_from(order + "HI", data, 2)
        (count,) = struct.unpack_from(order + "H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", data, entry)
            if tag == _TAG:
                return value if magic == 42 and kind == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass  # the directory ends early: no tag
    return 1


def upright(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Turn planes as their orientation tag says.

    Args:
        planes: [..., H, W] as stored.
        orientation: EXIF value, 1..8.
    Returns:
        [..., H, W] or [..., W, H], a view.
    """
    if orientation not in _MOVES:
        return planes
    swap, rows, columns = _MOVES[orientation]
    turned = planes.swapaxes(-1, -2) if swap else planes
    return turned[..., :: -1 if rows else 1, :: -1 if columns else 1]
