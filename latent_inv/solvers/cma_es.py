"""CMA-ES, a row at a time, one candidate a step."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_inv import spec
from latent_inv.types import Latents, Tree, joined, parted

from .base import Evaluate, Solver, Verdict
from .cma import begin_rows, candidates, collapsed, learn_rows, population, spread

#: losses of a generation that differ by less than so many spacings of floating-point numbers are equal
_SPACINGS = 4
#: where all are equal: a spread above this share of the first one means that nothing was found
_NARROW = 1e-2


class CMAES(Solver[spec.CMAES]):
    """Source: Hansen (2016), The CMA Evolution Strategy: A Tutorial; see `cma` for the update.

    The first step scores the start, which is the first mean, and each further step the next candidate; after the last
    one of a generation the distribution learns from their ranking. What is learned from are the draws, also where
    a constraint moved them before they were scored. Candidates with a loss that is no number rank last.
    """

    needs = "value"
    guarded = True

    def init(self, latents: Latents, keys: Tensor) -> Tree:
        flat = joined(latents)
        count, keys = population(flat.shape[1], self.settings.population), keys.cpu().clone()
        distribution = begin_rows(flat, self.settings.sigma, count, keys)
        return {
            "key": keys,
            "distribution": distribution,
            "fitness": torch.full((len(keys), count), torch.inf, dtype=torch.float64),
            "next": torch.full_like(keys, -1),
            "first_sigma": distribution["sigma"].clone(),
            "verdict": torch.zeros_like(keys),
        }

    def verdicts(self, state: Tree) -> Tensor:
        verdict: Tensor = state["verdict"]
        return verdict

    def step(
        self, latents: Latents, evaluate: Evaluate, state: Tree, progress: Tensor
    ) -> tuple[dict[str, Tensor], Tree]:
        loss, dtype = evaluate(latents).loss, next(iter(latents.values())).dtype
        fitness = noted(state["fitness"], loss, state["next"])
        turn = state["next"] + 1
        ready = turn == fitness.shape[1]
        rows = learn_rows(state["distribution"], fitness, ready, state["key"])
        turn = torch.where(ready, torch.zeros_like(turn), turn)
        done, least, most = collapsed(rows, dtype), fitness.amin(dim=1), fitness.amax(dim=1)
        flat = most - least <= _SPACINGS * torch.finfo(dtype).eps * least.abs()
        found = done | (spread(rows) <= _NARROW * state["first_sigma"])
        verdict = torch.where(ready & (done | flat), int(Verdict.exhausted), int(Verdict.go_on))
        verdict = torch.where((verdict > 0) & found & torch.isfinite(least), int(Verdict.converged), verdict)
        new = {**state, "distribution": rows, "fitness": fitness, "next": turn, "verdict": verdict}
        return parted(candidates(rows, turn), latents), new


def noted(fitness: Tensor, loss: Tensor, index: Tensor) -> Tensor:
    """`fitness` [R, λ] with `loss` [R] of candidate `index` [R]; below 0 it is of no candidate.

    A loss that is no finite number counts as infinite.
    """
    value = loss.to("cpu", torch.float64)
    value = torch.where(torch.isfinite(value), value, torch.full_like(value, torch.inf))
    here = torch.arange(fitness.shape[1]) == index[:, None]
    return torch.where(here, value[:, None], fitness)
