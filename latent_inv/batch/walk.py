"""Which files of a folder are pictures, and what each result is called. No torch.

Files are told by what is in them. Hidden ones, and those that neither hold a picture nor are called like one, are
skipped; a file that is called like a picture and holds none is taken up, so that its failure is reported.
Symbolic links to files are read as files; links to folders are not entered, so that no walk is endless.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from latent_inv.errors import InputError
from latent_inv.images.sniff import describe, find_format

#: endings of files that are meant to be pictures
PICTURE_ENDINGS = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".heic", ".heif"),
    )
)
_HEAD_BYTES = 1000
#: formats whose first two bytes begin many a text too → pattern of the whole header
_HEADERS = {
    "BMP": re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "PPM": re.compile(rb"P[1-7fF](\s+|#[^\n]*\n)+\d+(\s+|#[^\n]*\n)+\d+\s"),
}


@dataclass(frozen=True)
class Found:
    """A file of the folder.

    Attributes:
        path: relative to the folder, parts joined by "/"; bytes that are no UTF-8 are surrogates, as `os.fsdecode`
            makes them.
        skip: why it is no picture to be inverted; empty: it is one, or is called like one.
        fault: why it cannot even be read; empty: it may be.
    """

    path: str
    skip: str = ""
    fault: str = ""


def walk(folder: Path, *, recursive: bool = False, leave_out: Path | None = None) -> list[Found]:
    """Look through a folder.

    Args:
        recursive: enter the folders in it too, but hidden ones.
        leave_out: a folder that is not entered: where results are written.
    Returns:
        every file, by the bytes of its name; files of a folder before its folders.
    Raises:
        InputError: there is no such folder, or it may not be read.
    """
    try:
        left_out = None if leave_out is None else os.stat(leave_out)
    except OSError:
        left_out = None
    try:
        entries = _entries(folder)
    except NotADirectoryError:
        raise InputError(f'"{shown(folder.name)}" is a file; a folder is needed', field="folder") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        raise InputError(f'cannot read "{shown(folder.name)}": {reason}', field="folder") from error
    return list(_walk(entries, "", recursive, left_out))


def _walk(
    entries: list[os.DirEntry[str]], above: str, recursive: bool, left_out: os.stat_result | None
) -> Iterator[Found]:
    folders = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry)
        elif not (entry.is_symlink() and entry.is_dir()):
            yield _look(entry, above + entry.name)
    for entry in folders if recursive else ():
        if entry.name.startswith(".") or (left_out and os.path.samestat(entry.stat(), left_out)):
            continue
        try:
            inside = _entries(entry.path)
        except OSError as error:
            yield Found(f"{above}{entry.name}/", fault=f"cannot list the folder: {error.strerror}")
            continue
        yield from _walk(inside, f"{above}{entry.name}/", recursive, left_out)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(os.fspath(folder)) as found:
        return sorted(found, key=lambda entry: os.fsencode(entry.name))


def _look(entry: os.DirEntry[str], path: str) -> Found:
    if entry.name.startswith("."):
        return Found(path, skip="a hidden file")
    named = PurePosixPath(entry.name).suffix.lower() in PICTURE_ENDINGS
    try:
        if not stat.S_ISREG(entry.stat().st_mode):
            return Found(path, skip="not a regular file")
        with open(entry.path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        reason = "a link to nothing" if entry.is_symlink() and not os.path.exists(entry.path) else error.strerror
        return Found(path, fault=f"cannot read it: {reason}") if named else Found(path, skip=f"{reason}")
    return Found(path) if named or _is_picture(head) else Found(path, skip=f"no picture: {describe(head)}")


def _is_picture(head: bytes) -> bool:
    kind = find_format(head)
    return bool(kind) and (kind not in _HEADERS or _HEADERS[kind].match(head) is not None)


def name_results(paths: list[str]) -> dict[str, str]:
    """What the result of each picture is called: path → path without an ending, in the same folder.

    That is the picture's name without its ending where no other picture of the folder could have the same one, else its
    whole name: a.png and a.jpg become a.png.* and a.jpg.*, b.png alone becomes b.*.
    """
    stems = Counter(_stem(path) for path in paths)
    whole = set(paths)
    return {path: path if stems[stem := _stem(path)] > 1 or stem in whole else stem for path in paths}


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{os.path.splitext(name)[0]}"


def shown(text: str) -> str:
    """A name as it can be printed, without what is no UTF-8 or would command a terminal."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(character if character.isprintable() else "?" for character in whole)
