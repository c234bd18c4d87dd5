"""`latent-inv decode | sample | generators`: looking at what a generator can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .asking import CONDITION_HELP, PRECISION_HELP
from .connection import Server, on_server
from .latents import Scaled
from .shell import errors, print_json, reporting_errors

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option(help=PRECISION_HELP)]
GeneratorName = Annotated[str, typer.Option("--generator", "-g", help="See `latent-inv generators`.")]


def _tell(warnings: Sequence[str]) -> None:
    """What was done otherwise than asked, on the error stream."""
    for warning in warnings:
        errors.print(f"warning: {warning}", markup=False)


@on_server
def decode(
    latents: Annotated[Path, typer.Argument(help="Saved latents: safetensors, latent, npz, npy or pt.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG, or a folder if there are several pictures.")] = Path(
        "decoded.png"
    ),
    generator: GeneratorName = "",
    scaled: Scaled = None,
    precision: Precision = "auto",
    device: Device = "auto",
    server: Server = Server(),
    as_json: Json = False,
) -> None:
    """Turn saved LATENTS back into pictures."""
    with reporting_errors():
        from latent_inv.ask import choose_generator
        from latent_inv.images import write_png
        from latent_inv.latents import load_latents

        from .invert import check_folder

        check_folder(out.parent if out.suffix else out)
        file = load_latents(latents, scaled=scaled)
        name = choose_generator(generator, file)
        if server:
            with server.client() as client:
                decoded = client.decode(file, generator=name, precision=precision)
        else:
            from latent_inv.solve import decode as decode_here

            decoded = decode_here(file, name, device=device, precision=precision)
        _tell(decoded.warnings)
        if len(decoded.images) == 1:
            paths = [out if out.suffix else out / "decoded.png"]
        else:
            paths = [out.with_suffix("") / f"{index:04d}.png" for index in range(len(decoded.images))]
        for path, image in zip(paths, decoded.images, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, image)
        files = [str(path) for path in paths]
        if as_json:
            said = {"generator": name, "weights_sha256": decoded.weights_sha256, "files": files}
            print_json({**said, "precision": decoded.precision, "warnings": list(decoded.warnings)})
        else:
            typer.echo("\n".join(files))


@on_server
def sample(
    seeds: Annotated[list[int] | None, typer.Argument(help="One picture a seed. Default: 0 1 2 … 7.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for latents and pictures.")] = Path("out/samples"),
    generator: GeneratorName = "faces",
    space: Annotated[str, typer.Option(help="Latent space; empty: the generator's default.")] = "",
    height: Annotated[int, typer.Option(help="Picture height, where the generator is free; 0: its own.")] = 0,
    width: Annotated[int, typer.Option(help="Picture width, where the generator is free; 0: its own.")] = 0,
    condition: Annotated[list[str] | None, typer.Option(help=CONDITION_HELP)] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    server: Server = Server(),
    as_json: Json = False,
) -> None:
    """Draw from the prior of a generator: a picture and its latents a seed, and a sheet of all."""
    with reporting_errors():
        from latent_inv.images import write_png
        from latent_inv.latents import save_latents
        from latent_inv.report import grid

        from .components import parse_conditions
        from .invert import check_folder

        check_folder(out)
        wanted: dict[str, Any] = {"generator": generator, "space": space, "height": height, "width": width}
        wanted |= {"conditions": parse_conditions(condition or ()), "precision": precision}
        chosen = tuple(seeds) if seeds else tuple(range(8))
        if server:
            with server.client() as client:
                drawn = client.sample(chosen, **wanted)
        else:
            from latent_inv.solve import sample as sample_here

            drawn = sample_here(chosen, device=device, **wanted)
        _tell(drawn.warnings)
        out.mkdir(parents=True, exist_ok=True)
        files = []
        for index, seed in enumerate(drawn.seeds):
            write_png(out / f"{seed}.png", drawn.images[index])
            save_latents(
                out / f"{seed}.safetensors",
                {name: array[index : index + 1] for name, array in drawn.latents.items()},
                generator=drawn.generator,
                space=drawn.space,
                weights_sha256=drawn.weights_sha256,
                extra={"seed": str(seed)},
                scaling=drawn.scaling,
            )
            files += [f"{seed}.png", f"{seed}.safetensors"]
        write_png(out / "sheet.png", grid(drawn.images, [f"seed {seed}" for seed in drawn.seeds]))
        if as_json:
            said = {"generator": drawn.generator, "space": drawn.space, "files": [*files, "sheet.png"]}
            print_json({**said, "precision": drawn.precision, "warnings": list(drawn.warnings)})
        else:
            typer.echo(f"{len(drawn.seeds)} pictures with their latents in {out}; look at {out / 'sheet.png'}")


@on_server
def generators(
    name: Annotated[str, typer.Argument(help="One generator; empty: all.")] = "",
    server: Server = Server(),
    as_json: Json = False,
) -> None:
    """List the generators: picture size, latent spaces, source and licence."""
    with reporting_errors():
        if server:
            with server.client() as client:
                infos = (client.generator(name),) if name else client.generators()
        else:
            from latent_inv.errors import unknown_name
            from latent_inv.solve import list_generators

            infos = list_generators()
            if name and name not in {info.name for info in infos}:
                raise unknown_name("generator", name, [info.name for info in infos], field="generator")
            infos = tuple(info for info in infos if not name or info.name == name)
        if as_json:
            from dataclasses import asdict

            print_json([asdict(info) for info in infos])
            return
        for info in infos:
            size = f"{info.size[1]} × {info.size[0]}" if info.size else f"any size in steps of {info.stride}"
            typer.echo(f"{info.name}  {info.title}")
            typer.echo(f"  pictures  {size}")
            for space, parts in info.spaces.items():
                mark = " (default)" if space == info.default_space else ""
                text = ", ".join(f"{part} {entry['shape']} {entry['prior']}" for part, entry in parts.items())
                typer.echo(f"  space     {space}{mark}: {text}")
            typer.echo(f"  precision {', '.join(('float32', *info.halves))}")
            typer.echo(f"  weights   {info.source}, sha256 {info.weights_sha256[:16]}…")
            for label, line in zip(("licence", "data", "unknown"), info.licence, strict=False):
                typer.echo(f"  {label:9} {line}")
