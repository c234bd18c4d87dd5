"""Networks in half precision: what must not happen in them unseen.

float16 ends at 65 504, and what is below 6e-8 is zero. So each layer is looked at, and gradients are scaled on their
way through: Micikevicius et al. (2018), "Mixed precision training", section 3.2, here with a factor a row that fits
its own gradient. bfloat16 has the range of float32 and needs neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from latent_inv.errors import InternalError
from latent_inv.types import by_row

#: half precision: number formats of networks whose latents and pictures are float32
HALVES: Mapping[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class GradientScale:
    """Scales the gradient of each row by a power of two inside of a network, and back; exact but for what is inside."""

    def __init__(self) -> None:
        self._scale: Tensor | None = None
        self._left = False

    def enter(self, given: Tensor) -> Tensor:
        """What goes into the network, [R, …]."""
        if not (given.requires_grad and torch.is_grad_enabled()):
            return given
        inside = given.view_as(given)
        inside.register_hook(lambda gradient: gradient / by_row(self._known(), gradient))
        return inside

    def leave(self, made: Tensor) -> Tensor:
        """What comes out of it, [R, …]; one tensor."""
        if made.requires_grad:
            if self._left:
                raise InternalError("gradients of several tensors cannot have one scale")
            self._left = True
            made.register_hook(self._fit)
        return made

    def _fit(self, gradient: Tensor) -> Tensor:
        peak = gradient.flatten(1).abs().amax(dim=1)
        peak = torch.where(torch.isfinite(peak) & (peak > 0), peak, torch.ones_like(peak))
        # The largest value comes to lie between ½ and 1: as far from the lower end as from the upper one.
        self._scale = torch.ldexp(torch.ones_like(peak), -torch.frexp(peak).exponent)
        return gradient * by_row(self._scale, gradient)

    def _known(self) -> Tensor:
        if self._scale is None:
            raise InternalError("a gradient came to the network's inputs before it came to its output")
        return self._scale


class Overflow:
    """Which rows had a value in some layer that is not finite. Later layers may hide it: tanh makes 1 of infinity."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._bad: Tensor | None = None

    def look(self, _module: nn.Module, _given: Any, made: Any) -> None:
        """See what a layer made, as a forward hook."""
        if not isinstance(made, Tensor) or not made.is_floating_point() or made.dim() == 0:
            return
        bad = ~torch.isfinite(made.detach()).flatten(1).all(dim=1) if made.dim() > 1 else ~torch.isfinite(made.detach())
        if len(bad) != self.rows:  # some rows of several, or parts of them: which ones cannot be told here
            bad = bad.any().expand(self.rows)
        self._bad = bad if self._bad is None else self._bad | bad

    def spoil(self, made: Tensor) -> Tensor:
        """`made` [R, …] with no numbers in the rows that had one that is not finite."""
        if self._bad is None:
            return made
        return torch.where(by_row(self._bad, made), torch.full_like(made, torch.nan), made)


@contextmanager
def watched(network: nn.Module, rows: int) -> Iterator[Overflow]:
    """Look at each layer of a call with so many rows."""
    overflow = Overflow(rows)
    layers = [module for module in network.modules() if next(module.children(), None) is None]
    handles = [layer.register_forward_hook(overflow.look) for layer in layers]
    try:
        yield overflow
    finally:
        for handle in handles:
            handle.remove()
