"""What is asked of a picture: the same options for every command that inverts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from .latents import Scaled
from .parameters import option, with_options

# Written out, since the tables would cost `--help` a fifth of its time; a test compares them.
START_HELP = "One of auto, encoder, best_of, halving, lifted, seeds, prior_mean, as NAME or NAME:KEY=VALUE,…"
SOLVER_HELP = (
    "One of auto, adam, l_bfgs, levenberg_marquardt, gauss_newton, cma_es, hybrid_cma, "
    "as NAME or NAME:KEY=VALUE,… e.g. adam:learning_rate=0.3."
)
CONDITION_HELP = (
    "A fixed part that is given: PART=LABEL, such as class=blue, or PART=@FILE for numbers of a .npy, .npz, .pt or "
    ".safetensors; repeat for more. Default: drawn."
)
PRECISION_HELP = "Of the generator's network: auto (that of --dtype), float32, bfloat16 or float16."
GENERATOR_HELP = "See `latent-inv generators`. Default: that of --from, or photos."
LOSS_HELP = "A term of the sum, NAME or NAME:KEY=VALUE,…; repeat for more. Default: pixel:weight=0.25 and perceptual."
#: options that only work in this process has
_LOCAL = ("device", "threads", "encoder")


@dataclass(frozen=True)
class Asked:
    """What the options say, one a field."""

    generator: Annotated[str, typer.Option("--generator", "-g", help=GENERATOR_HELP)] = ""
    space: Annotated[str, typer.Option(help="Latent space; empty: the generator's default.")] = ""
    crop: Annotated[
        str, typer.Option(help="LEFT,TOP,RIGHT,BOTTOM in pixels. Default: the largest centred part that fits.")
    ] = ""
    weight: Annotated[
        Path | None, typer.Option(help="Grey picture of the same size: white pixels count, black ones do not.")
    ] = None
    start_from: Annotated[
        Path | None, typer.Option("--from", help="Saved latents to start from (safetensors, latent, npz, npy or pt).")
    ] = None
    start_scaled: Scaled = None
    start: Annotated[str, typer.Option(help=START_HELP)] = ""
    encoder: Annotated[
        Path | None, typer.Option(help="File of `latent-inv train-encoder`, in place of the generator's own.")
    ] = None
    loss: Annotated[list[str] | None, typer.Option(help=LOSS_HELP)] = None
    solver: Annotated[str, typer.Option(help=SOLVER_HELP)] = "auto"
    perceptual: Annotated[
        str, typer.Option(help="stlpips-alex, stlpips-vgg, lpips-alex, lpips-vgg or lpips-squeeze.")
    ] = "stlpips-alex"
    steps: Annotated[
        int | None, typer.Option(help="Most steps. Default: what suits the solver, or no limit with --seconds.")
    ] = None
    seconds: Annotated[float | None, typer.Option(help="Most seconds.")] = None
    target_lpips: Annotated[float | None, typer.Option(help="Stop at or below this perceptual distance.")] = None
    target_psnr: Annotated[float | None, typer.Option(help="Stop at or above this PSNR in dB.")] = None
    patience: Annotated[int | None, typer.Option(help="Stop after so many steps without improvement.")] = None
    seed: Annotated[int, typer.Option(help="All randomness comes from this number.")] = 0
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto"
    condition: Annotated[list[str] | None, typer.Option(help=CONDITION_HELP)] = None
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32"
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "auto"
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None
    lane_width: Annotated[int, typer.Option(help="Rows a kernel call runs at; 0: chosen. Part of reproducibility.")] = 0

    def settings(self) -> dict[str, Any]:
        """Arguments of `invert` that are for a server too.

        Raises:
            SpecError: a text that says no setting, or a value out of its range.
        """
        from latent_inv import spec as specs

        from .components import parse, parse_conditions, parse_crop

        return {
            "generator": self.generator,
            "space": self.space,
            "crop": parse_crop(self.crop) if self.crop else None,
            "weight": self.weight,
            "start": self._saved(),
            "perceptual": self.perceptual,
            "losses": tuple(parse(text, specs.LOSSES, "loss") for text in self.loss)
            if self.loss
            else specs.JobSpec.losses,
            "solver": parse(self.solver, specs.SOLVERS, "solver"),
            "initialiser": parse(self.start, specs.INITIALISERS, "start") if self.start else None,
            "budget": specs.Budget(
                steps=self.steps,
                seconds=self.seconds,
                target_lpips=self.target_lpips,
                target_psnr_db=self.target_psnr,
                patience=self.patience,
            ),
            "seed": self.seed,
            "conditions": parse_conditions(self.condition or ()),
            "dtype": self.dtype,
            "precision": self.precision,
            "lane_width": self.lane_width,
        }

    def _saved(self) -> Any:
        """The start: its file, or what is in it where something is known that it does not say."""
        if self.start_from is None or self.start_scaled is None:
            return self.start_from
        from latent_inv.latents import load_latents

        return load_latents(self.start_from, scaled=self.start_scaled)

    def local(self) -> dict[str, Any]:
        """Arguments of `invert` that only work in this process has."""
        return {name: getattr(self, name) for name in _LOCAL}

    def check_for_server(self, **more: bool) -> None:
        """Refuse options that a server would not hear of.

        Args:
            more: option → was it given?
        Raises:
            SpecError: one was given.
        """
        from latent_inv.errors import SpecError

        given = {name: getattr(self, name) != getattr(Asked, name) for name in _LOCAL}
        for name, is_given in {**given, **more}.items():
            if is_given:
                raise SpecError("is for work in this process; leave it out with --server", field=name)


def asks(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command with a parameter `asked: Asked` the options that it is made of."""
    made = inspect.get_annotations(Asked, eval_str=True)
    names = [item.name for item in fields(Asked)]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        asked = Asked(**{name: given.pop(name) for name in names})
        function(**given, asked=asked)

    return with_options(command, "asked", [option(name, made[name], getattr(Asked, name)) for name in names])
