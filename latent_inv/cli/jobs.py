"""`latent-inv jobs …`: jobs on a server, which go on whether or not this command does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .asking import CONDITION_HELP, GENERATOR_HELP, LOSS_HELP, SOLVER_HELP, START_HELP
from .connection import Server, always_on_server
from .invert import check_folder, show
from .shell import errors, escape, print_json, progress_bar, reporting_errors, scores

if TYPE_CHECKING:
    from latent_inv.client import Artifact, Client, Job

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
JobId = Annotated[str, typer.Argument(help="Id of the job, as `latent-inv jobs list` shows it.")]
JobIds = Annotated[list[str], typer.Argument(help="Ids of the jobs, as `latent-inv jobs list` shows them.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="NAME=VALUE; repeat for more.")]
OutFolder = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the result. Default: none is written.")]

jobs = typer.Typer(
    name="jobs",
    help="Jobs on a server: they go on whether or not anybody watches, and over restarts of the server.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@jobs.command("create")
@always_on_server
def create(
    image: Annotated[
        Path, typer.Argument(help="The picture: PNG, JPEG, WebP, TIFF, BMP or GIF; or sha256:HASH of an upload.")
    ],
    server: Server = Server(),
    request_id: Annotated[
        str, typer.Option(help="Chosen by you to make retries safe: the same id and picture give the same job.")
    ] = "",
    label: Labels = None,
    generator: Annotated[str, typer.Option("--generator", "-g", help=GENERATOR_HELP)] = "",
    space: Annotated[str, typer.Option(help="Latent space; empty: the generator's default.")] = "",
    crop: Annotated[
        str, typer.Option(help="LEFT,TOP,RIGHT,BOTTOM in pixels. Default: the largest centred part that fits.")
    ] = "",
    weight: Annotated[
        Path | None, typer.Option(help="Grey picture of the same size: white pixels count, black ones do not.")
    ] = None,
    start_from: Annotated[Path | None, typer.Option("--from", help="Saved latents to start from.")] = None,
    start: Annotated[str, typer.Option(help=START_HELP)] = "",
    loss: Annotated[list[str] | None, typer.Option(help=LOSS_HELP)] = None,
    solver: Annotated[str, typer.Option(help=SOLVER_HELP)] = "auto",
    steps: Annotated[int | None, typer.Option(help="Most steps.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Most seconds, once it runs.")] = None,
    target_lpips: Annotated[float | None, typer.Option(help="Stop at or below this perceptual distance.")] = None,
    target_psnr: Annotated[float | None, typer.Option(help="Stop at or above this PSNR in dB.")] = None,
    seed: Annotated[int, typer.Option(help="All randomness comes from this number.")] = 0,
    condition: Annotated[list[str] | None, typer.Option(help=CONDITION_HELP)] = None,
    bulk: Annotated[
        bool, typer.Option("--bulk", help="Run beside others for throughput, after interactive jobs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Queue an inversion of IMAGE, print its id, and leave.

    latent-inv jobs watch $(latent-inv jobs create photo.png) --out result
    """
    with reporting_errors():
        from latent_inv import spec as specs

        from .components import parse, parse_conditions, parse_crop

        with server.client() as client:
            job = client.jobs.create(
                _picture(image, client),
                generator,
                request_id=request_id,
                labels=_labels(label),
                space=space,
                crop=parse_crop(crop) if crop else None,
                weight=weight,
                start=start_from,
                initialiser=parse(start, specs.INITIALISERS, "start") if start else None,
                losses=tuple(parse(text, specs.LOSSES, "loss") for text in loss) if loss else specs.JobSpec.losses,
                solver=parse(solver, specs.SOLVERS, "solver"),
                steps=steps,
                seconds=seconds,
                target_lpips=target_lpips,
                target_psnr_db=target_psnr,
                seed=seed,
                conditions=parse_conditions(condition or ()),
                priority="bulk" if bulk else "interactive",
            )
        print_json(job.to_json()) if as_json else typer.echo(job.job_id)


