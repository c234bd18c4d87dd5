"""Folders to be inverted, and short ways to run over them."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latent_inv.batch import FolderSummary, invert_folder
from latent_inv.spec import Adam, Pixel, Seeds

COMPOSED, COMBINED = "ünï 猫.png", unicodedata.normalize("NFD", "ü.png")
#: top level of `awkward_folder`
PICTURES = ("good.jpg", "UPPER.JPG", "png_inside.jpg", COMPOSED, COMBINED)
FAULTY = ("empty.png", "text.png")
SKIPPED = (".DS_Store", "._good.jpg", "notes.txt")

#: quick on the toy: pixels alone, a few steps
QUICK: dict[str, Any] = {
    "generator": "smooth",
    "losses": (Pixel(),),
    "solver": Adam(learning_rate=0.05, typical=0),
    "initialiser": Seeds(),
    "steps": 3,
}


def picture(seed: int = 0, kind: str = "PNG", side: int = 32) -> bytes:
    """A file of a small picture that differs by seed."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


def awkward_folder(where: Path) -> Path:
    """What a folder of a phone or a Mac may hold: five pictures, two that are none, three that are not meant, sub/."""
    folder = where / "pictures"
    (folder / "sub").mkdir(parents=True)
    for name in ("good.jpg", "UPPER.JPG"):
        (folder / name).write_bytes(picture(1, "JPEG"))
    for seed, name in enumerate(("png_inside.jpg", COMPOSED, COMBINED, "sub/nested.png"), 2):
        (folder / name).write_bytes(picture(seed))
    (folder / "notes.txt").write_bytes(b"some notes\r\n")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "._good.jpg").write_bytes(b"\0\5\x16\7" + bytes(12))
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_bytes(b"hello")
    return folder


def pictures(where: Path, count: int) -> Path:
    """A folder of 00.png, 01.png …"""
    folder = where / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:02}.png").write_bytes(picture(number))
    return folder


def go(folder: Path, out: Path, **settings: Any) -> FolderSummary:
    return invert_folder(folder, out, **{**QUICK, **settings})


def counts(summary: FolderSummary) -> tuple[int, int, int, int, int]:
    """(done, failed, skipped, kept, left)"""
    return summary.done, summary.failed, summary.skipped, summary.kept, summary.left


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """The manifest; one row a path."""
    read = [json.loads(line) for line in (out / "manifest.jsonl").read_bytes().decode().splitlines()]
    found = {row["path"]: row for row in read}
    assert len(found) == len(read), "one row a path"
    return found


def files(out: Path) -> set[str]:
    """Every file that is no thumbnail and no lock, relative to `out`."""
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("thumbnails/")} - {".batch.lock"}


def outputs(*names: str) -> set[str]:
    """What a run writes for results of these names."""
    each = {f"{name}{ending}" for name in names for ending in (".latents.safetensors", ".png")}
    return each | {"manifest.jsonl", "index.html"}
