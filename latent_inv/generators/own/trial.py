"""A look at a program before it is used: does it keep what its description promises?

What a contract test finds in generators of this package, a user must be told of his own, in one sentence and at once:
later it would be a search that finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap

from latent_inv.errors import AssetError, LatentInvError
from latent_inv.forward_mode import meet_the_first_warning
from latent_inv.incidents import brief, is_out_of_memory
from latent_inv.types import Latents

from .adapter import Own

#: what rounding may do to a picture, whose numbers are in [-1, 1]
_ROUNDING = 1e-3
#: share of numbers that may leave the range a little before it counts as a wrong one, and how far they may leave it
_OUTLIERS, _SLACK = 0.05, 0.02
#: black to white in steps of 255: nothing that is all below this is meant so
_WIDE, _NARROW = 64.0, 2.0


def try_out(generator: Own) -> None:
    """Decode some draws of the prior, and see that pictures are pictures, rows are apart, and gradients are there.

    Raises:
        AssetError: what is wrong, what was found, and what to do.
    """
    latents = generator.sample((0, 1, 2))
    before = _versions(generator, latents)
    with torch.no_grad():
        raw = _attempt(generator, "decoding draws of its prior", lambda: generator.raw(latents))
        if _versions(generator, latents) != before:
            text = f"{generator.file} changes its own weights or the latents that it is given"
            raise AssetError(f"{text}; call .eval() on the module before it is exported, and let it change no input")
        _check_form(generator, raw, latents)
        _check_numbers(generator, raw)
        _check_rows(generator, latents)
    if generator.differentiable:
        _check_gradient(generator, {name: tensor[:1] for name, tensor in latents.items()})
    if generator.forward_mode:
        _check_forward_mode(generator, {name: tensor[:1] for name, tensor in latents.items()})


def _check_form(generator: Own, raw: Tensor, latents: Latents) -> None:
    rows, (height, width) = 3, generator.picture_size(latents)
    last = generator.description.channels_last
    wanted = (rows, height, width, 3) if last else (rows, 3, height, width)
    if not isinstance(raw, Tensor) or not raw.is_floating_point():
        found = f"a tensor of {raw.dtype}" if isinstance(raw, Tensor) else f"a {type(raw).__name__}"
        raise AssetError(f"{generator.file} gives {found}; a picture is one tensor of numbers with fractions")
    if tuple(raw.shape) != wanted:
        shown = "[rows, height, width, 3]" if last else "[rows, 3, height, width]"
        hint = '; `layout = "channels_last"` if the colour comes last' if raw.shape[-1] == 3 and not last else ""
        raise AssetError(
            f"{generator.file} gives {list(raw.shape)} for three rows, expected {shown} = {list(wanted)} "
            f"as {generator.beside} and the program say{hint}"
        )


def _check_numbers(generator: Own, raw: Tensor) -> None:
    if not bool(torch.isfinite(raw).all()):
        raise AssetError(f"{generator.file} gives numbers that are not finite for draws of its prior")
    low, high = generator.description.bounds
    slack = _SLACK * (high - low)
    outside = float(((raw < low - slack) | (raw > high + slack)).double().mean())
    lowest, highest = float(raw.min()), float(raw.max())
    if outside > _OUTLIERS or (high - low > _WIDE and highest < low + _NARROW):
        raise AssetError(
            f"{generator.file} gives numbers from {lowest:.3g} to {highest:.3g} for draws of its prior, "
            f"expected [{low:g}, {high:g}]; set `range` in {generator.beside}, or end the program in tanh or sigmoid"
        )


def _check_rows(generator: Own, latents: Latents) -> None:
    decode = generator._decode
    together, again = decode(latents), decode(latents)
    if _differ(together, again):
        text = f"{generator.file} gives another picture each time it is asked"
        raise AssetError(f"{text}; a picture must depend on its latents alone: make its noise an input")
    turned = decode({name: tensor[[0, 2, 2]] for name, tensor in latents.items()})
    if _differ(together[0], turned[0]) or _differ(together[2], turned[1]):
        text = f"{generator.file} mixes rows: a picture changes with what else is in the batch"
        raise AssetError(f"{text}; call .eval() on the module before it is exported")


def _check_gradient(generator: Own, latents: Latents) -> None:
    searched = generator.spaces[generator.default_space].searched
    leaves = {name: latents[name].clone().requires_grad_() for name in searched}

    def back() -> tuple[Tensor, ...]:
        with torch.enable_grad():
            total = generator._decode({**latents, **leaves}).square().sum()
        return torch.autograd.grad(total, list(leaves.values()))

    found = _attempt(generator, "its gradient", back, "differentiable = false")
    if not all(bool(torch.isfinite(one).all()) for one in found):
        text = f"the gradient of {generator.file} is not finite at a draw of its prior"
        raise AssetError(f"{text}; set `differentiable = false` in {generator.beside}")


def _check_forward_mode(generator: Own, latents: Latents) -> None:
    meet_the_first_warning()
    name = generator.spaces[generator.default_space].searched[0]

    def push(tangent: Tensor) -> Tensor:
        return jvp(lambda part: generator._decode({**latents, name: part}), (latents[name],), (tangent,))[1]

    def two() -> Tensor:
        with torch.no_grad():
            return vmap(push)(torch.stack([torch.ones_like(latents[name]), torch.zeros_like(latents[name])]))

    tangents = _attempt(generator, "its forward mode", two, "forward_mode = false")
    if not bool(torch.isfinite(tangents).all()) or bool(tangents[1].any()):
        text = f"{generator.file} gives wrong derivatives in forward mode"
        raise AssetError(f"{text}; set `forward_mode = false` in {generator.beside}")


def _attempt(generator: Own, what: str, call: Callable[[], Any], setting: str = "") -> Any:
    try:
        return call()
    except LatentInvError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        hint = f"; set `{setting}` in {generator.beside} if it has none" if setting else ""
        hint = hint or f"; are the shapes in {generator.beside} those of the program?"
        if generator.dtype == torch.float64:
            hint = f'; set `dtypes = ["float32"]` in {generator.beside} if it cannot compute in float64'
        raise AssetError(f"{generator.file} failed at {what}: {brief(error)}{hint}") from error


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > _ROUNDING)


def _versions(generator: Own, latents: Latents) -> list[int]:
    """Counters of what was written to; views share the one of what they show."""
    held = [*generator.network.parameters(), *generator.network.buffers(), *latents.values()]
    return [tensor._version for tensor in held]
