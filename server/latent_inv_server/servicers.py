"""What the server answers: one short method an RPC."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import grpc.aio

from latent_inv import convert
from latent_inv.errors import InputError, LatentInvError, NotFoundError, UnsupportedError, at
from latent_inv.result import Finished, JobResult, Preview, Progress
from latent_inv.spec import DescribeSpec
from latent_inv.v1 import artifact_service_pb2_grpc as artifact_grpc
from latent_inv.v1 import generator_service_pb2 as generators
from latent_inv.v1 import generator_service_pb2_grpc as generators_grpc
from latent_inv.v1 import inversion_service_pb2 as inversion
from latent_inv.v1 import inversion_service_pb2_grpc as inversion_grpc
from latent_inv.v1 import job_service_pb2 as jobs
from latent_inv.v1 import job_service_pb2_grpc as jobs_grpc

from .config import ServerConfig
from .dispatcher import Dispatcher

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_id(value: str, field: str) -> None:
    """Refuse ids that are no ids.

    Raises:
        InputError: anything but 1 to 128 letters, digits, ".", "_" or "-", or only dots.
    """
    if not _REQUEST_ID.fullmatch(value) or not value.strip("."):
        raise InputError(f'must be 1 to 128 letters, digits, ".", "_" or "-", found {value[:40]!r}', field=field)


@contextmanager
def _inputs_at(field: str) -> Iterator[None]:
    """As `errors.at`, but an error about no field stays one: a full queue is not the spec's fault."""
    try:
        yield
    except LatentInvError as error:
        if error.field:
            error.field = f"{field}.{error.field}"
        raise


class InversionServicer(inversion_grpc.InversionServiceServicer):
    """Inversion in one call."""

    def __init__(self, dispatcher: Dispatcher, config: ServerConfig) -> None:
        self._dispatcher, self._config = dispatcher, config

    async def Invert(
        self, request: inversion.InvertRequest, context: Context
    ) -> AsyncIterator[inversion.InvertResponse]:
        if request.detach:
            raise UnsupportedError("detached jobs are not offered by this version; stay until the end", field="detach")
        if request.request_id:
            check_id(request.request_id, "request_id")
            _later("retries by request_id are not offered by this version; leave it empty", "request_id")
        with at("spec"):
            if request.spec.reporting.HasField("checkpoint_steps"):
                _later("checkpoints are not kept by this version; leave it unset", "reporting.checkpoint_steps")
            spec = await self._dispatcher.in_thread(lambda: convert.job_spec(request.spec, self._config.image_limits))
        with _inputs_at("spec"):
            job_id, feed = await self._dispatcher.submit(spec)
        try:
            yield inversion.InvertResponse(accepted=inversion.InvertAccepted(job_id=job_id))
            async for event in feed.events():
                if isinstance(event, Progress):
                    progress = convert.progress_to(event)
                    yield inversion.InvertResponse(sequence=event.sequence, progress=progress)
                elif isinstance(event, Preview):
                    preview = await self._dispatcher.in_thread(partial(convert.preview_to, event))
                    yield inversion.InvertResponse(sequence=event.sequence, preview=preview)
                elif isinstance(event, Finished):
                    yield await self._last(event)
        finally:
            # Reached when the client leaves, cancels or runs out of time, too: its job goes with it.
            if feed.finished is None:
                self._dispatcher.cancel(job_id)

    async def _last(self, event: Finished) -> inversion.InvertResponse:
        if event.error is not None:
            raise event.error
        result = event.result
        if not isinstance(result, JobResult):
            raise TypeError(f"an inversion ended in {type(result).__name__}")
        message = await self._dispatcher.in_thread(lambda: convert.result_to(result))
        return inversion.InvertResponse(sequence=event.sequence, result=message)


