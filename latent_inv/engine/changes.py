"""What becomes of a job that cannot go on as it began: the same job at another lane width, or with all digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from latent_inv.build import Job


def at_widths(job: Job, width: int, widths: Sequence[int]) -> Job:
    """With so many rows a call: of one row alone, and in each stage."""
    stages = zip(job.stages, widths, strict=True)
    return replace(
        job, width=width, stages=tuple(replace(stage, key=(stage.key, rows), width=rows) for stage, rows in stages)
    )


def in_full(job: Job) -> Job:
    """With a network in the number format of the latents."""
    full = job.objective.generator.full
    stages = tuple(
        replace(stage, objective=replace(stage.objective, generator=full), key=(stage.key, full.precision))
        for stage in job.stages
    )
    return replace(job, stages=stages)
