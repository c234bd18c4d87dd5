"""How much memory a job needs, estimated before any of it is taken, and whether it is let in.

What a row keeps and what a step keeps is measured once for each kind of job, on one or two rows of a picture of the
generator's own size, and scaled. Calls are made one after the other, so of all jobs only the largest step counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from latent_inv.build import Stage, build_job
from latent_inv.catalogue import Catalogue
from latent_inv.device import Placement
from latent_inv.errors import LimitError
from latent_inv.generators.base import Generator
from latent_inv.images import Picture
from latent_inv.incidents import as_typed
from latent_inv.machine import memory_bytes
from latent_inv.objective import Constants
from latent_inv.outline import Fitted, batch_key, pick_for
from latent_inv.settings import Settings
from latent_inv.spec import Budget, JobSpec, Seeds
from latent_inv.stage_rows import rows_of
from latent_inv.types import Latents, Tree, join_rows, map_tree
from latent_inv.widths import widths

from .runner import evaluate
from .starts import first_tensors

#: share of the memory of the machine or card that jobs may take; networks, pictures and torch itself need some, too
_SHARE = {"cpu": 0.6, "mps": 0.5, "cuda": 0.85}
#: share that loaded generators may take; on a CPU and a card what is left over from jobs is about as much
_GENERATOR_SHARE = 0.15
#: seconds after which a job that did not fit may be tried again
_RETRY_SECONDS = 5.0
#: a call without a graph holds the tensors of two layers at a time, which is so many pictures for most networks
_PICTURES_IN_FLIGHT = 32
#: forward and backward
_PASSES = 2
_MIB = 2**20


@dataclass(frozen=True)
class Footprint:
    """Estimated memory of one job, in bytes.

    Attributes:
        held: as long as it runs: targets, features, latents and solver states, with their copies in lanes.
        step: while its rows are stepped: what is kept for the backward pass, and a Jacobian.
    """

    held: int
    step: int


@dataclass(frozen=True)
class _Kind:
    """What was measured of one row, in bytes, on a picture of the generator's own size.

    Attributes:
        shared: of the target, once a job and once a row in a lane.
        own: of latents, solver state and best iterate.
        kept: by the forward pass, and made by the backward pass.
        largest: the largest tensor between two layers.
        entries: numbers in the residual; 0 for solvers without a Jacobian.
    """

    shared: int
    own: int
    kept: int
    largest: int
    entries: int


class Footprints:
    """Estimates, measured when a kind of job is first met.

    Args:
        catalogue: its generators are loaded for that, if they are not yet.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._kinds: dict[Hashable, _Kind] = {}

    def of(self, spec: JobSpec, fitted: Fitted) -> Footprint:
        """What a job will need.

        Args:
            fitted: from `build.fit_job` of it.
        Raises:
            LatentInvError: as when it is built.
        """
        space, picture, _ = fitted
        generator = self._catalogue.load(spec.generator, spec.dtype)
        size, measured = (picture.height, picture.width), generator.resolve_size(0, 0)
        encoded = generator.default_space if self._catalogue.has_encoder(spec.generator) else None
        precision = self._catalogue.precision_of(spec)
        picked = pick_for(spec, type(generator), space, size, encoded=encoded, precision=precision)
        pixels = size[0] * size[1] / (measured[0] * measured[1])
        held, step = 0.0, 0.0
        each, rows_each = widths(spec, picked, self._catalogue.placement), list(rows_of(picked))
        joining = sum(one.joiners for one in rows_each)
        for stage, width, stepped in zip(picked.stages, each, rows_each, strict=True):
            where = stage.space or space
            # Those that sleep until another gets to their stage are there, too.
            rows = stepped.most + joining - (stepped.joiners if stage.only is None else 0)
            numbers, small = _numbers(generator, where, size), _numbers(generator, where, measured)
            latents = numbers / small
            masked = picture.weight is not None
            kind = self._kind(spec, stage.solver, where, measured, precision=precision, masked=masked)
            in_lanes = math.ceil(stepped.most / width) * width
            shared, own = kind.shared * pixels, kind.own * latents
            if stage.radius is not None:
                own += numbers * _itemsize(generator)
            held = max(held, shared + rows * own + in_lanes * (shared + own))
            jacobian = numbers * (kind.entries * pixels + numbers) * _itemsize(generator) if kind.entries else 0.0
            if width > 1:
                jacobian *= 2  # that of a row is still there when the next one is made
            # Forward mode sends so many directions through a layer at once, and has its input and its output.
            directions = min(numbers, self._catalogue.placement.tangent_chunk) if kind.entries else 0
            in_flight = 2 * directions * kind.largest * pixels
            step = max(step, width * kind.kept * pixels + jacobian + in_flight)
        return Footprint(int(held), int(step))

    def _kind(
        self, spec: JobSpec, solver: Settings, space: str, size: tuple[int, int], *, precision: str, masked: bool
    ) -> _Kind:
        key = batch_key(spec, solver, space, size, 1, precision=precision, masked=masked)
        if key not in self._kinds:
            try:
                self._kinds[key] = self._measure(spec, solver, space, size, precision, masked=masked)
            except Exception as error:
                raise as_typed(error, "an estimate of memory") from None
        return self._kinds[key]

    def _measure(
        self, spec: JobSpec, solver: Settings, space: str, size: tuple[int, int], precision: str, *, masked: bool
    ) -> _Kind:
        weight = np.full(size, 0.5, np.float32) if masked else None
        small = replace(
            spec,
            picture=Picture(np.zeros((3, *size), np.float32), weight),
            crop=None,
            space=space,
            solver=solver,
            initialiser=Seeds(),
            budget=Budget(steps=1, target_lpips=spec.budget.target_lpips),
            lane_width=1,
        )
        job = build_job(small, self._catalogue, precision=precision)
        stage, row = job.stages[0], first_tensors(job)[0]
        one, two = (
            kept_bytes(stage, join_rows([row.latents] * n), Constants.from_tree(join_rows([row.constants.tree()] * n)))
            for n in (1, 2)
        )
        shared = tree_bytes(row.constants.tree())
        # Networks are kept once, however many rows there are; the backward pass makes as much again as it uses up.
        kept = _PASSES * (sum(two) - sum(one))
        if stage.solver.needs == "value":
            kept = _PICTURES_IN_FLIGHT * row.constants.target.image.nbytes
        dense = has_jacobian(stage)
        return _Kind(
            shared=shared,
            own=tree_bytes([row.latents, row.state, row.best]),
            kept=kept,
            largest=max(Counter(two) - Counter(one), default=0) // 2 if dense else 0,
            entries=stage.objective.residual_entries(job.starts[0], job.target) if dense else 0,
        )


