"""Run as a process: try one device, and print as JSON how that went. Arguments: device, threads (0: torch's choice)."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from latent_inv.errors import LatentInvError

#: that of the weights which come first
_GENERATOR = "faces"


def trial(device: str, threads: int) -> dict[str, Any]:
    """Try a device.

    Returns:
        device, found and decode (empty: weights are not here), or problem and advice, all as text.
    """
    report = {"device": device, "found": "", "decode": "", "problem": "", "advice": ""}
    try:
        from latent_inv.device import place

        placement = place(device, threads or None)
        placement.apply()
        report["device"] = placement.device
        report["found"] = f"{_describe(placement.device)}; {_compute(placement.device)}"
        report["decode"] = _decode(placement.device)
    except LatentInvError as error:
        report |= {"problem": str(error), "advice": "set devices to one that this machine has"}
    except Exception as error:
        text = f"torch fails on it: {type(error).__name__}"
        report |= {"problem": text, "advice": 'run: python -c "import torch; print(torch.ones(1) + 1)"'}
    return report


def _describe(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        about = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        return (
            f"torch {torch.__version__}, {about.name}, compute {about.major}.{about.minor}, "
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    if device == "cpu":
        half = ", computes in bfloat16" if _rounds(device) else ""
        return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}{half}"
    return f"torch {torch.__version__}"


def _rounds(device: str) -> bool:
    from latent_inv.device import place

    return place(device).rounded is not None


def _compute(device: str) -> str:
    """A small deconvolution, as generators are made of, against what it is by hand."""
    import torch

    began = time.perf_counter()
    latents, kernel = torch.full((1, 2, 4, 4), 0.5, device=device), torch.ones(2, 3, 2, 2, device=device)
    picture = torch.nn.functional.conv_transpose2d(latents, kernel, stride=2)
    # Each pixel is the sum of two latents.
    if picture.shape != (1, 3, 8, 8) or not bool((picture == 1).all()):
        raise RuntimeError("it computes wrongly")
    return f"computes rightly, {(time.perf_counter() - began) * 1000:.0f} ms for the first time"


def _decode(device: str) -> str:
    from latent_inv.assets import AssetStore, cache_folder
    from latent_inv.solve import sample

    if AssetStore(cache_folder()).look(_GENERATOR)[0] != "here":
        return ""
    began = time.perf_counter()
    images = sample((0,), _GENERATOR, device=device).images
    if not -1 <= float(images.min()) < float(images.max()) <= 1:
        raise RuntimeError("the picture is empty")
    return (
        f"{_GENERATOR} makes a picture of {images.shape[3]} × {images.shape[2]} in {time.perf_counter() - began:.1f} s"
    )


if __name__ == "__main__":
    print(json.dumps(trial(sys.argv[1], int(sys.argv[2]))))  # noqa: T201
