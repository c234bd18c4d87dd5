"""Inversion in one call: create a job, watch it, and take its result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc.aio

from latent_inv.v1 import inversion_service_pb2 as inversion
from latent_inv.v1 import inversion_service_pb2_grpc as inversion_grpc
from latent_inv.v1 import job_pb2
from latent_inv_server.dispatcher import Dispatcher
from latent_inv_server.jobs import Jobs
from latent_inv_server.watching import ToldEnd, ToldPreview, ToldProgress, error_of

Context = grpc.aio.ServicerContext[Any, Any]


class InversionServicer(inversion_grpc.InversionServiceServicer):
    """Inversion in one call."""

    def __init__(self, jobs: Jobs, dispatcher: Dispatcher) -> None:
        self._jobs, self._dispatcher = jobs, dispatcher

    async def Invert(
        self, request: inversion.InvertRequest, context: Context
    ) -> AsyncIterator[inversion.InvertResponse]:
        tied = not request.detach
        record, new = await self._jobs.create(request.spec, request.request_id, tied=tied)
        try:
            yield inversion.InvertResponse(accepted=inversion.InvertAccepted(job_id=record.job_id))
            async with aclosing(self._jobs.watch(record.job_id)) as watching:
                async for told in watching:
                    message = inversion.InvertResponse(sequence=told.sequence)
                    if isinstance(told, ToldProgress):
                        message.progress.MergeFromString(told.data)
                    elif isinstance(told, ToldPreview):
                        message.preview.CopyFrom(await told.picture.message(self._dispatcher.in_thread))
                    elif isinstance(told, ToldEnd):
                        if not told.result:
                            raise error_of(told)
                        result = await self._dispatcher.in_thread(partial(job_pb2.JobResult.FromString, told.result))
                        message.result.CopyFrom(result)
                    yield message
        finally:
            # Reached when the client leaves, cancels or runs out of time, too: the job that it made goes with it.
            # Harmless if the job is over; while the server stops, nothing is cancelled.
            if tied and new:
                self._jobs.abandon(record.job_id)