@jobs.command("list")
@always_on_server
def list_jobs(
    server: Server = Server(),
    state: Annotated[
        list[str] | None, typer.Option(help="queued, running, succeeded, failed or cancelled; repeat for more.")
    ] = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(help="Most jobs.")] = 50,
    as_json: Json = False,
) -> None:
    """List your jobs, newest first."""
    with reporting_errors():
        with server.client() as client:
            found = list(client.jobs.list(tuple(state or ()), _labels(label), limit))
        if as_json:
            print_json([job.to_json() for job in found])
        elif found:
            _print_table(found)
        else:
            errors.print("no jobs")


@jobs.command("show")
@always_on_server
def show_job(job_id: JobId, server: Server = Server(), out: OutFolder = None, as_json: Json = False) -> None:
    """Show one job; with --out, also write its result."""
    with reporting_errors():
        if out is not None:
            check_folder(out)
        with server.client() as client:
            job = client.jobs.get(job_id)
        _tell(job, out, as_json, quiet=False)


@jobs.command("watch")
@always_on_server
def watch(
    job_id: JobId, server: Server = Server(), out: OutFolder = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Show the progress of a job until it is over; with --out, also write its result.

    Ctrl-C stops watching, and leaves the job alone. A server that is started anew is found again.
    """
    with reporting_errors():
        if out is not None:
            check_folder(out)
        with server.client() as client, progress_bar(quiet, job_id) as (on_step, _):
            try:
                job = client.jobs.wait(job_id, on_progress=on_step)
            except KeyboardInterrupt:
                errors.print(f"the job goes on; see it again with: latent-inv jobs watch {escape(job_id)}")
                raise typer.Exit(130) from None
        _tell(job, out, as_json, quiet)
        raise typer.Exit({"succeeded": 0, "cancelled": 130}.get(job.state, 1))


@jobs.command("cancel")
@always_on_server
def cancel(job_ids: JobIds, server: Server = Server()) -> None:
    """Stop jobs within one step; the best latents so far are kept. Harmless for jobs that are over."""
    with reporting_errors(), server.client() as client:
        for job_id in job_ids:
            client.jobs.cancel(job_id)


@jobs.command("delete")
@always_on_server
def delete(job_ids: JobIds, server: Server = Server()) -> None:
    """Remove jobs that are over, with their results."""
    with reporting_errors(), server.client() as client:
        for job_id in job_ids:
            client.jobs.delete(job_id)


def _picture(image: Path, client: Client) -> Path | Artifact:
    """The picture as it was named: a file, or an upload by its hash."""
    kind, _, sha256 = str(image).partition(":")
    return client.artifacts.get(sha256) if kind == "sha256" and not image.exists() else image


def _labels(texts: list[str] | None) -> dict[str, str]:
    from latent_inv.errors import SpecError

    labels = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise SpecError(f'must be NAME=VALUE, found "{text[:80]}"', field="label")
        labels[name] = value
    return labels


def _print_table(found: list[Job]) -> None:
    from rich.console import Console
    from rich.table import Table

    from latent_inv.spec import UNLIMITED_STEPS

    table = Table(box=None, pad_edge=False)
    for column in ("job", "state", "made", "generator", "step", "scores", "labels"):
        table.add_column(column, no_wrap=column in ("job", "state", "made", "step"))
    for job in found:
        step, quality = "", ""
        if job.progress is not None:
            # A time budget alone has no end in steps.
            total = job.progress.total_steps
            step = f"{job.progress.latest.step}" + (f"/{total}" if total < UNLIMITED_STEPS else "")
            quality = scores(job.progress)
        labels = " ".join(f"{name}={value}" for name, value in sorted(job.labels.items()))
        made = job.create_time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        note = job.error or quality
        table.add_row(*map(escape, (job.job_id, job.state, made, job.generator, step, note, labels)))
    # A job a line for what reads a pipe; a terminal has its own width.
    Console(highlight=False, width=None if sys.stdout.isatty() else 400).print(table)


def _tell(job: Job, out: Path | None, as_json: bool, quiet: bool) -> None:
    """A job on standard output, and its result in a folder."""
    if job.result is None and out is not None:
        errors.print(f"the job is {job.state}; there is no result to write")
    result = None if job.result is None or out is None else job.result.save(out)
    if as_json:
        told: dict[str, Any] = job.to_json()
        print_json(told if result is None else {**told, "result": result.to_json()})
    elif result is not None and out is not None and not quiet:
        show(result, out)
    elif not quiet:
        _print_table([job])
