"""Training an encoder on what its generator makes: endless pairs of latents and pictures."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latent_inv.errors import InputError, SpecError
from latent_inv.files import read_bytes, write_bytes
from latent_inv.generators.base import Generator
from latent_inv.perceptual import PerceptualMetric
from latent_inv.seeding import stream
from latent_inv.settings import Settings, setting

from . import refine, start_of
from .augment import augment, jpeg_of
from .network import EncoderNetwork, shape_for

#: seconds of training between two looks at the held-out set, as a share of the whole, and at least
_LOOKS, _LEAST_LOOK = 24, 5.0
_HELD_OUT = 64
_EVALUATE_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class Training(Settings):
    """How an encoder is trained."""

    minutes: float = setting(20.0, above=0, high=100_000, unit="minutes", doc="Time of training, without loading.")
    batch: int = setting(32, low=1, high=4096, doc="Pictures a step.")
    passes: int = setting(2, low=1, high=8, doc="Passes that are trained: one look, then looks at the reconstruction.")
    width: int = setting(48, low=8, high=512, doc="Channels after the first halving; they double until --most.")
    most: int = setting(288, low=8, high=4096, doc="Most channels.")
    learning_rate: float = setting(2e-3, above=0, high=1, doc="Of AdamW, after a warm-up; falls to zero by a cosine.")
    pixel: float = setting(0.3, low=0, high=1e4, doc="Weight of the pixels of the last pass.")
    pixel_rows: int = setting(8, low=0, high=4096, doc="Pictures of a step that are decoded for that.")
    perceptual: float = setting(0.3, low=0, high=1e4, doc="Weight of the perceptual distance of the last pass.")
    perceptual_rows: int = setting(2, low=0, high=4096, doc="Pictures of a step that are compared for that.")
    late: float = setting(0.7, low=0, high=1, doc="Share of the time after which the perceptual distance counts.")
    precision: str = setting(
        "float32",
        choices=("float32", "bfloat16"),
        doc="Of both networks; bfloat16 is twice as quick where there is AVX-512.",
    )
    average: float = setting(0.998, low=0, below=1, doc="Decay of the average of weights, which is what is kept.")
    seed: int = setting(0, low=0, high=2**63 - 1, doc="Of the weights at the start, the latents and the spoiling.")


@dataclass(frozen=True)
class Look:
    """One look at the held-out set; `scores` are of clean samples after each pass, and of JPEGs of quality 50."""

    step: int
    seconds: float
    loss: float
    scores: Mapping[str, float]


class Trainer:
    """Network, optimiser and clock. What happens at a step depends on its number and the seed alone.

    Args:
        space: which space is found; empty: the generator's default.
    """

    def __init__(self, generator: Generator, metric: PerceptualMetric, settings: Training, space: str = "") -> None:
        if not generator.differentiable and (settings.pixel or settings.perceptual):
            raise SpecError(f"{generator.name} gives no gradient: set pixel and perceptual to 0", field="pixel")
        self.generator, self.metric, self.settings = generator, metric, settings
        self.space_name = generator.resolve_space(space)
        self.space = generator.spaces[self.space_name]
        self.size = generator.resolve_size(0, 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = EncoderNetwork(shape_for(self.space, self.size, settings.width, settings.most))
            kept = EncoderNetwork(network.shape)
        self.network = network.to(device=generator.device, dtype=generator.dtype)
        kept.load_state_dict(network.state_dict())
        self.kept = kept.to(device=generator.device, dtype=generator.dtype).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4
        )
        self.steps, self.seconds = 0, 0.0
        self.looks: list[Look] = []
        self._loss = float("nan")

    # ---- training ------------------------------------------------------------------------------

    def run(self, folder: Path | None = None) -> Iterator[Look | None]:
        """Train until the time is over; yields None after each step, and a `Look` after each look."""
        total = self.settings.minutes * 60
        pause = max(_LEAST_LOOK, total / _LOOKS)
        while self.seconds < total:
            began = time.perf_counter()
            self._step(self.seconds / total)
            self.seconds += time.perf_counter() - began
            yield None
            last = self.looks[-1].seconds if self.looks else 0.0
            if self.seconds >= total or self.seconds - last >= pause:
                self.looks.append(Look(self.steps, self.seconds, self._loss, self.scores()))
                if folder is not None:
                    self.save(folder)
                yield self.looks[-1]

    def _step(self, share: float) -> None:
        settings = self.settings
        noise = stream(settings.seed, "encoder", self.steps)
        searched, fixed = self._draw(settings.batch, noise)
        half = torch.autocast(
            self.generator.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16", cache_enabled=False
        )
        with torch.no_grad(), half:
            clean = self.generator({**fixed, **searched}).to(self.generator.dtype)
        images = augment(clean.cpu().float(), noise).to(clean)
        rate = settings.learning_rate * min(1.0, (self.steps + 1) / 100) * (1 + math.cos(math.pi * share)) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.network.train()
        latents = start_of(self.space, self.size, settings.batch, images)
        decoded: Tensor | None = None
        loss = images.new_zeros(())
        for number in range(settings.passes):
            with half:
                latents = refine(self.network, self.space, images, decoded, latents)
            loss = loss + self._latent_loss(latents, searched)
            if number < settings.passes - 1:
                latents = {name: tensor.detach() for name, tensor in latents.items()}
                with torch.no_grad(), half:
                    decoded = self.generator({**fixed, **latents}).to(clean)
        loss = loss + self._picture_loss(latents, fixed, clean, late=share >= settings.late)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self._average()
        self.steps += 1
        value = float(loss.detach())
        self._loss = value if math.isnan(self._loss) else 0.98 * self._loss + 0.02 * value

    def _draw(self, rows: int, noise: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        draws = [self.space.sample(self.size, noise) for _ in range(rows)]
        drawn = {name: self.generator.place(torch.cat([draw[name] for draw in draws])) for name in self.space.parts}
        return (
            {name: tensor for name, tensor in drawn.items() if name in self.space.searched},
            {name: tensor for name, tensor in drawn.items() if name not in self.space.searched},
        )

    def _latent_loss(self, found: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> Tensor:
        parts = [((found[n] - true[n]) / self.space.parts[n].prior.scale).square().mean() for n in true]
        return torch.stack(parts).sum()

    def _picture_loss(
        self, latents: Mapping[str, Tensor], fixed: Mapping[str, Tensor], clean: Tensor, *, late: bool
    ) -> Tensor:
        """Of some rows. The gradient through the generator is rough as long as the latents are far from right, so it
        gets little weight, and what is perceived counts only late."""
        settings = self.settings
        pixels = settings.pixel_rows if settings.pixel else 0
        seen = settings.perceptual_rows if settings.perceptual and late else 0
        rows, loss = min(settings.batch, max(pixels, seen)), clean.new_zeros(())
        if not rows:
            return loss
        images = self.generator({name: tensor[:rows] for name, tensor in {**fixed, **latents}.items()})
        if pixels:
            loss = loss + settings.pixel * (images - clean[:rows])[:pixels].square().mean()
        if seen:
            loss = loss + settings.perceptual * self.metric(images[:seen], clean[:rows][:seen]).mean()
        return loss

    def _average(self) -> None:
        """Polyak averaging, with a shorter memory while there is little to remember."""
        decay = min(self.settings.average, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for kept, now in zip(self.kept.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(now, 1 - decay)
            for kept_buffer, buffer in zip(self.kept.buffers(), self.network.buffers(), strict=True):
                kept_buffer.copy_(buffer)

    # ---- looking -------------------------------------------------------------------------------

    def scores(self, rows: int = _HELD_OUT) -> dict[str, float]:
        """PSNR in dB and perceptual distance on latents that are never trained on, after each pass, and on JPEGs."""
        searched, fixed = self._draw(rows, stream(self.settings.seed, "encoder held out"))
        totals: dict[str, float] = {}
        with torch.no_grad():
            for first in range(0, rows, _EVALUATE_ROWS):
                these = slice(first, first + _EVALUATE_ROWS)
                part = {name: tensor[these] for name, tensor in fixed.items()}
                clean = self.generator({**part, **{name: tensor[these] for name, tensor in searched.items()}})
                spoilt = torch.stack([jpeg_of(image, 50) for image in clean.cpu().float()]).to(clean)
                for label, images in (("", clean), ("jpeg50 ", spoilt)):
                    latents = start_of(self.space, self.size, len(clean), clean)
                    decoded: Tensor | None = None
                    for number in range(1, self.settings.passes + 2):
                        latents = refine(self.kept, self.space, images, decoded, latents)
                        decoded = self.generator({**part, **latents})
                        mse = (decoded - clean).square().mean(dim=(1, 2, 3)) / 4
                        name = f"{label}after {number} passes" if number > 1 else f"{label}after 1 pass"
                        totals[f"psnr_db {name}"] = totals.get(f"psnr_db {name}", 0.0) + float(
                            (-10 * mse.clamp_min(1e-20).log10()).sum()
                        )
                        if not label:
                            distance = float(self.metric(decoded, clean).sum())
                            totals[f"lpips {name}"] = totals.get(f"lpips {name}", 0.0) + distance
        return {name: total / rows for name, total in totals.items()}

    def examples(self, rows: int) -> tuple[Tensor, Tensor]:
        """Held-out samples and what the encoder makes of them, [rows, 3, H, W] each, on the CPU."""
        searched, fixed = self._draw(rows, stream(self.settings.seed, "encoder held out"))
        with torch.no_grad():
            clean = self.generator({**fixed, **searched})
            latents, decoded = start_of(self.space, self.size, rows, clean), clean
            for number in range(self.settings.passes):
                latents = refine(self.kept, self.space, clean, decoded if number else None, latents)
                decoded = self.generator({**fixed, **latents})
        return clean.cpu().float(), decoded.cpu().float()

    # ---- stopping and going on -----------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write everything that is needed to go on, whole or not at all."""
        said = {
            "format": CHECKPOINT,
            "generator": self.generator.name,
            "weights_sha256": self.generator.weights_sha256,
            "space": self.space_name,
            "settings": _decisive(self.settings),
            "steps": self.steps,
            "seconds": self.seconds,
            "loss": self._loss,
            "looks": [asdict(look) for look in self.looks],
        }
        file = io.BytesIO()
        states: dict[str, Any] = {"network": self.network, "kept": self.kept, "optimiser": self.optimiser}
        torch.save({"said": json.dumps(said), **{name: it.state_dict() for name, it in states.items()}}, file)
        write_bytes(folder / CHECKPOINT_FILE, file.getvalue())

    def restore(self, folder: Path) -> None:
        """Go on where `save` was called.

        Raises:
            InputError: the file is missing or damaged, or of another training.
        """
        data = read_bytes(folder / CHECKPOINT_FILE, 16 * 2**30)
        try:
            states = torch.load(io.BytesIO(data), map_location=self.generator.device, weights_only=True)
            said = json.loads(states["said"])
            mine = (CHECKPOINT, self.generator.name, self.generator.weights_sha256, self.space_name)
            theirs = (said["format"], said["generator"], said["weights_sha256"], said["space"])
            if theirs != mine or said["settings"] != _decisive(self.settings):
                raise InputError(
                    "the folder holds another training; take another folder, or the same generator and settings",
                    field="out",
                )
            self.network.load_state_dict(states["network"])
            self.kept.load_state_dict(states["kept"])
            self.optimiser.load_state_dict(states["optimiser"])
            self.steps, self.seconds = int(said["steps"]), float(said["seconds"])
            self._loss = float(said["loss"])
            self.looks = [Look(**look) for look in said["looks"]]
        except InputError:
            raise
        except Exception as error:
            raise InputError("the checkpoint there is damaged; remove it to begin anew", field="out") from error


CHECKPOINT, CHECKPOINT_FILE = "latent_inv training 1", "training.pt"


def _decisive(settings: Training) -> dict[str, Any]:
    """All but the time: a training may go on for longer."""
    return {name: value for name, value in asdict(settings).items() if name != "minutes"}
