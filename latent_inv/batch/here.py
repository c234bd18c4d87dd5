"""A folder's pictures in this process: several jobs of one engine, so that they share lanes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from latent_inv.device import DTYPES, place
from latent_inv.engine.engine import Engine
from latent_inv.errors import LimitError, unknown_name
from latent_inv.generators import open_table
from latent_inv.generators.base import LoadProgress
from latent_inv.perceptual import load_metric
from latent_inv.result import Finished, JobResult, Progress
from latent_inv.solve import make_spec

from .question import Question
from .workplace import Ended, Workplace

#: pictures as they were read wait for the end of their jobs; so many bytes of them at once
_MAX_PICTURE_BYTES = 512 * 2**20


class Here(Workplace):
    """An engine in the calling thread, at work in `poll`. See `Workplace`.

    With a budget of seconds the pictures are done one after the other, as each is to have its time for itself.

    Args:
        in_flight: most jobs at once; None takes twice a lane's width, so that lanes stay full when some jobs are at
            another stage.
        device, threads, encoder, on_load: as those of `invert`.
    Raises:
        LatentInvError: there is no such generator, device or space, or weights cannot be had.
    """

    def __init__(
        self,
        question: Question,
        *,
        in_flight: int | None = None,
        device: str = "auto",
        threads: int | None = None,
        encoder: str | os.PathLike[str] | None = None,
        on_load: LoadProgress | None = None,
    ) -> None:
        spec = question.spec
        encoders = {spec.generator: Path(encoder)} if encoder is not None else None
        self._engine = Engine(open_table(), place(device, threads), encoders=encoders)
        catalogue, placement = self._engine.catalogue, self._engine.placement
        kind = catalogue.find(spec.generator)
        if spec.space and spec.space not in kind.spaces:
            raise unknown_name("space", spec.space, list(kind.spaces), field="space")
        catalogue.load(spec.generator, spec.dtype, on_load)
        load_metric(spec.perceptual, placement.torch_device, DTYPES[spec.dtype], on_load)
        self.weights_sha256 = kind.weights_sha256
        self._question = question
        self._timed = spec.budget.seconds is not None
        self._most = 1 if self._timed else in_flight or 2 * placement.lane_width
        self._sizes: dict[str, int] = {}
        self._parts: dict[str, float] = {}

    @property
    def busy(self) -> bool:
        return bool(self._sizes)

    @property
    def part_done(self) -> float:
        return sum(self._parts.values())

    @property
    def _room(self) -> bool:
        return len(self._sizes) < self._most and sum(self._sizes.values()) <= _MAX_PICTURE_BYTES

    def offer(self, key: str, data: bytes, sha256: str) -> bool:
        if not self._room:
            return False
        arguments: dict[str, Any] = dict(self._question.arguments)
        spec = make_spec(data, **arguments)
        if self._timed:  # alone in its lane, a wider one would only be slower
            spec = dataclasses.replace(spec, priority="interactive")
        try:
            self._engine.submit(key, spec)
        except LimitError as error:
            if error.retry_after is None or not self._sizes:
                raise
            return False
        self._sizes[key] = spec.picture.pixels.nbytes
        return True

    def poll(self, wait: bool) -> list[Ended]:
        if not wait and self._room:
            return []  # a step is worth more with full lanes
        ended = []
        for event in self._engine.poll():
            if isinstance(event, Progress) and event.total_steps:
                self._parts[event.job_id] = min(1.0, event.latest.step / event.total_steps)
            if isinstance(event, Finished):
                self._sizes.pop(event.job_id, None)
                self._parts.pop(event.job_id, None)
                result = event.result if isinstance(event.result, JobResult) else None
                ended.append(Ended(event.job_id, result, event.error))
        return ended

    def close(self, *, stopped: bool) -> None:
        self._engine.close()
