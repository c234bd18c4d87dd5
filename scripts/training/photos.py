"""`scripts/train_photos`: the autoencoder `photos`, from the linear transform that it starts at to its card."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from latent_inv.generators.photos_network import CHANNELS, PATCH, PhotoNetwork

from .wallpapers import Wallpapers, photographs, wallpapers

CROP, AVERAGE = 64, 0.999
#: seconds between two looks and savings
LOOK_SECONDS = 120.0
#: share of the time of warming up; share after which the perceptual distance counts
WARM, LATE = 0.01, 0.85
#: no crop may count for more than this many times the mean: flat sky is easy and tells little
_LEAST_ERROR = 0.25
#: two levels of 256: smaller steps are not seen, and would make noise of their ratio
LEAST_STEP = 2 / 128


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/train_photos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0, help="time of training, over all its parts")
    parser.add_argument("--batch", type=int, default=16, help=f"crops of {CROP} pixels a step")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="largest learning rate; falls to zero by a cosine")
    parser.add_argument("--perceptual", type=float, default=0.5, help="weight of LPIPS at the end; 0 leaves it out")
    parser.add_argument("--blocks", type=float, default=3.0, help="weight against visible patches; 0 leaves it out")
    parser.add_argument("--start", type=Path, help="weights of an earlier training to go on from")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0, help="of crops and weights")
    parser.add_argument("--data", type=Path, default=Path("out/wallpapers"), help="folder for the pictures")
    parser.add_argument("--out", type=Path, default=Path("out/photos"), help="folder for checkpoint, weights and card")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pictures = wallpapers(options.data)
    print(f"{len(pictures.training)} pictures at several sizes, {len(pictures.held_back)} held back", flush=True)
    trainer = Trainer(pictures, options)
    if options.resume:
        trainer.restore()
    trainer.run()
    trainer.publish()


class Trainer:
    """Network, optimiser and clock. The crops of a step depend on its number and the seed alone."""

    def __init__(self, pictures: Wallpapers, options: argparse.Namespace) -> None:
        self.options, self.pictures = options, pictures.training
        self.held_back = [_planes(picture)[:, :256, :256] for picture in pictures.held_back]
        torch.manual_seed(options.seed)
        self.network = PhotoNetwork()
        fit_transform(self.network, self.pictures, options.seed)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.errors = [self._linear_error(picture) for picture in self.pictures]
        self.step, self.seconds, self.looks = 0, 0.0, list[dict[str, float]]()
        self.look()
        if options.start:
            self.network.load_state_dict(load_file(options.start))
            self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=1e-4
        )
        self.metric: Any = None

    def run(self) -> None:
        """Train until the time is over, looking at the held-out pictures now and then."""
        began, last, spent = time.monotonic(), time.monotonic(), self.seconds
        if self.options.start and not self.step:
            self.look()
        while self.seconds < 60 * self.options.minutes:
            loss = self._one_step(self.seconds / (60 * self.options.minutes))
            self.step += 1
            self.seconds = spent + time.monotonic() - began
            if time.monotonic() - last > LOOK_SECONDS or self.seconds >= 60 * self.options.minutes:
                self.look(loss)
                self.save()
                last = time.monotonic()

    def _one_step(self, share: float) -> float:
        options = self.options
        rate = min(1.0, (share + 1e-9) / WARM) * 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * rate
        crops, errors = self._crops(np.random.default_rng((options.seed, self.step)))
        decoded = self._through(crops)
        # In units of what the transform leaves, picture by picture: what is judged is the mean of decibels.
        loss = ((decoded - crops).square().mean(dim=(1, 2, 3)) / errors).mean()
        if options.blocks:
            loss = loss + options.blocks * (steps_at_borders(decoded) - steps_at_borders(crops)).square().mean()
        if share > LATE and options.perceptual:
            loss = loss + options.perceptual * self._perceptual(decoded[:4], crops[:4])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        decay = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(now, 1 - decay)
        return float(loss.detach())

    def _through(self, crops: Tensor) -> Tensor:
        """Encoded and decoded. Only what is learnt may be rounded: it is small beside the transform."""
        network, half = self.network, self.options.precision == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            learnt = network.encoder(pixel_unshuffle(crops, 4))
        latents = network.transformed(crops) + learnt.float()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            learnt = network.decoder(latents)
        decoded: Tensor = network.transformed_back(latents) + pixel_shuffle(learnt.float(), 4)
        return decoded

    def _crops(self, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        crops, errors = [], []
        for _ in range(self.options.batch):
            index = int(random.integers(len(self.pictures)))
            picture = self.pictures[index]
            top = int(random.integers(picture.shape[0] - CROP + 1))
            left = int(random.integers(picture.shape[1] - CROP + 1))
            crop = picture[top : top + CROP, left : left + CROP]
            if random.random() < 0.5:
                crop = crop[:, ::-1]
            if random.random() < 0.2:
                crop = crop.swapaxes(0, 1)
            if random.random() < 0.2:
                crop = crop[..., random.permutation(3)]
            crops.append(_planes(crop))
            errors.append(self.errors[index])
        least = _LEAST_ERROR * float(np.mean(self.errors))
        return torch.stack(crops), torch.tensor(errors).clamp_min(least)

    def _linear_error(self, picture: np.ndarray) -> float:
        """Mean squared error of the transform alone on a part of a picture."""
        image = _planes(picture)[None, :, :256, :256]
        image = image[..., : image.shape[2] // 8 * 8, : image.shape[3] // 8 * 8]
        with torch.no_grad():
            return float((self.average.decode(self.average.encode(image)) - image).square().mean())

    def _perceptual(self, decoded: Tensor, crops: Tensor) -> Tensor:
        if self.metric is None:
            from latent_inv.perceptual import load_metric

            self.metric = load_metric("stlpips-alex")
        distance: Tensor = self.metric(decoded, crops)
        return distance.mean()

    def look(self, loss: float = math.nan) -> None:
        """Scores of the average on what it was not trained on."""
        psnr = [_psnr(self.average, image) for image in self.held_back]
        photos = [_psnr(self.average, torch.from_numpy(image)) for image in photographs().values()]
        now = {"step": self.step, "minutes": self.seconds / 60, "loss": loss}
        now |= {"held_back_db": float(np.mean(psnr)), "photographs_db": float(np.mean(photos))}
        now["blocks"] = float(np.mean([_blocks(self.average, image) for image in self.held_back]))
        self.looks.append(now)
        left = self.options.minutes - now["minutes"]
        print(
            f"step {self.step:6}  {now['minutes']:6.1f} min, {left:5.1f} left  loss {loss:.4f}  "
            f"held back {now['held_back_db']:.3f} dB, blocks {now['blocks']:.3f}  "
            f"photographs {now['photographs_db']:.3f} dB",
            flush=True,
        )

    def save(self) -> None:
        """All that the training needs to go on."""
        self.options.out.mkdir(parents=True, exist_ok=True)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "numbers": [self.step, self.seconds],
            "looks": json.dumps(self.looks),
        }
        part = self.options.out / "checkpoint.part"
        torch.save(state, part)
        part.replace(self.options.out / "checkpoint.pt")

    def restore(self) -> None:
        """The inverse of `save`."""
        state = torch.load(self.options.out / "checkpoint.pt", weights_only=True)
        for name in ("network", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.seconds = state["numbers"]
        self.looks = json.loads(state["looks"])

    def publish(self) -> None:
        """The weights as they are shipped, and their card."""
        from .photos_card import publish

        publish(self.average, self.looks, self.options)


def fit_transform(network: PhotoNetwork, pictures: list[np.ndarray], seed: int, patches: int = 400_000) -> None:
    """Set the transform to the principal directions of patches, and `scale` to the deviations along them."""
    random = np.random.default_rng(seed)
    each = patches // len(pictures)
    found = []
    for picture in pictures:
        tops = random.integers(picture.shape[0] - PATCH + 1, size=each)
        lefts = random.integers(picture.shape[1] - PATCH + 1, size=each)
        windows = np.lib.stride_tricks.sliding_window_view(picture, (PATCH, PATCH), axis=(0, 1))
        found.append(windows[tops, lefts])
    samples = np.concatenate(found).reshape(-1, 3, PATCH**2).astype(np.float32) / 127.5 - 1
    mean = samples.mean(axis=(0, 2))
    centred = (samples - mean[:, None]).reshape(len(samples), -1)
    values, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    order = np.argsort(values)[::-1][:CHANNELS]
    with torch.no_grad():
        network.transform.copy_(torch.from_numpy(directions[:, order].T.copy()).reshape(CHANNELS, 3, PATCH, PATCH))
        network.mean.copy_(torch.from_numpy(mean))
        network.scale.copy_(torch.from_numpy(np.sqrt(values[order])))


def steps_at_borders(images: Tensor) -> Tensor:
    """Logarithm of the mean step between pixels across borders of patches ÷ of that elsewhere: [R, 3, H, W] -> [R]."""
    across, inside = [], []
    for axis in (2, 3):
        steps = images.diff(dim=axis).abs()
        border = torch.arange(steps.shape[axis], device=images.device) % PATCH == PATCH - 1
        across.append(steps.index_select(axis, border.nonzero()[:, 0]))
        inside.append(steps.index_select(axis, (~border).nonzero()[:, 0]))
    ratio = [torch.stack([part.mean(dim=(1, 2, 3)) for part in parts]).mean(dim=0) for parts in (across, inside)]
    return (ratio[0] + LEAST_STEP).log() - (ratio[1] + LEAST_STEP).log()


def _planes(picture: np.ndarray) -> Tensor:
    """[H, W, 3] bytes -> [3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.float32) / 127.5 - 1)


def _blocks(network: PhotoNetwork, image: Tensor) -> float:
    with torch.no_grad():
        decoded = network(network.encode(image[None]))
        return float((steps_at_borders(decoded) - steps_at_borders(image[None])).exp())


def _psnr(network: PhotoNetwork, image: Tensor) -> float:
    with torch.no_grad():
        decoded = network(network.encode(image[None]))
    return -10 * math.log10(float((decoded - image).square().mean()) / 4)


if __name__ == "__main__":
    main()
