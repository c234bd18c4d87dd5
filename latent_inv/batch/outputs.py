"""What is written for one picture: its result, and a thumbnail for the page. No torch."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from latent_inv.errors import InputError
from latent_inv.files import write_bytes
from latent_inv.images import to_uint8, write_png
from latent_inv.latents import save_result
from latent_inv.report.folder import FILES
from latent_inv.result import JobResult

MANIFEST, PAGE, LOCK = "manifest.jsonl", "index.html", ".batch.lock"
THUMBNAILS = "thumbnails"
#: pixels of the longer side of a thumbnail's pictures, and of the gap between them
THUMBNAIL_SIDE, _GAP = 160, 4
_LATENTS, _PICTURE, _FOLDER = ".latents.safetensors", ".png", ".result"
#: what a killed run may leave
_PART = re.compile(r"\.[0-9a-f]{16}\.part|\.writing-.*")


def output_names(name: str, full: bool) -> dict[str, str]:
    """Kind → file of the result called `name`, relative to the output folder."""
    if full:
        return {kind: f"{name}{_FOLDER}/{file}" for kind, file in FILES.items()}
    return {"latents": name + _LATENTS, "reconstruction": name + _PICTURE}


def write_outputs(result: JobResult, out: Path, name: str, full: bool) -> dict[str, str]:
    """Write latents and reconstruction, or with `full` a folder with everything; each file whole or not at all.

    Args:
        name: relative to `out`, without an ending.
    Returns:
        as `output_names`.
    Raises:
        LatentInvError: the latents are not finite, or a folder cannot be made. OSError: the disk failed or is full.
    """
    if name.split("/", 1)[0] in (MANIFEST, PAGE) and "/" in name:
        raise InputError(f'a folder called "{name.split("/", 1)[0]}" would be in the way of the file of that name')
    names = output_names(name, full)
    if full:
        result.save(out / (name + _FOLDER))
        return names
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    save_result(out / names["latents"], result)
    write_png(out / names["reconstruction"], result.image)
    return names


def write_thumbnail(result: JobResult, out: Path, path: str) -> str:
    """Write target and reconstruction side by side as a small JPEG.

    Args:
        path: of the picture in its folder; its hash makes the name, as it may be too long itself.
    Returns:
        its name, relative to `out`.
    """
    from PIL import Image

    name = f"{THUMBNAILS}/{hashlib.sha256(path.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.jpg"
    shown = [_small(to_uint8(pixels)) for pixels in (result.target.pixels, result.image)]
    height = max(picture.shape[0] for picture in shown)
    sheet = np.full((height, sum(picture.shape[1] for picture in shown) + _GAP, 3), 255, np.uint8)
    left = 0
    for picture in shown:
        sheet[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "JPEG", quality=88, subsampling=0)
    (out / THUMBNAILS).mkdir(exist_ok=True)
    write_bytes(out / name, file.getvalue())
    return name


def _small(levels: np.ndarray) -> np.ndarray:
    """At most `THUMBNAIL_SIDE` on the longer side; small pictures are repeated a whole number of times up to that."""
    from PIL import Image

    longer = max(levels.shape[:2])
    if longer <= THUMBNAIL_SIDE:
        factor = THUMBNAIL_SIDE // longer
        return levels.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (max(1, round(side * THUMBNAIL_SIDE / longer)) for side in levels.shape[:2])
    return np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BOX))


def remove_outputs(out: Path, outputs: Mapping[str, str]) -> None:
    """Remove the files of an earlier result, and what folders are empty without them; harmless if they are gone."""
    for name in outputs.values():
        (out / name).unlink(missing_ok=True)
    for folder in {(out / name).parent for name in outputs.values() if _FOLDER in name}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def sweep(out: Path) -> None:
    """Remove the half files that a killed run may have left in `out`."""
    for path in out.rglob(".*"):
        if _PART.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
