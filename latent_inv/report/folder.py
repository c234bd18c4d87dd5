"""A result as a folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latent_inv.errors import InputError
from latent_inv.files import write_bytes

from .curves import figure_png, history_figure
from .files import finite, history_csv, write_json
from .views import result_page, result_png

if TYPE_CHECKING:
    from latent_inv.result import JobResult

#: kind → file name, in the order in which they come to their place: whoever sees result.json can read all others.
FILES = {
    "latents": "latents.safetensors",
    "reconstruction": "reconstruction.png",
    "comparison": "comparison.png",
    "history": "history.png",
    "history_csv": "history.csv",
    "page": "index.html",
    "result": "result.json",
}


def write_result(result: JobResult, folder: Path) -> JobResult:
    """Write everything about a result: latents, pictures, curves, numbers, and a page that shows them.

    All files are made in a folder of their own inside `folder` and moved to their places when all are whole, so a
    failure leaves what was there before.

    Args:
        result: of an inversion.
        folder: made if it does not exist; files of earlier results in it are replaced, others stay.
    Returns:
        the result with `files`: kind → name in the folder.
    Raises:
        InputError: the folder cannot be made or written to.
        LatentsError: the latents are not finite.
    """
    folder = Path(folder)
    for name in FILES.values():
        if (folder / name).is_dir():
            raise InputError(f'a folder is in the way of "{name}"', field="folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Inside, not beside: surely on the same disk, so that moving is renaming.
        work = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise InputError(f'cannot write into "{folder.name}": {error.strerror}', field="folder") from error
    try:
        written = _write(replace(result, files=FILES), work)
        for name in FILES.values():
            os.replace(work / name, folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return written


def _write(result: JobResult, folder: Path) -> JobResult:
    from latent_inv.images import write_png
    from latent_inv.latents import save_result

    save_result(folder / FILES["latents"], result)
    write_png(folder / FILES["reconstruction"], result.image)
    comparison = result_png(result)
    write_bytes(folder / FILES["comparison"], comparison)
    history = figure_png(history_figure(result.history, result.best_step, perceptual=result.perceptual))
    write_bytes(folder / FILES["history"], history)
    write_bytes(folder / FILES["history_csv"], history_csv(result.history).encode("utf-8"))
    write_bytes(folder / FILES["page"], result_page(result, comparison, history).encode("utf-8"))
    # A job that ran away may have no finite loss to tell; that must not cost its latents.
    write_json(folder / FILES["result"], finite(result.to_json()))
    return result
