"""Jobs as resources."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from latent_inv.errors import InputError
from latent_inv.v1 import job_service_pb2 as wire
from latent_inv.v1 import job_service_pb2_grpc as wire_grpc
from latent_inv_server.admission import check_id, check_labels
from latent_inv_server.dispatcher import Dispatcher
from latent_inv_server.jobs import Jobs
from latent_inv_server.pages import page_size
from latent_inv_server.store.records import JobRecord
from latent_inv_server.views import job_message, read_page_token, read_states, write_page_token
from latent_inv_server.watching import ToldEnd, ToldPreview, ToldProgress

Context = grpc.aio.ServicerContext[Any, Any]


class JobServicer(wire_grpc.JobServiceServicer):
    """Jobs that outlive the call that made them."""

    def __init__(self, jobs: Jobs, dispatcher: Dispatcher) -> None:
        self._jobs, self._dispatcher = jobs, dispatcher

    async def CreateJob(self, request: wire.CreateJobRequest, context: Context) -> wire.CreateJobResponse:
        record, _ = await self._jobs.create(request.spec, request.request_id, request.labels)
        return wire.CreateJobResponse(job=await self._whole(record))

    async def GetJob(self, request: wire.GetJobRequest, context: Context) -> wire.GetJobResponse:
        check_id(request.job_id, "job_id")
        return wire.GetJobResponse(job=await self._whole(await self._jobs.get(request.job_id)))

    async def ListJobs(self, request: wire.ListJobsRequest, context: Context) -> wire.ListJobsResponse:
        size = page_size(request.page_size)
        states, labels = read_states(request.states), check_labels(request.labels)
        after = read_page_token(request.page_token, states, labels)
        # One more than is asked for tells whether there is another page.
        found = await self._jobs.page(states, labels, size + 1, after)
        page = found[:size]
        token = write_page_token(page[-1], states, labels) if len(found) > size else ""
        return wire.ListJobsResponse(jobs=[job_message(record) for record in page], next_page_token=token)

    async def CancelJob(self, request: wire.CancelJobRequest, context: Context) -> wire.CancelJobResponse:
        check_id(request.job_id, "job_id")
        await self._jobs.cancel(request.job_id)
        return wire.CancelJobResponse()

    async def DeleteJob(self, request: wire.DeleteJobRequest, context: Context) -> wire.DeleteJobResponse:
        check_id(request.job_id, "job_id")
        await self._jobs.delete(request.job_id)
        return wire.DeleteJobResponse()

    async def WatchJob(self, request: wire.WatchJobRequest, context: Context) -> AsyncIterator[wire.WatchJobResponse]:
        check_id(request.job_id, "job_id")
        if request.after_sequence < 0:
            raise InputError(f"must be ≥ 0, found {request.after_sequence}", field="after_sequence")
        async with aclosing(self._jobs.watch(request.job_id, request.after_sequence)) as watching:
            async for told in watching:
                message = wire.WatchJobResponse(sequence=told.sequence)
                if isinstance(told, ToldProgress):
                    message.progress.MergeFromString(told.data)
                elif isinstance(told, ToldPreview):
                    message.preview.CopyFrom(await told.picture.message(self._dispatcher.in_thread))
                elif isinstance(told, ToldEnd):
                    message.finished.CopyFrom(await self._message(told.record, told.result))
                yield message

    async def _whole(self, record: JobRecord) -> wire.Job:
        """A job with its result, if it has one."""
        return await self._message(record, await self._jobs.result_of(record))

    async def _message(self, record: JobRecord, result: bytes) -> wire.Job:
        # A result has megabytes: not for the event loop.
        return await self._dispatcher.in_thread(lambda: job_message(record, result)) if result else job_message(record)
