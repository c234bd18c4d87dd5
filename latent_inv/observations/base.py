"""The contract of an observation operator A: from a picture to what is measured of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from latent_inv.settings import Settings
from latent_inv.types import number_rows

S = TypeVar("S", bound=Settings)


class Observation(ABC, Generic[S]):
    """One operator; numbers of its settings come as `rows`, [R] each, as for losses."""

    differentiable = True

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def __call__(self, images: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """Observe: [R, 3, H, W] in [-1, 1] -> [R, …], row by row."""

    def rows(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """The numbers of the settings as one row, name -> [1]."""
        return number_rows(self.settings, dtype, device)
