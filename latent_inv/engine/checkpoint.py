"""All that a job needs to go on elsewhere, as safetensors bytes with the counters as JSON beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from latent_inv.errors import InputError
from latent_inv.result import Metrics, Outcome, Step
from latent_inv.types import Tree

from .batch import RowTensors
from .changes import at_widths, in_full
from .run import Row
from .starts import like_in

if TYPE_CHECKING:
    from .job import JobRun

FORMAT = "latent_inv checkpoint 5"


def pack(run: JobRun, owned: Mapping[int, RowTensors]) -> bytes:
    """The job as it stands: latents, solver states and best iterates of its rows, counters and history."""
    tensors: dict[str, Tensor] = {}
    for index, row in owned.items():
        moving = {"fixed": row.constants.fixed, "reach": row.constants.reach, "near": row.constants.near}
        own = {"latents": row.latents, "state": row.state, "best": row.best, **moving}
        _flatten(own, f"{index}", tensors)
    rows = [{**asdict(row), "outcome": row.outcome.name if row.outcome else None} for row in run.rows]
    counters = {
        "format": FORMAT,
        "job": run.fingerprint,
        "seconds": run.elapsed(),
        "widths": _widths(run),
        "narrowed": run.narrowed,
        "precision": run.job.objective.generator.precision,
        "rows": rows,
        "warnings": run.warnings,
    }
    # A header of safetensors has a size limit; the history of a long job may exceed it, so it travels as bytes.
    text = torch.frombuffer(bytearray(json.dumps(counters).encode()), dtype=torch.uint8)
    return bytes(save({**{name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, "counters": text}))


def restore(run: JobRun, starts: Sequence[RowTensors], data: bytes) -> list[RowTensors]:
    """Put `run` where `pack` found it.

    Args:
        starts: the rows as they would start; their targets and numbers are kept.
    Raises:
        InputError: the bytes are no checkpoint of a job like this one.
    """
    try:
        tensors = load(data)
        counters = json.loads(bytes(tensors.pop("counters").numpy()))
        if counters["format"] != FORMAT or counters["job"] != run.fingerprint:
            raise InputError("the checkpoint belongs to another job or version", field="checkpoint")
        rows = [_row(entry) for entry in counters["rows"]]
        if [row.index for row in rows] != list(range(len(starts))):
            raise ValueError("other rows")
        run.rows[:] = rows
        run.seconds_before = float(counters["seconds"])
        run.warnings[:] = counters["warnings"]
        run.narrowed = bool(counters["narrowed"])
        if counters["precision"] != run.job.objective.generator.precision:
            run.job = in_full(run.job)
        if counters["widths"] != _widths(run):
            # Bit-equal results need the widths at which the job began, whatever is the custom here now.
            width, *widths = map(int, counters["widths"])
            most = run.placement.max_lane_width
            if run.job.spec.lane_width or not 1 <= min(width, *widths) <= max(width, *widths) <= most:
                raise ValueError("a width that cannot be")
            run.job = at_widths(run.job, width, widths)
        return [
            row_tensors if run.rows[index].dropped else _restored(run, index, tensors)
            for index, row_tensors in enumerate(starts)
        ]
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise InputError("the checkpoint is damaged", field="checkpoint") from error


def _widths(run: JobRun) -> list[int]:
    return [run.job.width, *(stage.width for stage in run.job.stages)]


def _row(entry: Mapping[str, Any]) -> Row:
    history = [Step(**{**step, "metrics": Metrics(**step["metrics"])}) for step in entry["history"]]
    best = entry["best_metrics"]
    outcome = entry["outcome"]
    return Row(
        **{
            **entry,
            "history": history,
            "best_metrics": None if best is None else Metrics(**best),
            "outcome": None if outcome is None else Outcome[outcome],
        }
    )


def _restored(run: JobRun, index: int, tensors: Mapping[str, Tensor]) -> RowTensors:
    job, prefix = run.job, f"{index}"
    like = like_in(job, job.stages[run.rows[index].stage])
    constants = like.constants
    return RowTensors(
        latents=_unflatten(like.latents, f"{prefix}/latents", tensors),
        state=_unflatten(like.state, f"{prefix}/state", tensors),
        best=_unflatten(like.best, f"{prefix}/best", tensors),
        constants=replace(
            constants,
            fixed=_unflatten(constants.fixed, f"{prefix}/fixed", tensors),
            reach=_unflatten(constants.reach, f"{prefix}/reach", tensors),
            near=_unflatten(constants.near, f"{prefix}/near", tensors),
        ),
    )


def _flatten(tree: Tree, name: str, into: dict[str, Tensor]) -> None:
    if isinstance(tree, Tensor):
        into[name] = tree
    elif isinstance(tree, Mapping):
        for key, item in tree.items():
            _flatten(item, f"{name}/{key}", into)
    elif tree is not None:
        for index, item in enumerate(tree):
            _flatten(item, f"{name}/{index}", into)


def _unflatten(like: Tree, name: str, tensors: Mapping[str, Tensor]) -> Tree:
    if isinstance(like, Tensor):
        found = tensors[name]
        if found.shape != like.shape:
            raise InputError(f"{name} has another shape in the checkpoint", field="checkpoint")
        return found.to(like)
    if isinstance(like, Mapping):
        return {key: _unflatten(item, f"{name}/{key}", tensors) for key, item in like.items()}
    if like is None:
        return None
    return [_unflatten(item, f"{name}/{index}", tensors) for index, item in enumerate(like)]
