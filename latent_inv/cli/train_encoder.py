"""`latent-inv train-encoder`: an amortised encoder for any generator."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .shell import bars, print_json, reporting_errors, stop_on_interrupt

if TYPE_CHECKING:
    from latent_inv.encoders.training import Trainer


def train_encoder(
    generator: Annotated[str, typer.Option("--generator", "-g", help="See `latent-inv generators`.")] = "faces",
    minutes: Annotated[float, typer.Option(help="Time of training.")] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the encoder and its card. Default: out/encoders/GENERATOR."),
    ] = None,
    space: Annotated[str, typer.Option(help="Latent space; empty: the generator's default.")] = "",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the training, repeated; `--set help` lists them.")
    ] = None,
    perceptual: Annotated[str, typer.Option(help="Perceptual metric of training and scores.")] = "stlpips-alex",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew though the folder holds a training that could go on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Train an encoder that finds latents in a few forward passes, on what the generator itself makes.

    It draws latents, decodes them, spoils the pictures, and learns the way back. The folder gets encoder.safetensors,
    card.md (scores, licence, how it was made), curves.png and samples.png. Stopped with Ctrl-C or killed, the same
    command goes on where it was.

    Use it with:  latent-inv invert photo.png --encoder out/encoders/faces/encoder.safetensors
    """
    with reporting_errors():
        from latent_inv import spec as specs
        from latent_inv.device import DTYPES, place
        from latent_inv.encoders.publish import FILES, publish
        from latent_inv.encoders.training import CHECKPOINT_FILE, Trainer, Training
        from latent_inv.errors import unknown_name
        from latent_inv.generators import open_table
        from latent_inv.perceptual import load_metric

        from .components import describe, parse
        from .invert import check_folder

        if setting == ["help"]:
            typer.echo(describe({"training": Training}))
            return
        text = ",".join([f"minutes={minutes}", *(setting or [])])
        settings: Any = parse(f"training:{text}", {"training": Training}, "set")
        kind = open_table().find(generator)
        if perceptual not in specs.PERCEPTUAL_METRICS:
            raise unknown_name("metric", perceptual, list(specs.PERCEPTUAL_METRICS), field="perceptual")
        folder = out or Path("out") / "encoders" / re.sub(r"[^\w.-]+", "-", generator)
        check_folder(folder)
        placement = place(device, threads)
        placement.apply()
        with stop_on_interrupt() as stop, bars(quiet, "done", "scores", "left") as (tell, on_load):
            loaded = kind.load(placement.torch_device, DTYPES["float32"], on_load)
            metric = load_metric(perceptual, placement.torch_device, DTYPES["float32"], on_load)
            trainer = Trainer(loaded, metric, settings, space)
            folder.mkdir(parents=True, exist_ok=True)
            if not fresh and (folder / CHECKPOINT_FILE).exists():
                trainer.restore(folder)
            stopped = False
            for _ in trainer.run(folder):
                tell("training", settings.minutes * 60, trainer.seconds, **_said(trainer))
                stopped = stop()
                if stopped:
                    trainer.save(folder)
                    break
            card = publish(trainer, folder, _command(generator, space, minutes, setting or [], perceptual))
        if as_json:
            print_json(card.to_json())
        elif not quiet:
            for name, score in card.scores.items():
                typer.echo(f"{name:28} {score:.4g}")
            typer.echo(f"the encoder is {folder / FILES['encoder']}; look at {folder / FILES['samples']}")
        if stopped:
            typer.echo(f"stopped after {card.minutes:g} minutes; the same command goes on from there", err=True)
            raise typer.Exit(130)


def _command(generator: str, space: str, minutes: float, settings: list[str], perceptual: str) -> str:
    """What makes the same encoder again: of what was typed, whatever decides it, and no folder of this machine."""
    words = ["latent-inv", "train-encoder", "--generator", generator, "--minutes", f"{minutes:g}"]
    words += ["--space", space] if space else []
    words += ["--perceptual", perceptual] if perceptual != "stlpips-alex" else []
    return shlex.join([*words, *(word for text in settings for word in ("--set", text))])


def _said(trainer: Trainer) -> dict[str, str]:
    """What stands after the bar."""
    scores = f"held out {best_psnr(trainer.looks[-1].scores):.1f} dB" if trainer.looks else ""
    left = trainer.settings.minutes - trainer.seconds / 60
    return {"done": f"step {trainer.steps}", "scores": scores, "left": f"{max(0.0, left):.1f} minutes left"}


def best_psnr(scores: Mapping[str, float]) -> float:
    """The best pass on clean samples."""
    return max(score for name, score in scores.items() if name.startswith("psnr_db after"))
