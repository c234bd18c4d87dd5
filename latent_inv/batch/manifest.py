"""`manifest.jsonl`: what became of each file, a row as soon as it is known. No torch.

A row is appended in one write and synced, so a run that is killed has a row for whatever it finished. Rows are appended
while a run goes on, so a path may have several: the last one counts, and it also takes the place of rows whose outputs
it has written over. A run tidies up when it begins and when it ends, after which a path has one row.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from latent_inv.files import write_bytes

logger = logging.getLogger(__name__)

STATUSES = ("done", "failed", "skipped")


@dataclass(frozen=True)
class Row:
    """What became of one file.

    Attributes:
        path: relative to the folder, parts joined by "/". All other names are relative to the output folder.
        status: "done", "failed" or "skipped". reason: one sentence; empty for what is done.
        sha256: of the file's content; empty: it was not read.
        settings: hash of everything that was asked for beside the picture.
        outcome, psnr_db, lpips, steps, seconds: as in `JobResult`; None or empty without a result.
        outputs: kind → name of the file. thumbnail: name of a small JPEG with target and reconstruction.
        warnings: what was done to the picture that may not be expected.
    """

    path: str
    status: str
    reason: str = ""
    sha256: str = ""
    settings: str = ""
    outcome: str = ""
    psnr_db: float | None = None
    lpips: float | None = None
    steps: int | None = None
    seconds: float | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    thumbnail: str = ""
    warnings: tuple[str, ...] = ()

    def line(self) -> bytes:
        """The row as JSON, with its line end."""
        value = asdict(self)
        try:
            return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
        except UnicodeEncodeError:
            # Names that are no UTF-8: as \udc.. they can be written, and read back to the same bytes.
            return (json.dumps(value, allow_nan=False) + "\n").encode("ascii")


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "float | None": (float, int, type(None)),
    "int | None": (int, type(None)),
    "Mapping[str, str]": (dict,),
    "tuple[str, ...]": (list,),
}


def read_row(line: bytes) -> Row | None:
    """The row of a line; None for half a row, or anything else that is none. Unknown fields are left out."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("path"), str) or value.get("status") not in STATUSES:
        return None
    known: dict[str, Any] = {item.name: value[item.name] for item in fields(Row) if item.name in value}
    if not all(isinstance(known[item.name], _KINDS[str(item.type)]) for item in fields(Row) if item.name in known):
        return None
    if not all(isinstance(name, str) for name in known.get("outputs", {}).values()):
        return None
    return Row(**{**known, "warnings": tuple(map(str, known.get("warnings", ())))})


class Manifest:
    """The rows of a file that is open for one run alone; use it in a `with`.

    Args:
        path: made if it is not there; its folder must exist. Lines that are no rows are dropped.
    Raises:
        InputError: the folder may not be written to. OSError: the disk failed or is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        self._makers: dict[str, str] = {}
        before = path.read_bytes() if path.exists() else None
        damaged = 0
        for line in (before or b"").split(b"\n"):
            row = read_row(line) if line.strip() else None
            damaged += row is None and bool(line.strip())
            if row is not None:
                self._take(row)
        if damaged:
            logger.warning("%s had %d lines that are no whole rows; they are dropped", path.name, damaged)
        self._handle = -1
        if before != self._content():
            write_bytes(path, self._content())
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def __iter__(self) -> Iterator[Row]:
        return iter(sorted(self.rows.values(), key=lambda row: os.fsencode(row.path)))

    def add(self, *rows: Row) -> None:
        """Append rows, and come back when they are on the disk. What is there already is not written again.

        Raises:
            OSError: the disk failed or is full; the file is as it was.
        """
        new = [row for row in rows if self.rows.get(row.path) != row]
        if not new:
            return
        data, size = b"".join(row.line() for row in new), os.fstat(self._handle).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._handle, data[written:])
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, size)
            raise
        for row in new:
            self._take(row)

    def uses(self, name: str) -> bool:
        """Is this file an output of some row?"""
        return name in self._makers

    def forget(self, paths: Iterable[str]) -> None:
        """Drop the rows of some paths; the file loses them when it is tidied up."""
        for path in list(paths):
            row = self.rows.pop(path, None)
            for name in () if row is None else row.outputs.values():
                self._makers.pop(name, None)

    def tidy(self) -> None:
        """Leave one row a path, by the bytes of its name."""
        data = self._content()
        if self.path.read_bytes() == data:
            return
        os.close(self._handle)
        try:
            write_bytes(self.path, data)
        finally:
            self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))

    def _content(self) -> bytes:
        return b"".join(row.line() for row in self)

    def _take(self, row: Row) -> None:
        self.forget([row.path])
        self.forget({self._makers[name] for name in row.outputs.values() if name in self._makers})
        self.rows[row.path] = row
        self._makers.update(dict.fromkeys(row.outputs.values(), row.path))
