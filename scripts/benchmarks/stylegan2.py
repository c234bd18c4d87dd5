"""StyleGAN2 with random weights: how much a batch costs, and how far it is from a network written apart from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from latent_inv.generators.stylegan2.architecture import Architecture
from latent_inv.generators.stylegan2.network import StyleGAN2

from .figures import Figure

#: of the public checkpoints for 256 × 256
LARGE = Architecture(512, 0, 512, 0, 512, 8, (4, 4), (512,) * 4 + (256, 128, 64))


def batch_ratio(_options: Any) -> list[Figure]:
    """Seconds of a picture in a batch of 4 against those of the best single run; and the same with its gradient."""
    network, found = _random(LARGE), []
    for name, gradient in (("stylegan2_batch_ratio", False), ("stylegan2_gradient_batch_ratio", True)):
        alone, together = [], []
        for _ in range(5):
            alone.append(_seconds(network, 1, gradient))
            together.append(_seconds(network, 4, gradient) / 4)
        text = f"{min(together):.3f} s a picture, {min(alone):.3f} s alone"
        found.append(Figure(name, min(together) / min(alone), "", text))
    return found


def reference(_options: Any) -> list[Figure]:
    """Largest difference of a pixel to the reference of the tests, pictures of 32 × 32 with unit pixels."""
    from tests.generators.stylegan2 import reference as apart

    shape = Architecture(64, 0, 64, 0, 64, 8, (4, 4), (64, 64, 32, 16))
    network = _random(shape)
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    worst = 0.0
    for seed in range(4):
        z = torch.randn(1, shape.z, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            ws = network.mapping(z)[:, None].expand(-1, shape.rows, -1)
            found = network(network.synthesis.styles(ws), {})[0].numpy()
        w = apart.mapped(weights, z[0].double().numpy(), None, shape.rate)
        worst = max(worst, float(np.abs(found - apart.picture(weights, np.stack([w] * shape.rows))).max()))
    return [Figure("stylegan2_reference_max_diff", worst, "", "z to pixels, float32 against float64, 4 draws")]


def _random(shape: Architecture) -> StyleGAN2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StyleGAN2(shape)
        for name, parameter in network.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.fill_(0.1)
    return network.eval().requires_grad_(False)


def _seconds(network: StyleGAN2, rows: int, gradient: bool) -> float:
    z = torch.randn(rows, network.shape.z, generator=torch.Generator().manual_seed(0)).requires_grad_(gradient)
    start = time.perf_counter()
    with torch.set_grad_enabled(gradient):
        ws = network.mapping(z)[:, None].expand(-1, network.shape.rows, -1)
        pictures = network(network.synthesis.styles(ws), {})
    if gradient:
        pictures.square().sum().backward()
    return time.perf_counter() - start


PARTS: dict[str, Callable[[Any], list[Figure]]] = {"stylegan2_batch": batch_ratio, "stylegan2_reference": reference}
