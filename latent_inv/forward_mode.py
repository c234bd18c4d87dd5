"""Forward mode without torch's warning of itself."""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch.func import jvp


@cache
def meet_the_first_warning() -> None:
    """At the first `jvp` of a process, torch warns of its own use of `torch.jit.script`; nobody else has to know."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
