"""The files of a result, for clients that speak no tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable

from latent_inv.images import encode_png
from latent_inv.incidents import as_typed
from latent_inv.latents import save_result
from latent_inv.result import JobResult

logger = logging.getLogger(__name__)


def _latents(result: JobResult) -> bytes:
    return save_result(None, result)


#: name → how its bytes are made; the names are those of `latent_inv.report`
_FILES: dict[str, Callable[[JobResult], bytes]] = {
    "latents.safetensors": _latents,
    "reconstruction.png": lambda result: encode_png(result.image),
    "target.png": lambda result: encode_png(result.target.pixels),
}


def result_files(result: JobResult, job_id: str) -> dict[str, bytes]:
    """Name → bytes. Encodes pictures: not for the event loop.

    A file that cannot be made, as of pixels that are not finite, is left out: that must not cost the result.
    """
    files = {}
    for name, make in _FILES.items():
        try:
            files[name] = make(result)
        except Exception as error:
            logger.warning("job %s: there is no %s: %s", job_id, name, as_typed(error, name))
    return files
