"""What encoded data is, told from its first bytes, for choosing a decoder and for saying what was found."""

from __future__ import annotations

import re

#: Formats that are decoded: name → pattern of the first bytes. AVIF and HEIF only where Pillow has them.
SIGNATURES = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II\x2a\0|MM\0\x2a|II\x2b\0|MM\0\x2b",
    "BMP": rb"BM",
    "PPM": rb"P[1-6]\s|P[fF]\s",
    "AVIF": rb"....ftypavi[fs]",
    "HEIF": rb"....ftyp(hei[cxms]|hev[cx]|mif1|msf1)",
}

#: Things that people take for pictures, or that are pictures of a kind that is not accepted.
_OTHERS = {
    "a PDF document": rb"%PDF",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "a Photoshop file": rb"8BPS",
    "a JPEG XL picture": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "a JPEG 2000 picture": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "an icon": rb"\0\0[\x01\x02]\0",
    "a video": rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI ",
    "a ZIP archive": rb"PK\x03\x04",
    "a numpy array file": rb"\x93NUMPY",
    "a Git LFS pointer instead of the file": rb"version https://git-lfs",
    "SVG text": rb"(?i)[^\0]{0,800}<svg[\s>]",
    "HTML text": rb"(?i)\s*(<!doctype html|<html)",
}


def find_format(data: bytes) -> str:
    """Name the format of encoded data.

    Args:
        data: the file, or at least its first 16 bytes.
    Returns:
        a key of `SIGNATURES`, or "" for anything else.
    """
    return _first_match(SIGNATURES, data)


def describe(data: bytes) -> str:
    """Say in a few words what data that is no accepted picture is."""
    if not data:
        return "an empty file (0 bytes)"
    known = _first_match(_OTHERS, data)
    if known:
        return known
    if data[:1] and not data.strip(b"\0"):
        return "a file of zero bytes only"
    try:
        head = data[:400].decode("utf-8", errors="strict" if len(data) <= 400 else "ignore")
    except UnicodeDecodeError:
        return "data of an unknown kind"
    plain = all(character.isprintable() or character in "\r\n\t\ufeff" for character in head)
    return "plain text" if plain else "data of an unknown kind"


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Read the size of a WebP picture from its header, as Pillow's decoder takes memory for it when it is opened.

    Source: RFC 9649 (2024), section 2.
    Args:
        data: the whole file.
    Returns:
        (height, width), or None where the header is damaged.
    """
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(body[7:10], "little") + 1, int.from_bytes(body[4:7], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(body[8:10], "little") & 0x3FFF, int.from_bytes(body[6:8], "little") & 0x3FFF
    return None


def ends_early(data: bytes, kind: str) -> bool:
    """Tell whether data that could not be decoded lacks the end that its format demands."""
    if kind == "WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    ends = {"PNG": b"IEND", "JPEG": b"\xff\xd9", "GIF": b";"}
    return kind in ends and ends[kind] not in data[-16:]


def _first_match(patterns: dict[str, bytes], data: bytes) -> str:
    for name, pattern in patterns.items():
        if re.match(pattern, data[:1000], re.DOTALL):
            return name
    return ""
