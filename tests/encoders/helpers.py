"""Small encoders of toys: untrained ones that answer something, and trainings of a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latent_inv.encoders import AmortisedEncoder, Card, EncoderNetwork, shape_for, write_encoder
from latent_inv.encoders.training import Trainer, Training
from latent_inv.perceptual import PerceptualMetric, load_metric
from latent_inv.spaces import LatentSpace
from tests.contracts import loaded

#: widths that are quick
WIDTH, MOST = 8, 32
SPACES = {"smooth": ("smooth", "z"), "map": ("toy", "code"), "mixed": ("toy", "code+class")}


def space_of(where: str) -> LatentSpace:
    generator, space = SPACES[where]
    return loaded(generator).spaces[space]


def network_of(where: str, size: tuple[int, int], seed: int = 0, strength: float = 0.05) -> EncoderNetwork:
    """As before training, but with last layers that say something: deviation `strength`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EncoderNetwork(shape_for(space_of(where), size, WIDTH, MOST))
        for parameter in (*network.vector_out.parameters(), *network.map_out.parameters()):
            torch.nn.init.normal_(parameter, std=strength)
    return network.eval().requires_grad_(False)


def card_of(where: str, network: EncoderNetwork, size: tuple[int, int], **changed: Any) -> Card:
    generator, space = SPACES[where]
    given: dict[str, Any] = {
        "generator": generator,
        "space": space,
        "weights_sha256": loaded(generator).weights_sha256,
        "size": size,
        "shape": network.shape,
        "minutes": 0.5,
        "samples": 96,
        "scores": {"psnr_db after 1 pass": 12.5},
        "command": "latent-inv train-encoder",
        "licence": ("made here", "no data", "nothing"),
        "versions": {"torch": "1"},
    }
    return Card(**{**given, **changed})


def encoder_of(where: str, size: tuple[int, int], **settings: Any) -> AmortisedEncoder:
    network = network_of(where, size, **settings)
    return AmortisedEncoder(network, card_of(where, network, size), loaded(SPACES[where][0]))


def encoder_file(folder: Path, where: str = "smooth", size: tuple[int, int] = (32, 32), **changed: Any) -> Path:
    network = network_of(where, size)
    path = folder / f"{where}.safetensors"
    write_encoder(path, network, card_of(where, network, size, **changed))
    return path


def metric() -> PerceptualMetric:
    return load_metric("stlpips-alex", torch.device("cpu"), torch.float32)


def trainer_of(generator: str = "smooth", space: str = "", **settings: Any) -> Trainer:
    """Of a training that is not over soon; the pictures of a step are few."""
    quick: dict[str, Any] = {"minutes": 1000.0, "batch": 4, "width": WIDTH, "most": MOST, "pixel_rows": 2}
    return Trainer(loaded(generator), metric(), Training(**{**quick, **settings}), space)


def train(trainer: Trainer, steps: int) -> None:
    """So many steps more."""
    until = trainer.steps + steps
    for _ in trainer.run():
        if trainer.steps >= until:
            return
    raise AssertionError("the time was over")
