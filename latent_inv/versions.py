"""What a result or an encoder was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch


def versions() -> dict[str, str]:
    """Versions of everything that a result depends on."""
    try:
        own = version("latent-inv")
    except PackageNotFoundError:
        own = "source"
    return {
        "latent_inv": own,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
