"""What a training leaves for people: the encoder, its card, its curves, and faces to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from latent_inv.files import write_bytes
from latent_inv.versions import versions

from .file import Card, write_encoder
from .training import Trainer

FILES: Mapping[str, str] = {
    "encoder": "encoder.safetensors",
    "card": "card.md",
    "curves": "curves.png",
    "samples": "samples.png",
}
_SHOWN = 8


def publish(trainer: Trainer, folder: Path, command: str) -> Card:
    """Write the encoder as it stands, its card and pictures into `folder`.

    Args:
        command: what a person types to make it again; goes into the card.
    """
    settings, generator = trainer.settings, trainer.generator
    card = Card(
        generator=generator.name,
        space=trainer.space_name,
        weights_sha256=generator.weights_sha256,
        size=trainer.size,
        shape=trainer.kept.shape,
        minutes=round(trainer.seconds / 60, 2),
        samples=trainer.steps * settings.batch,
        scores={name: round(score, 4) for name, score in (trainer.looks[-1].scores if trainer.looks else {}).items()},
        command=command,
        licence=tuple(generator.licence),
        versions=versions(),
    )
    write_encoder(folder / FILES["encoder"], trainer.kept, card)
    write_bytes(folder / FILES["card"], card_text(card, (folder / FILES["encoder"]).stat().st_size).encode())
    _draw(trainer, folder)
    return card


def card_text(card: Card, size: int) -> str:
    """The card as Markdown."""
    scores = "\n".join(f"| {name} | {score:.4g} |" for name, score in card.scores.items())
    licence = "\n".join(f"* {line}" for line in card.licence)
    return f"""# Encoder of `{card.generator}`

Pictures of {card.size[1]} × {card.size[0]} to latents of the space `{card.space}`, for the weights
`{card.weights_sha256}`. With any other weights it is refused. {size / 1e6:.1f} MB, float16.

Made by

    {card.command}

in {card.minutes:g} minutes on {card.samples:,} samples of the generator, half of them spoilt by noise, blur, JPEG,
other colours, shifts or holes. It has seen nothing that the generator did not make: on other pictures it is a start,
not an answer.

| on samples that it was not trained on | |
|---|---|
{scores}

## Licence

It was made from the generator's outputs alone, and inherits what holds for the generator:

{licence}
"""


def _draw(trainer: Trainer, folder: Path) -> None:
    from latent_inv.images import encode_png
    from latent_inv.report import curves, grid

    if trainer.looks:
        minutes = [look.seconds / 60 for look in trainer.looks]
        names = [name for name in trainer.looks[-1].scores if name.startswith("psnr_db")]
        series = {
            name.removeprefix("psnr_db "): (minutes, [look.scores[name] for look in trainer.looks]) for name in names
        }
        title = f"encoder of {trainer.generator.name}, held-out samples"
        curves(folder / FILES["curves"], series, xlabel="training (minutes)", ylabel="PSNR (dB)", title=title)
    targets, found = trainer.examples(_SHOWN)
    captions = [*["sample"] * _SHOWN, *["encoded"] * _SHOWN]
    write_bytes(folder / FILES["samples"], encode_png(grid(torch.cat([targets, found]), captions, columns=_SHOWN)))