class Admission:
    """Lets jobs in as long as all of them are estimated to fit.

    Args:
        limit: bytes that jobs may take together; None: nothing is estimated, and all fit.
    """

    def __init__(self, catalogue: Catalogue, limit: int | None) -> None:
        self.limit = limit
        self._footprints = Footprints(catalogue)
        self._in: dict[str, Footprint] = {}

    @property
    def reserved(self) -> int:
        """Bytes that the jobs that are in need at most together."""
        return _together(list(self._in.values()))

    def admit(self, job_id: str, spec: JobSpec, fitted: Fitted) -> None:
        """Let a job in, or refuse it.

        Raises:
            LimitError: it does not fit beside the others (`retry_after` is set), or never will (it is not).
            LatentInvError: as when it is built.
        """
        if self.limit is None:
            return
        found = self._footprints.of(spec, fitted)
        alone = _together([found])
        needed = f"the job needs about {alone / _MIB:.0f} MiB of memory"
        if alone > self.limit:
            text = f"{needed}, and jobs may take {self.limit / _MIB:.0f} MiB here; ask for fewer starts, a smaller"
            raise LimitError(f"{text} picture or a smaller lane_width")
        if _together([*self._in.values(), found]) > self.limit:
            taken = f"others have {self.reserved / _MIB:.0f} of the {self.limit / _MIB:.0f} MiB"
            raise LimitError(
                f"{needed}, and {taken} that jobs may take here; try again later", retry_after=_RETRY_SECONDS
            )
        self._in[job_id] = found

    def release(self, job_id: str) -> None:
        """A job is over; harmless if it never was in."""
        self._in.pop(job_id, None)


def default_limit(placement: Placement) -> int:
    """Bytes that jobs may take where nothing else is said: a share of what the card or the machine has."""
    return int(_SHARE[placement.device.split(":")[0]] * _memory_of(placement))


def default_generator_limit(placement: Placement) -> int:
    """Bytes that loaded generators may take where nothing else is said."""
    return int(_GENERATOR_SHARE * _memory_of(placement))


def _memory_of(placement: Placement) -> int:
    if placement.torch_device.type == "cuda":
        return int(torch.cuda.get_device_properties(placement.torch_device).total_memory)
    return memory_bytes()


def has_jacobian(stage: Stage) -> bool:
    """Does its solver hold the Jacobian of a row? Those that need its products only do not."""
    return stage.solver.needs == "model"


def kept_bytes(stage: Stage, latents: Latents, constants: Constants) -> list[int]:
    """Sizes of all that autograd keeps in one call, networks included, each storage once."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        evaluate(stage.objective, latents, constants, stage.solver.needs)
    return list(kept.values())


def tree_bytes(tree: Tree) -> int:
    """Memory of all tensors of a tree."""
    total = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    map_tree(count, tree)
    return total


def _together(found: list[Footprint]) -> int:
    return sum(one.held for one in found) + max((one.step for one in found), default=0)


def _numbers(generator: Generator, space: str, size: tuple[int, int]) -> int:
    chosen = generator.spaces[space]
    return sum(math.prod(chosen.shapes(size)[name]) for name in chosen.searched)


def _itemsize(generator: Generator) -> int:
    return torch.empty(0, dtype=generator.dtype).element_size()
