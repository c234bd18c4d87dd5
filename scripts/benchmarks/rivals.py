"""Other people's methods, written from their papers, for comparison: generator, metric, autograd, nothing around them.

Both run one target at a time and cache its features. Times are taken after each step; of the iterates they keep the
two numbers that are compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from latent_inv.generators.base import Generator
from latent_inv.images import Picture
from latent_inv.perceptual import PerceptualMetric
from latent_inv.seeding import stream

from .traces import Point, Trace, psnr_of

LATENTS = (1, 100, 1, 1)
#: root mean square norm of the latents, E‖z − mean‖² = 100 of a standard normal: σ_w as the paper defines it
SIGMA_W = 10.0
#: the mean of this prior has a gradient that is exactly zero, so the start is moved by so many deviations
MOVED = 0.1


class AdamLoop:
    """Kingma and Ba (2015), algorithm 1, on one latent; `torch.optim` would add to each step."""

    def __init__(self, z: Tensor) -> None:
        self.z, self._mean, self._square, self._step = z, torch.zeros_like(z), torch.zeros_like(z), 0

    def update(self, gradient: Tensor, rate: float) -> None:
        """One step, β = (0.9, 0.999)."""
        self._step += 1
        self._mean.mul_(0.9).add_(gradient, alpha=0.1)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        deviation = (self._square / (1 - 0.999**self._step)).sqrt_().add_(1e-8)
        self.z.addcdiv_(self._mean, deviation, value=-rate / (1 - 0.9**self._step))


class Rival:
    """What both have in common: the networks, the target with its features, and the record."""

    def __init__(self, generator: Generator, metric: PerceptualMetric, picture: Picture) -> None:
        self.began = time.perf_counter()
        self.decode: Callable[[Tensor], Tensor] = generator.network
        self.metric = metric
        self.target = torch.from_numpy(picture.pixels.copy())[None]
        with torch.no_grad():
            self.features = metric.features(self.target)
        self.seen: list[tuple[float, Tensor, Tensor]] = []

    def look(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Picture and its distance, with a graph."""
        images = self.decode(z)
        return images, self.metric.distance(self.metric.features(images), self.features)

    def record(self, images: Tensor, distance: Tensor) -> None:
        """Keep what the iterate was worth."""
        squared = (images.detach() - self.target).square_().mean()
        self.seen.append((time.perf_counter() - self.began, squared, distance.detach()))

    def trace(self, final: Tensor) -> Trace:
        """The record, with the latents that are the result."""
        seconds = time.perf_counter() - self.began
        with torch.no_grad():
            images, distance = self.look(final)
        seen = [*self.seen, (seconds, (images - self.target).square_().mean(), distance)]
        points = tuple(Point(at, psnr_of(float(squared)), float(lpips)) for at, squared, lpips in seen)
        return Trace(points, images[0].clamp(-1, 1).numpy())


def projector_rate(step: int, steps: int = 1000) -> float:
    """Learning rate: 0.1, with a linear rise over the first 5 % and a cosine fall over the last 25 %."""
    t = step / steps
    fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / 0.25))
    return 0.1 * fall * min(1.0, t / 0.05)


def projector_noise(step: int, steps: int = 1000) -> float:
    """Deviation of the noise that is added to each latent: 0.05 σ_w, to 0 over the first 75 %."""
    return float(0.05 * SIGMA_W * max(0.0, 1 - step / steps / 0.75) ** 2)


class Projector(Rival):
    """The projector of StyleGAN2, in this generator's z: there is no w, and there are no noise maps to regularise.

    Source: Karras et al. (2020), "Analyzing and improving the image quality of StyleGAN", appendix D. The start is the
    mean of the latents, moved by a small random step.
    """

    def __init__(
        self, generator: Generator, metric: PerceptualMetric, picture: Picture, seed: int, steps: int = 1000
    ) -> None:
        super().__init__(generator, metric, picture)
        self.steps, self._done = steps, 0
        self._random = stream(seed, "projector")
        self._adam = AdamLoop(MOVED * torch.randn(LATENTS, generator=self._random))

    def step(self) -> None:
        """One of the steps."""
        noise = projector_noise(self._done, self.steps)
        z = self._adam.z + noise * torch.randn(LATENTS, generator=self._random) if noise else self._adam.z.clone()
        images, distance = self.look(z.requires_grad_())
        (gradient,) = torch.autograd.grad(distance.sum(), z)
        self._adam.update(gradient, projector_rate(self._done, self.steps))
        self._done += 1
        self.record(images, distance)

    def run(self) -> Trace:
        """All steps; the result is where they end, without noise."""
        while self._done < self.steps:
            self.step()
        return self.trace(self._adam.z)


def projector(generator: Generator, metric: PerceptualMetric, picture: Picture, seed: int, quick: bool) -> Trace:
    """The projector with its 1000 steps, or a few that only show that it works."""
    return Projector(generator, metric, picture, seed, 8 if quick else 1000).run()


class Pix2Latent(Rival):
    """Adam of pix2latent: L1 + 10 LPIPS from a truncated normal draw, learning rate 0.05.

    Source: Huh et al. (2020), "Transforming and projecting images into class-conditional generative networks".
    """

    def run(self, seed: int, steps: int = 500) -> Trace:
        """All steps; the result is the iterate with the smallest loss."""
        draw = torch.empty(LATENTS)
        torch.nn.init.trunc_normal_(draw, a=-2.0, b=2.0, generator=stream(seed, "pix2latent"))
        adam = AdamLoop(draw)
        best, smallest = draw.clone(), math.inf
        for _ in range(steps):
            z = adam.z.clone().requires_grad_()
            images, distance = self.look(z)
            loss = (images - self.target).abs().mean() + 10 * distance.sum()
            (gradient,) = torch.autograd.grad(loss, z)
            value = float(loss.detach())
            if value < smallest:
                best, smallest = z.detach(), value
            adam.update(gradient, 0.05)
            self.record(images, distance)
        return self.trace(best)


def pix2latent(generator: Generator, metric: PerceptualMetric, picture: Picture, seed: int, quick: bool) -> Trace:
    """Its 500 steps, or a few that only show that it works."""
    return Pix2Latent(generator, metric, picture).run(seed, 8 if quick else 500)


#: name -> what runs it on one picture
RIVALS: dict[str, Callable[[Generator, PerceptualMetric, Picture, int, bool], Trace]] = {
    "projector": projector,
    "pix2latent": pix2latent,
}
