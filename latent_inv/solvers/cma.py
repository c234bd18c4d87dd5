"""The distribution of CMA-ES: draws a generation and learns from the ranking of it. One row, float64, on the CPU.

An eigendecomposition of 100 × 100 is quicker there than on a GPU, and not every device has float64. Rows are
done one by one, on copies, since batched or unaligned matrix products may round differently by place.

Source: Hansen (2016), The CMA Evolution Strategy: A Tutorial, Figure 6 and Table 1, with negative weights. Above
`SEPARABLE` dimensions only the diagonal of the covariance is kept: Ros and Hansen (2008), A Simple Modification in
CMA-ES Achieving Linear Time and Space Complexity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from latent_inv.seeding import stream
from latent_inv.types import join_rows, take_row

#: more dimensions than this, and the covariance is a diagonal: a full one would take too many candidates to learn
SEPARABLE = 200
#: eigenvalues of the covariance below this share of the largest are lifted to it
_CONDITION = 1e-14
#: candidates that lie within so many spacings of floating-point numbers are one point
_SPACINGS = 4

#: "mean" [1, d], "sigma" [1], "covariance" [1, d, d] or [1, d], "path" and "sigma_path" [1, d], "generation" [1],
#: "draws" and "offsets" [1, λ, d]: z and C^½ z, so that candidate k is mean + sigma · offsets[k]
Distribution = dict[str, Tensor]


@dataclass(frozen=True)
class Rates:
    """Table 1 of the tutorial for d dimensions and λ candidates; names as there, `weights` by rank."""

    weights: Tensor
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    expected_norm: float


@cache
def rates(d: int, count: int) -> Rates:
    """The numbers that depend on dimension and population alone.

    Args:
        count: λ, at least 2.
    """
    raw = [math.log((count + 1) / 2) - math.log(rank) for rank in range(1, count + 1)]
    best, rest = raw[: count // 2], raw[count // 2 :]
    mu_eff = sum(best) ** 2 / sum(w * w for w in best)
    mu_eff_rest = sum(rest) ** 2 / sum(w * w for w in rest)
    c_1 = 2 / ((d + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((d + 2) ** 2 + mu_eff))
    if d > SEPARABLE:  # Ros and Hansen, equation 2: a diagonal is learned (d + 2) / 3 times as fast
        c_1 = min(1, c_1 * (d + 2) / 3)
        c_mu = min(1 - c_1, c_mu * (d + 2) / 3)
    # Equations 50 to 53; the smallest keeps the covariance positive definite.
    negative = 0.0
    if c_mu > 0:
        negative = min(1 + c_1 / c_mu, 1 + 2 * mu_eff_rest / (mu_eff + 2), (1 - c_1 - c_mu) / (d * c_mu))
    up, down = sum(w for w in raw if w > 0), -sum(w for w in raw if w < 0)
    c_sigma = (mu_eff + 2) / (d + mu_eff + 5)
    return Rates(
        weights=torch.tensor([w / up if w >= 0 else negative * w / down for w in raw], dtype=torch.float64),
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (d + 1)) - 1) + c_sigma,
        c_c=(4 + mu_eff / d) / (d + 4 + 2 * mu_eff / d),
        c_1=c_1,
        c_mu=c_mu,
        expected_norm=math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d)),
    )


def population(d: int, asked: int) -> int:
    """λ: what was asked for, at least 2; 0 takes 4 + ⌊3 ln d⌋ (equation 48)."""
    return max(2, asked) if asked else 4 + int(3 * math.log(d))


def begin(mean: Tensor, sigma: float, count: int, key: int) -> Distribution:
    """The first generation around `mean`, [1, d] float64."""
    d = mean.shape[1]
    none = torch.zeros_like(mean)
    row = {
        "mean": mean,
        "sigma": torch.full((1,), sigma, dtype=torch.float64),
        "covariance": torch.ones_like(mean) if d > SEPARABLE else torch.eye(d, dtype=torch.float64)[None],
        "path": none,
        "sigma_path": none.clone(),
        "generation": torch.zeros(1, dtype=torch.int64),
    }
    return _drawn(row, count, key)


def learn(row: Distribution, fitness: Tensor, key: int) -> Distribution:
    """The next generation, from the losses [1, λ] of this one; infinite ones rank last."""
    count, d = row["draws"].shape[1:]
    if not torch.isfinite(fitness).any():
        # Nothing is known of this generation but that it is too far out.
        return _drawn({**row, "sigma": row["sigma"] / 2, "generation": row["generation"] + 1}, count, key)
    r = rates(d, count)
    order = fitness[0].argsort(stable=True)
    z, y = row["draws"][0, order], row["offsets"][0, order]
    good = r.weights.clamp_min(0)[:, None]
    z_mean, y_mean = (good * z).sum(0), (good * y).sum(0)

    # The root that drew y from z is symmetric, so z_mean is what the tutorial calls C^(−½) y_mean.
    sigma_path = (1 - r.c_sigma) * row["sigma_path"][0]
    sigma_path = sigma_path + math.sqrt(r.c_sigma * (2 - r.c_sigma) * r.mu_eff) * z_mean
    norm, generation = float(sigma_path.norm()), int(row["generation"][0]) + 1
    steady = norm / math.sqrt(1 - (1 - r.c_sigma) ** (2 * generation)) < (1.4 + 2 / (d + 1)) * r.expected_norm
    path = (1 - r.c_c) * row["path"][0]
    if steady:
        path = path + math.sqrt(r.c_c * (2 - r.c_c) * r.mu_eff) * y_mean
    lost = 0.0 if steady else r.c_c * (2 - r.c_c)

    length = z.square().sum(1)
    weights = torch.where(r.weights < 0, r.weights * d / length, r.weights)
    keep = 1 + r.c_1 * lost - r.c_1 - r.c_mu * float(r.weights.sum())
    if d > SEPARABLE:
        seen = (weights[:, None] * y.square()).sum(0)
        covariance = keep * row["covariance"][0] + r.c_1 * path.square() + r.c_mu * seen
    else:
        seen = y.T @ (weights[:, None] * y)
        covariance = keep * row["covariance"][0] + r.c_1 * torch.outer(path, path) + r.c_mu * seen
        covariance = (covariance + covariance.T) / 2
    # A jump of the step size by more than e in one generation is an accident of the draw.
    growth = math.exp(min(1.0, r.c_sigma / r.d_sigma * (norm / r.expected_norm - 1)))
    new = {
        "mean": row["mean"] + row["sigma"] * y_mean,
        "sigma": row["sigma"] * growth,
        "covariance": covariance[None],
        "path": path[None],
        "sigma_path": sigma_path[None],
        "generation": row["generation"] + 1,
    }
    return _drawn(new, count, key)


def begin_rows(means: Tensor, sigma: float, count: int, keys: Tensor) -> Distribution:
    """`begin` for each row of `means`, [R, d]."""
    starts = [means[row : row + 1].to("cpu", torch.float64, copy=True) for row in range(len(means))]
    return dict(join_rows([begin(start, sigma, count, key) for start, key in zip(starts, keys.tolist(), strict=True)]))


def learn_rows(rows: Distribution, fitness: Tensor, ready: Tensor, keys: Tensor) -> Distribution:
    """`learn` for the rows that are `ready`, [R]; the others stay as they are."""
    new = {name: tensor.clone() for name, tensor in rows.items()} if bool(ready.any()) else rows
    for row in ready.nonzero().flatten().tolist():
        learned = learn(take_row(rows, row), fitness[row : row + 1].clone(), int(keys[row]))
        for name, tensor in learned.items():
            new[name][row : row + 1] = tensor
    return new


def candidates(rows: Distribution, index: Tensor) -> Tensor:
    """Candidate `index` [R] of each row: [R, d]."""
    offsets = rows["offsets"][torch.arange(len(index)), index]
    return rows["mean"] + rows["sigma"][:, None] * offsets


def spread(rows: Distribution) -> Tensor:
    """[R], the largest standard deviation of a coordinate."""
    covariance = rows["covariance"]
    variances = covariance if covariance.dim() == 2 else covariance.diagonal(dim1=1, dim2=2)
    return rows["sigma"] * variances.amax(dim=1).sqrt()


def collapsed(rows: Distribution, dtype: torch.dtype) -> Tensor:
    """[R], are the candidates one and the same point in `dtype`?"""
    size = rows["mean"].abs().amax(dim=1).clamp_min(1)
    return spread(rows) <= _SPACINGS * torch.finfo(dtype).eps * size


def _drawn(row: Distribution, count: int, key: int) -> Distribution:
    """With the draws of its generation, which follow from key and generation alone."""
    generation = int(row["generation"][0])
    z = torch.randn(count, row["mean"].shape[1], generator=stream(key, "cma", generation), dtype=torch.float64)
    covariance = row["covariance"][0]
    if covariance.dim() == 1:
        largest = covariance.max() * _CONDITION
        return {**row, "draws": z[None], "offsets": (z * covariance.clamp_min(largest).sqrt())[None]}
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(values.max() * _CONDITION).sqrt() @ vectors.T
    return {**row, "draws": z[None], "offsets": (z @ root)[None]}
