"""`latent-inv latents …`: what a file of latents holds, and files of other tools."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .shell import errors, print_json, reporting_errors

if TYPE_CHECKING:
    from latent_inv.latents import LatentsFile
    from latent_inv.result import GeneratorInfo

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Scaled = Annotated[
    bool | None,
    typer.Option(
        "--scaled/--raw",
        help="Latents of a diffusion model in a file that does not say so: (raw − shift) · factor, or raw.",
        show_default=False,
    ),
]

latents = typer.Typer(
    name="latents",
    help="Files of latents: what is in them, and to and from other tools.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@latents.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="Saved latents: safetensors, latent, npz, npy or pt.")],
    as_json: Json = False,
) -> None:
    """Tell what FILE holds: parts, shapes, generator, scaling, and how far from the prior's mean its rows lie."""
    with reporting_errors():
        from latent_inv.latents import load_latents

        read = load_latents(file)
        said = {
            "layout": read.layout,
            "generator": read.generator,
            "space": read.space,
            "weights_sha256": read.weights_sha256,
            "scaled": read.scaled,
            "scaling": None if read.scaling is None else read.scaling.to_text(),
            "parts": {name: _figures(array, read.stored.get(name, "")) for name, array in read.latents.items()},
            "extra": {key: value[:200] for key, value in read.extra.items() if not key.startswith("part.")},
            "warnings": list(read.warnings),
        }
        if as_json:
            print_json(said)
            return
        _tell(read, said)


def _figures(array: Any, stored: str) -> dict[str, Any]:
    """Shape, range and norm of one array; the norm of each row is divided by √d, 1 for draws of a normal prior."""
    import numpy as np

    whole = array.astype(np.float64)
    finite = bool(np.isfinite(whole).all()) and array.size > 0
    rows = whole.reshape(len(whole), -1) if array.ndim > 1 and array.size else whole.reshape(1, -1)
    norms = np.linalg.norm(rows, axis=1) / math.sqrt(rows.shape[1]) if finite else []
    return {
        "shape": list(array.shape),
        "format": stored,
        "finite": finite,
        "least": float(whole.min()) if finite else None,
        "most": float(whole.max()) if finite else None,
        "norms": [round(float(norm), 6) for norm in norms[:8]],
    }


def _tell(read: LatentsFile, said: dict[str, Any]) -> None:
    for key in ("layout", "generator", "space"):
        typer.echo(f"{key:10} {said[key] or 'not stated'}")
    typer.echo(f"{'weights':10} {(read.weights_sha256 or 'not stated')[:16]}")
    state = {None: "not stated", True: "scaled, (raw − shift) · factor", False: "raw"}[read.scaled]
    numbers = "" if read.scaling is None else "; factor {scaling_factor:.40}, shift {shift_factor:.40}"
    typer.echo(f"{'scaling':10} {state}{numbers.format(**(said['scaling'] or {}))}")
    for name, part in said["parts"].items():
        text = f"{part['shape']} {part['format']}"
        if part["finite"]:
            norms = ", ".join(f"{norm:.3f}" for norm in part["norms"])
            text += f", {part['least']:.4g} to {part['most']:.4g}, norm/√d of rows {norms}"
            text += ", …" if len(part["norms"]) < (part["shape"] or [1])[0] and len(part["shape"]) > 1 else ""
        else:
            text += ", with values that are not finite, or empty"
        typer.echo(f"{'part':10} {name or '(no name)'} {text}")
    for warning in read.warnings:
        errors.print(f"warning: {warning}", markup=False)


@latents.command("convert")
def convert(
    files: Annotated[list[Path], typer.Argument(help="One or more files of latents, and last the one to write.")],
    to: Annotated[
        str,
        typer.Option(
            "--as", help="safetensors, comfyui, diffusers, nvidia, pt, npz or npy. Default: by the suffix of OUT."
        ),
    ] = "",
    generator: Annotated[
        str, typer.Option("--generator", "-g", help="Whose latents they are; default: what the files say.")
    ] = "",
    space: Annotated[str, typer.Option(help="Latent space; empty: the one that they fit.")] = "",
    scaled: Scaled = None,
    write: Annotated[
        str, typer.Option(help="scaled or raw. Default: as the tool expects them, else as they are.")
    ] = "",
    factor: Annotated[
        float | None, typer.Option(help="Scaling factor, where neither file nor generator states it.")
    ] = None,
    shift: Annotated[float, typer.Option(help="Shift that goes with --factor.")] = 0.0,
    layers: Annotated[int, typer.Option(min=0, help="For nvidia: layers, where there is one vector for all.")] = 0,
    split: Annotated[bool, typer.Option("--split", help="A file a row: OUT-0000, OUT-0001 …")] = False,
    as_json: Json = False,
) -> None:
    """Turn files of latents into a file of another tool; rows of several files are joined.

    latent-inv latents convert projected_w.npz latents.safetensors -g stylegan2:ffhq.safetensors
    """
    with reporting_errors():
        from latent_inv.errors import SpecError
        from latent_inv.latents import convert_files, load_latents
        from latent_inv.scaling import Scaling

        if len(files) < 2:
            raise SpecError("needs at least one file to read and one to write, found one", field="files")
        if write not in ("", "scaled", "raw"):
            raise SpecError(f'must be scaled or raw, found "{write:.40}"', field="write")
        *sources, out = files
        read = [load_latents(source, scaled=scaled) for source in sources]
        done = convert_files(
            read,
            out,
            format=to,
            info=_info(generator, read),
            space=space,
            scaling=None if factor is None else Scaling((factor,), (shift,)),
            scaled={"": None, "scaled": True, "raw": False}[write],
            layers=layers,
            split=split,
        )
        for warning in done.warnings:
            errors.print(f"warning: {warning}", markup=False)
        if as_json:
            paths = [str(path) for path in done.paths]
            print_json({"files": paths, "rows": done.rows, "scaled": done.scaled, "warnings": list(done.warnings)})
        else:
            typer.echo("\n".join(str(path) for path in done.paths))


def _info(name: str, read: list[LatentsFile]) -> GeneratorInfo | None:
    """Of the generator that was named, or of the one that the files say, if it is to be had here."""
    from latent_inv.generators import GENERATORS, open_table

    if name:
        return open_table().find(name).info()
    stated = {file.generator for file in read}
    # No references: what those open may run code, so a file's word is not enough.
    known = GENERATORS.get(str(stated.pop())) if len(stated) == 1 else None
    return known.info() if known is not None else None  # None: the files are taken at their word
