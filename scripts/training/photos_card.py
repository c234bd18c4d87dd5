"""What a training of `photos` leaves: the weights in float16, their card, curves and pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from latent_inv.files import sha256_of, write_bytes
from latent_inv.generators.photos_network import PhotoNetwork
from latent_inv.images import encode_png
from latent_inv.report import curves, grid

from .wallpapers import PACKAGES, photographs


def publish(network: PhotoNetwork, looks: list[dict[str, float]], options: argparse.Namespace) -> None:
    """Write photos.safetensors, photos.md, curves.png and photos.png into the folder of the options."""
    folder: Path = options.out
    file = folder / "photos.safetensors"
    # The statistics stay in float32: they are few, and all latents are in their units.
    kept = {
        name: tensor.half() if tensor.dim() > 1 else tensor.float() for name, tensor in network.state_dict().items()
    }
    last, made = looks[-1], [*history(options.start), command(looks[-1], options)]
    metadata = {"name": "photos", "made": json.dumps(made)}
    save_file({name: tensor.contiguous() for name, tensor in kept.items()}, file, metadata=metadata)
    write_bytes(folder / "photos.md", card(file, looks[0], last, made).encode())
    minutes = [look["minutes"] for look in looks]
    names = {"held_back_db": "held back", "photographs_db": "photographs"}
    series = {title: (minutes, [look[name] for look in looks]) for name, title in names.items()}
    curves(folder / "curves.png", series, xlabel="training (minutes)", ylabel="PSNR (dB)", title="photos")
    images = photographs()
    with torch.no_grad():
        decoded = [network(network.encode(torch.from_numpy(image)[None]))[0] for image in images.values()]
    pictures = torch.stack([*map(torch.from_numpy, images.values()), *decoded])
    captions = [*images, *["encoded and decoded"] * len(images)]
    write_bytes(folder / "photos.png", encode_png(grid(pictures, captions, columns=len(images))))
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB, SHA-256 {sha256_of(file)}", flush=True)


def history(start: Path | None) -> list[str]:
    """What made the weights that a training goes on from, as they say themselves."""
    if start is None:
        return []
    with safe_open(start, framework="pt") as file:
        made: list[str] = json.loads((file.metadata() or {}).get("made", "[]"))
    return made


def command(last: dict[str, float], options: argparse.Namespace) -> str:
    """What was run, and what it came to."""
    start = " --start FILE" if options.start else ""
    settings = f"--rate {options.rate:g} --blocks {options.blocks:g} --perceptual {options.perceptual:g}"
    run = f"scripts/train_photos --minutes {options.minutes:g} --precision {options.precision} {settings}{start}"
    return f"{run}  # {last['step']:.0f} steps of {options.batch} crops in {last['minutes']:.0f} minutes"


def card(file: Path, first: dict[str, float], last: dict[str, float], made: list[str]) -> str:
    """The card as Markdown.

    Args:
        first, last: looks at the transform alone and at what is shipped.
        made: what was run, one after the other.
    """
    commands = "\n".join(f"    {line}" for line in made)
    sources = "\n".join(f"| `{name}` | {licence} |" for name, licence in PACKAGES.items())
    held = f"{first['held_back_db']:.2f} dB | {last['held_back_db']:.2f} dB"
    photos = f"{first['photographs_db']:.2f} dB | {last['photographs_db']:.2f} dB"
    return f"""# `photos`

An autoencoder for pictures of any size: stride 8, 16 latent channels of about unit variance.
{file.stat().st_size / 1e6:.1f} MB, float16, SHA-256 `{sha256_of(file)}`.

It begins as the Karhunen-Loève transform of 8 × 8 patches, the best linear map with so many latents, measured on the
training pictures. Residual networks beside it were trained to leave less, crop by crop in units of what the transform
leaves.

Made by

{commands}

each from what the one before left, of 64 × 64 pixels a crop. `--blocks` weighs steps between pixels that are larger
across the borders of patches than elsewhere; on the pictures held back they are {last["blocks"]:.3f} of the original's.

| PSNR, encoded and decoded | transform alone | trained |
|---|---|---|
| pictures held back, 256 × 256 | {held} |
| astronaut, chelsea, coffee, rocket of scikit-image, 256 × 256, never trained on | {photos} |

## Pictures and licences

Wallpapers of Debian packages; one in twelve, by hash, was held back. Licences as their copyright files state them:

| package | licence |
|---|---|
{sources}

The weights are part of this package. Whether the terms of pictures reach what is trained on them is not settled; all of
these may be used commercially under their terms.
"""
