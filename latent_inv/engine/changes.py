"""What becomes of a job that cannot go on as it began: the same job at another lane width, or with all digits."""

from __future__ import annotations

from dataclasses import replace

from latent_inv.build import Job


def at_width(job: Job, width: int) -> Job:
    """With so many rows a call."""
    stages = tuple(replace(stage, key=(stage.key, width)) for stage in job.stages)
    return replace(job, width=width, stages=stages)


def in_full(job: Job) -> Job:
    """With a network in the number format of the latents."""
    full = job.objective.generator.full
    stages = tuple(
        replace(stage, objective=replace(stage.objective, generator=full), key=(stage.key, full.precision))
        for stage in job.stages
    )
    return replace(job, stages=stages)