class GeneratorServicer(generators_grpc.GeneratorServiceServicer):
    """Generators."""

    def __init__(self, dispatcher: Dispatcher, config: ServerConfig) -> None:
        self._dispatcher, self._config = dispatcher, config

    async def ListGenerators(
        self, request: generators.ListGeneratorsRequest, context: Context
    ) -> generators.ListGeneratorsResponse:
        described = await self._dispatcher.ask(DescribeSpec())
        return generators.ListGeneratorsResponse(generators=[convert.info_to(info) for info in described.generators])

    async def GetGenerator(
        self, request: generators.GetGeneratorRequest, context: Context
    ) -> generators.GetGeneratorResponse:
        if not request.name:
            raise InputError("a generator must be named, found none", field="name")
        described = await self._dispatcher.ask(DescribeSpec(generator=request.name))
        return generators.GetGeneratorResponse(generator=convert.info_to(described.generators[0]))

    async def Sample(self, request: generators.SampleRequest, context: Context) -> generators.SampleResponse:
        sampled = await self._dispatcher.ask(convert.sample_spec(request))
        return await self._dispatcher.in_thread(lambda: convert.sampled_to(sampled))

    async def Encode(self, request: generators.EncodeRequest, context: Context) -> generators.EncodeResponse:
        limits = self._config.image_limits
        spec = await self._dispatcher.in_thread(lambda: convert.encode_spec(request, limits))
        encoded = await self._dispatcher.ask(spec)
        return await self._dispatcher.in_thread(lambda: convert.encoded_to(encoded))

    async def Decode(self, request: generators.DecodeRequest, context: Context) -> generators.DecodeResponse:
        decoded = await self._dispatcher.ask(convert.decode_spec(request))
        return await self._dispatcher.in_thread(lambda: convert.decoded_to(decoded))


class JobServicer(jobs_grpc.JobServiceServicer):
    """Jobs as resources; for now only running ones can be cancelled."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def CancelJob(self, request: jobs.CancelJobRequest, context: Context) -> jobs.CancelJobResponse:
        check_id(request.job_id, "job_id")
        if not self._dispatcher.cancel(request.job_id):
            raise NotFoundError("no job with this id is running", field="job_id")
        return jobs.CancelJobResponse()

    async def CreateJob(self, request: jobs.CreateJobRequest, context: Context) -> NoReturn:
        _later("durable jobs are not offered by this version; use InversionService.Invert")

    async def GetJob(self, request: jobs.GetJobRequest, context: Context) -> NoReturn:
        _later("jobs are not kept by this version; InversionService.Invert streams their state")

    async def ListJobs(self, request: jobs.ListJobsRequest, context: Context) -> NoReturn:
        _later("jobs are not kept by this version; there is no list of them")

    async def DeleteJob(self, request: jobs.DeleteJobRequest, context: Context) -> NoReturn:
        _later("jobs are not kept by this version; there is nothing to delete")

    async def WatchJob(self, request: jobs.WatchJobRequest, context: Context) -> AsyncIterator[jobs.WatchJobResponse]:
        _later("jobs cannot be watched again in this version; InversionService.Invert streams their events")
        yield jobs.WatchJobResponse()


class ArtifactServicer(artifact_grpc.ArtifactServiceServicer):
    """Uploaded files; not offered yet."""

    async def UploadArtifact(self, request_iterator: AsyncIterator[Any], context: Context) -> NoReturn:
        _later("uploads are not offered by this version; send pictures in the request, up to the message limit")

    async def GetArtifact(self, request: Any, context: Context) -> NoReturn:
        _later("artifacts are not kept by this version")

    async def DownloadArtifact(self, request: Any, context: Context) -> AsyncIterator[Any]:
        _later("artifacts are not kept by this version; results come in the last message of Invert")
        yield None

    async def DeleteArtifact(self, request: Any, context: Context) -> NoReturn:
        _later("artifacts are not kept by this version; there is nothing to delete")


def _later(text: str, field: str = "") -> NoReturn:
    raise UnsupportedError(text, field=field)
