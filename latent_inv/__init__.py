"""Which latents are behind this picture?

>>> import latent_inv
>>> result = latent_inv.invert("photo.png", generator="faces", seconds=5)  # doctest: +SKIP
>>> result.save("out")  # doctest: +SKIP

Importing this loads no torch; the first use of a name does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import invert_folder as invert_folder
    from .errors import LatentInvError as LatentInvError
    from .latents import load_latents as load_latents
    from .latents import save_latents as save_latents
    from .result import JobResult as JobResult
    from .result import Outcome as Outcome
    from .solve import decode as decode
    from .solve import encode as encode
    from .solve import invert as invert
    from .solve import list_generators as list_generators
    from .solve import sample as sample
    from .spec import CMAES as CMAES
    from .spec import LBFGS as LBFGS
    from .spec import Adam as Adam
    from .spec import Auto as Auto
    from .spec import BestOf as BestOf
    from .spec import Budget as Budget
    from .spec import Encoder as Encoder
    from .spec import GaussNewton as GaussNewton
    from .spec import Given as Given
    from .spec import Halving as Halving
    from .spec import HybridCMA as HybridCMA
    from .spec import LatentPrior as LatentPrior
    from .spec import LevenbergMarquardt as LevenbergMarquardt
    from .spec import Lifted as Lifted
    from .spec import NoiseCorrelation as NoiseCorrelation
    from .spec import Perceptual as Perceptual
    from .spec import Pixel as Pixel
    from .spec import PriorMean as PriorMean
    from .spec import Reporting as Reporting
    from .spec import Seeds as Seeds
    from .spec import TotalVariation as TotalVariation

_SETTINGS = (
    *("Adam", "Auto", "BestOf", "Budget", "CMAES", "Encoder", "GaussNewton", "Given", "Halving", "HybridCMA", "LBFGS"),
    *(
        "LatentPrior",
        "NoiseCorrelation",
        "LevenbergMarquardt",
        "Lifted",
        "Perceptual",
        "Pixel",
        "PriorMean",
        "Reporting",
        "Seeds",
        "TotalVariation",
    ),
)
#: public name -> module that has it
_HOMES = {
    "LatentInvError": "errors",
    "JobResult": "result",
    "Outcome": "result",
    "decode": "solve",
    "encode": "solve",
    "invert": "solve",
    "invert_folder": "batch",
    "list_generators": "solve",
    "load_latents": "latents",
    "sample": "solve",
    "save_latents": "latents",
    **dict.fromkeys(_SETTINGS, "spec"),
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
