"""Limited-memory BFGS, a row at a time, one evaluation a step."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.settings import numbers
from latent_inv.types import Latents, Tree, dot, joined, parted

from .base import Evaluate, Solver, Verdict

#: share of the predicted decrease that a step must bring (Nocedal and Wright, section 3.1)
_ARMIJO = 1e-4
#: least cosine between a step and its change of gradient for the pair to be kept
_CURVATURE = 1e-6
#: bounds of one cut of the step; a cut follows from the quadratic through both losses and the slope
_LEAST_CUT, _MOST_CUT = 0.1, 0.5
#: so many refusals in a row and the history is dropped: it describes another place
_PATIENCE = 8
#: a step below this many spacings of floating-point numbers goes nowhere
_SPACINGS = 4
#: where no step is left: a slope below this share of the loss at the start makes it a minimum
_FLAT = 1e-3


class LBFGS(Solver[spec.LBFGS]):
    """Source: Nocedal and Wright (2006), Algorithms 7.4 (two loops) and 7.5, with backtracking on equation 3.4.

    A step scores the point that the last one proposed. It is accepted if the loss fell by enough, and then the next
    quasi-Newton step is proposed; or it is refused, and a shorter step from the last accepted point is. Backtracking
    does not ensure the curvature condition, so a pair that breaks it is left out of the history. What is compared is
    the point that was scored, so a projection onto a box or a sphere on the way does no harm. A row has converged
    where its gradient is small, or where the loss has no digit for what the next step is predicted to bring.
    """

    needs = "gradient"
    guarded = True

    def init(self, latents: Latents, keys: Tensor) -> Tree:
        x = joined(latents)
        rows, d = x.shape
        memory = self.settings.memory
        settings = {name: x.new_full((rows,), value) for name, value in numbers(self.settings).items()}
        return {
            **settings,
            "x": x.clone(),
            "loss": x.new_full((rows,), torch.inf),
            "first_loss": x.new_full((rows,), torch.inf),
            "gradient": torch.zeros_like(x),
            "direction": torch.zeros_like(x),
            "length": x.new_ones(rows),
            "steps": x.new_zeros(rows, memory, d),
            "changes": x.new_zeros(rows, memory, d),
            "held": torch.zeros_like(keys, device=x.device),
            "refused": torch.zeros_like(keys, device=x.device),
            "verdict": torch.zeros_like(keys, device=x.device),
        }

    def verdicts(self, state: Tree) -> Tensor:
        verdict: Tensor = state["verdict"]
        return verdict

    def step(
        self, latents: Latents, evaluate: Evaluate, state: Tree, progress: Tensor
    ) -> tuple[dict[str, Tensor], Tree]:
        scored = evaluate(latents)
        point, loss, gradient = joined(latents), scored.loss.to(state["x"]), joined(scored.gradient)
        accepted = _accepted(state, point, loss, gradient)
        kept = _with_pair(state, point, gradient, accepted)
        kept = _accept(kept, point, loss, gradient, accepted)
        kept = _cut(kept, state, point, loss, ~accepted)
        x, reach = kept["x"], _reach(kept)
        stuck = reach <= _SPACINGS * torch.finfo(x.dtype).eps * x.abs().amax(dim=1).clamp_min(1)
        # A refused row whose history may be at fault goes on downhill without it, as if it began here.
        renew = ~accepted & (kept["held"] > 0) & (stuck | (kept["refused"] >= _PATIENCE))
        held = torch.where(renew, torch.zeros_like(kept["held"]), kept["held"])
        refused = torch.where(renew, torch.zeros_like(held), kept["refused"])
        direction, held = _direction({**kept, "held": held})
        turned = accepted | renew
        direction = torch.where(turned[:, None], direction, kept["direction"])
        length = torch.where(turned, torch.ones_like(kept["length"]), kept["length"])
        steepest = kept["gradient"].abs().amax(dim=1)
        scale = kept["first_loss"].abs()
        verdict = torch.where(stuck & ~turned, int(Verdict.exhausted), int(Verdict.go_on))
        verdict = torch.where(stuck & ~turned & (steepest <= _FLAT * scale), int(Verdict.converged), verdict)
        least = torch.finfo(x.dtype).eps * kept["loss"].abs()
        unseen = (held > 0) & (-dot(direction, kept["gradient"]) <= least)
        flat = accepted & (steepest <= kept["tolerance"] * scale)
        verdict = torch.where(flat | unseen, int(Verdict.converged), verdict)
        new = {**kept, "held": held, "refused": refused, "direction": direction, "length": length, "verdict": verdict}
        return parted(x + length[:, None] * direction, latents), new


def _accepted(state: Tree, point: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
    """[R], is the scored point to be stepped from? The first point always is."""
    slope = dot(state["gradient"], point - state["x"])
    finite = torch.isfinite(loss) & torch.isfinite(gradient).all(dim=1)
    # A projection may turn a step uphill; it must bring some decrease all the same.
    lower = (loss <= state["loss"] + _ARMIJO * slope.clamp_max(0)) & (loss < state["loss"])
    return finite & lower


def _with_pair(state: Tree, point: Tensor, gradient: Tensor, accepted: Tensor) -> Tree:
    """The history with the step to `point` in front, for rows whose step has positive curvature (equation 7.4)."""
    s, y = point - state["x"], gradient - state["gradient"]
    known = torch.isfinite(state["loss"])
    curved = dot(s, y) > _CURVATURE * (dot(s, s) * dot(y, y)).sqrt()
    add = accepted & known & curved
    new = {}
    for name, pair in (("steps", s), ("changes", y)):
        moved_on = torch.cat([pair[:, None], state[name][:, :-1]], dim=1)
        new[name] = torch.where(add[:, None, None], moved_on, state[name])
    held = torch.where(add, (state["held"] + 1).clamp_max(state["steps"].shape[1]), state["held"])
    return {**state, **new, "held": held}


def _accept(state: Tree, point: Tensor, loss: Tensor, gradient: Tensor, accepted: Tensor) -> Tree:
    """Stand at `point` where it was accepted."""
    first = accepted & torch.isinf(state["first_loss"])
    return {
        **state,
        "x": torch.where(accepted[:, None], point, state["x"]),
        "gradient": torch.where(accepted[:, None], gradient, state["gradient"]),
        "loss": torch.where(accepted, loss, state["loss"]),
        "first_loss": torch.where(first, loss, state["first_loss"]),
        "refused": torch.where(accepted, torch.zeros_like(state["refused"]), state["refused"] + 1),
    }


def _cut(state: Tree, before: Tree, point: Tensor, loss: Tensor, refused: Tensor) -> Tree:
    """A shorter step for refused rows: to the minimum of the quadratic, within bounds (section 3.5)."""
    slope = dot(before["gradient"], point - before["x"])
    cut = -slope / (2 * (loss - before["loss"] - slope))
    usable = torch.isfinite(cut) & (slope < 0)
    cut = torch.where(usable, cut.clamp(_LEAST_CUT, _MOST_CUT), torch.full_like(cut, _MOST_CUT))
    return {**state, "length": torch.where(refused, state["length"] * cut, state["length"])}


def _reach(state: Tree) -> Tensor:
    """[R], the largest change of a latent that is proposed."""
    return state["length"] * state["direction"].abs().amax(dim=1)


def _direction(state: Tree) -> tuple[Tensor, Tensor]:
    """The next step [R, d] from the accepted point, and how many pairs are held on to, [R].

    Two-loop recursion (Algorithm 7.4) with equation 7.20 for the first matrix; down the gradient by `first_step`
    where there is no history, or where rounding has spoilt it.
    """
    gradient, held = state["gradient"], state["held"]
    d, memory = gradient.shape[1], state["steps"].shape[1]
    ones = torch.ones_like(state["length"])
    q, along = gradient, []
    inverse = []
    for index in range(memory):
        s, y = state["steps"][:, index], state["changes"][:, index]
        used = index < held
        inverse.append(torch.where(used, 1 / torch.where(used, dot(s, y), ones), 0 * ones))
        a = inverse[index] * dot(s, q)
        along.append(a)
        q = q - a[:, None] * y
    s, y = state["steps"][:, 0], state["changes"][:, 0]
    some = held > 0
    scale = torch.where(some, dot(s, y) / torch.where(some, dot(y, y), ones), ones)
    r = scale[:, None] * q
    for index in reversed(range(memory)):
        b = inverse[index] * dot(state["changes"][:, index], r)
        r = r + (along[index] - b)[:, None] * state["steps"][:, index]
    size = dot(gradient, gradient).sqrt()
    good = some & torch.isfinite(r).all(dim=1) & (dot(r, gradient) > 0)
    down = gradient / torch.where(size > 0, size, ones)[:, None] * (state["first_step"] * d**0.5)[:, None]
    step = torch.where(good[:, None], r, down)
    length = dot(step, step).sqrt()
    longest = state["longest_step"] * d**0.5
    step = step * torch.where(length > longest, longest / length, ones)[:, None]
    return -step, torch.where(good, held, torch.zeros_like(held))
