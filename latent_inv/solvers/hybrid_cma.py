"""CMA-ES outside, Adam inside: each candidate is refined before it is ranked."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.settings import numbers
from latent_inv.types import Latents, Tree, joined, parted

from .adam import adam_step
from .base import Evaluate, Solver
from .cma import begin_rows, candidates, collapsed, learn_rows, population
from .cma_es import noted

#: decays of the refinement: those of the library's Adam
_ADAM = numbers(spec.Adam())


class HybridCMA(Solver[spec.HybridCMA]):
    """Source: Huh et al. (2020), Transforming and Projecting Images into Class-conditional Generative Networks, 3.3.

    A candidate takes `inner_steps` + 1 steps: where it was drawn, and after each step of Adam. Its fitness is the last
    of these losses, and what the distribution learns from is the draw, as in CMA-ES. After `outer_share` of the
    budget, or once the draws have become one point, the best point so far is refined by Adam to the end, with a
    learning rate that falls as a cosine.
    """

    needs = "gradient"
    guarded = True

    def init(self, latents: Latents, keys: Tensor) -> Tree:
        x = joined(latents)
        count, keys = population(x.shape[1], self.settings.population), keys.cpu().clone()
        settings = numbers(self.settings) | {name: _ADAM[name] for name in ("beta1", "beta2", "epsilon")}
        return {
            **{name: x.new_full((len(x),), value) for name, value in settings.items() if name != "sigma"},
            "key": keys,
            "distribution": begin_rows(x, self.settings.sigma, count, keys),
            "fitness": torch.full((len(keys), count), torch.inf, dtype=torch.float64),
            "next": torch.full_like(keys, -1),
            "t": x.new_zeros(len(x)),
            "m": torch.zeros_like(x),
            "v": torch.zeros_like(x),
            "best": x.clone(),
            "best_loss": x.new_full((len(x),), torch.inf),
            "alone": torch.zeros_like(keys, dtype=torch.bool, device=x.device),
        }

    def step(
        self, latents: Latents, evaluate: Evaluate, state: Tree, progress: Tensor
    ) -> tuple[dict[str, Tensor], Tree]:
        scored = evaluate(latents)
        x, loss, gradient = joined(latents), scored.loss.to(state["best_loss"]), joined(scored.gradient)
        better = loss < state["best_loss"]
        best = torch.where(better[:, None], x, state["best"])
        best_loss = torch.where(better, loss, state["best_loss"])
        finite = torch.isfinite(loss) & torch.isfinite(gradient).all(dim=1)
        alone, t = state["alone"], state["t"] + 1
        decays = (state["beta1"], state["beta2"], state["epsilon"])
        refined, m, v = adam_step(x, gradient, (state["m"], state["v"]), decays, t, _rate(state, progress))

        start = (state["next"] < 0).to(x.device)
        over = ~alone & (start | (state["t"] >= state["inner_steps"]) | ~finite)
        fitness = torch.where(over.cpu()[:, None], noted(state["fitness"], loss, state["next"]), state["fitness"])
        turn = torch.where(over.cpu(), state["next"] + 1, state["next"])
        ready = turn == fitness.shape[1]
        rows = learn_rows(state["distribution"], fitness, ready, state["key"])
        turn = torch.where(ready, torch.zeros_like(turn), turn)

        # Adam alone begins at the best point, and goes back to it from where there is no number.
        one_point = collapsed(rows, x.dtype).to(x.device)
        leave = ~alone & ((progress >= state["outer_share"]) | one_point)
        back = leave | (alone & ~finite)
        drawn = candidates(rows, turn.clamp_min(0)).to(x)
        moved = torch.where(back[:, None], best, torch.where(over[:, None], drawn, refined))
        fresh = back | over
        new = {
            **state,
            "distribution": rows,
            "fitness": fitness,
            "next": turn,
            "t": torch.where(fresh, torch.zeros_like(t), t),
            "m": torch.where(fresh[:, None], torch.zeros_like(m), m),
            "v": torch.where(fresh[:, None], torch.zeros_like(v), v),
            "best": best,
            "best_loss": best_loss,
            "alone": alone | leave,
        }
        return parted(moved, latents), new


def _rate(state: Tree, progress: Tensor) -> Tensor:
    """[R]: constant for candidates; alone, falling to zero over the rest of the budget."""
    rest = (1 - state["outer_share"]).clamp_min(1e-6)
    share = ((progress - state["outer_share"]) / rest).clamp(0, 1)
    falling = state["learning_rate"] * ((1 + torch.cos(math.pi * share)) / 2)
    return torch.where(state["alone"], falling, state["learning_rate"])
