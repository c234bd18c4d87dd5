"""The client for event loops; the same calls as `Client`, awaited."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from latent_inv import convert
from latent_inv.ask import choose_generator, given_latents, no_info
from latent_inv.errors import UnavailableError
from latent_inv.latents import LatentsFile
from latent_inv.result import Decoded, Encoded, GeneratorInfo, JobResult, Preview, Progress, Residents, Sampled
from latent_inv.settings import Settings
from latent_inv.spec import DEFAULT_GENERATOR, Budget, ResidenceSpec
from latent_inv.v1 import (
    artifact_service_pb2_grpc,
    generator_service_pb2,
    generator_service_pb2_grpc,
    inversion_service_pb2_grpc,
    job_service_pb2_grpc,
)

from .async_artifacts import AsyncArtifacts
from .async_jobs import AsyncJobs
from .connection import File, connection
from .messages import (
    MAX_MESSAGE_BYTES,
    Event,
    channel_options,
    check_size,
    decode_request,
    encode_request,
    invert_request,
    read_event,
    sample_request,
    typed,
)


class AsyncClient:
    """A connection to a server. Use it as an async context manager, or await `close`. Arguments as `Client`."""

    def __init__(
        self,
        address: str,
        *,
        timeout: float | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        token: str | None = None,
        ca: File | None = None,
        certificate: File | None = None,
        key: File | None = None,
        tls: bool = False,
        insecure_token: bool = False,
    ) -> None:
        self.address, self.timeout, self.max_message_bytes = address, timeout, max_message_bytes
        made = connection(
            address, token=token, ca=ca, certificate=certificate, key=key, tls=tls, insecure_token=insecure_token
        )
        self._channel = made.aio_channel(channel_options(max_message_bytes))
        self._inversion = inversion_service_pb2_grpc.InversionServiceStub(self._channel)
        #: jobs that outlive the calls and the connection that made them
        self.jobs = AsyncJobs(self, job_service_pb2_grpc.JobServiceStub(self._channel))
        #: files on the server: uploaded pictures, and what jobs made
        self.artifacts = AsyncArtifacts(self, artifact_service_pb2_grpc.ArtifactServiceStub(self._channel))
        self._generators = generator_service_pb2_grpc.GeneratorServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls that are running are cancelled."""
        await self._channel.close(None)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise typed(error, self.address) from None

    async def invert(
        self,
        image: Any,
        generator: str = "",
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_preview: Callable[[Preview], None] | None = None,
        stop: Callable[[], bool] | None = None,
        **arguments: Any,
    ) -> JobResult:
        """Find latents of `generator` whose picture is `image`; cancelling the task cancels the job."""
        stream = self.invert_stream(image, generator, stop=stop, **arguments)
        try:
            async for event in stream:
                if isinstance(event, JobResult):
                    return event
                if isinstance(event, Progress) and on_progress is not None:
                    on_progress(event)
                if isinstance(event, Preview) and on_preview is not None:
                    on_preview(event)
        finally:
            await stream.aclose()
        raise UnavailableError("the stream ended without a result", retry_after=1)

    async def invert_stream(
        self,
        image: Any,
        generator: str = "",
        *,
        weight: Any = None,
        value_range: tuple[float, float] | None = None,
        start: Any = None,
        initialiser: Settings | None = None,
        budget: Budget = Budget(),
        steps: int | None = None,
        seconds: float | None = None,
        target_lpips: float | None = None,
        target_psnr_db: float | None = None,
        stop: Callable[[], bool] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        detach: bool = False,
        **settings: Any,
    ) -> AsyncGenerator[Event, None]:
        """Progress and previews, and the result as the last value; arguments as those of the blocking client."""
        generator = choose_generator(generator, start)
        shortcuts = {"steps": steps, "seconds": seconds, "target_lpips": target_lpips, "target_psnr_db": target_psnr_db}
        request, warnings = invert_request(
            image,
            generator,
            weight=weight,
            value_range=value_range,
            start=start,
            initialiser=initialiser,
            budget=budget,
            shortcuts=shortcuts,
            settings=settings,
            info=await self._info(start, generator),
            request_id=request_id,
            detach=detach,
        )
        await self.artifacts.spare(request, [request.spec.image, request.spec.weight])
        call = self._inversion.Invert(request, timeout=timeout)
        job_id, stopped = "", False
        try:
            with self._errors():
                async for message in call:
                    if message.HasField("accepted"):
                        job_id = message.accepted.job_id
                    if stop is not None and not stopped and stop():
                        stopped = True
                        await self.jobs.cancel(job_id)
                    event = read_event(message, job_id, warnings)
                    if event is not None:
                        yield event
        finally:
            call.cancel()

    async def _info(self, latents: Any, generator: str) -> Callable[[], GeneratorInfo]:
        """What gives the description of the generator, which is asked for only where latents come from a file."""
        if not isinstance(latents, (str, bytes, LatentsFile)) and not hasattr(latents, "__fspath__"):
            return no_info
        known = await self.generator(generator)
        return lambda: known

    async def cancel(self, job_id: str) -> None:
        """The same as `jobs.cancel`."""
        await self.jobs.cancel(job_id)

    async def generators(self) -> tuple[GeneratorInfo, ...]:
        """What the server can invert."""
        with self._errors():
            request = generator_service_pb2.ListGeneratorsRequest()
            answer = await self._generators.ListGenerators(request, timeout=self.timeout)
        return tuple(convert.info_from(message) for message in answer.generators)

    async def generator(self, name: str) -> GeneratorInfo:
        """One generator."""
        with self._errors():
            request = generator_service_pb2.GetGeneratorRequest(name=name)
            answer = await self._generators.GetGenerator(request, timeout=self.timeout)
        return convert.info_from(answer.generator)

    async def loaded_generators(self) -> Residents:
        """Which generators the server has in memory, on all its devices; the least recently used first."""
        with self._errors():
            request = generator_service_pb2.ListLoadedGeneratorsRequest()
            answer = await self._generators.ListLoadedGenerators(request, timeout=self.timeout)
        return convert.residents_from(answer)

    async def load_generator(self, name: str, *, dtype: str = "float32", precision: str = "auto") -> Residents:
        """Bring a generator into memory, so that its first job need not wait; harmless if it is there.

        Raises:
            SpecError: there is none of that name. AssetError: its weights cannot be had.
            LimitError: it does not fit beside those in use (`retry_after` is set), or never will.
        """
        spec = ResidenceSpec(action="load", generator=name, dtype=dtype, precision=precision)
        with self._errors():
            answer = await self._generators.LoadGenerator(convert.load_message(spec))
        return convert.residents_from(answer)

    async def unload_generator(self, name: str) -> Residents:
        """Free the memory of a generator; harmless if it is not loaded.

        Raises:
            StateError: it is in use.
        """
        with self._errors():
            request = generator_service_pb2.UnloadGeneratorRequest(generator=name)
            answer = await self._generators.UnloadGenerator(request, timeout=self.timeout)
        return convert.residents_from(answer)

    async def sample(
        self,
        seeds: int | Sequence[int] = (0,),
        generator: str = "faces",
        *,
        space: str = "",
        height: int = 0,
        width: int = 0,
        dtype: str = "float32",
        precision: str = "auto",
        conditions: Mapping[str, Any] | str = "",
    ) -> Sampled:
        """Draw latents from the prior and decode them, one a seed."""
        formats = {"dtype": dtype, "precision": precision}
        request = sample_request(
            seeds, generator, space=space, height=height, width=width, conditions=conditions, **formats
        )
        with self._errors():
            return convert.sampled_from(await self._generators.Sample(request, timeout=self.timeout))

    async def decode(
        self, latents: Any, generator: str = "", *, dtype: str = "float32", precision: str = "auto"
    ) -> Decoded:
        """Pictures of latents."""
        generator = choose_generator(generator, latents)
        given, _ = given_latents(latents, generator, await self._info(latents, generator))
        request = decode_request(given, generator, dtype, precision)
        check_size(request, self.max_message_bytes)
        with self._errors():
            return convert.decoded_from(await self._generators.Decode(request, timeout=self.timeout))

    async def encode(
        self,
        image: Any,
        generator: str = DEFAULT_GENERATOR,
        *,
        space: str = "",
        crop: tuple[int, int, int, int] | None = None,
        value_range: tuple[float, float] | None = None,
        dtype: str = "float32",
        precision: str = "auto",
    ) -> Encoded:
        """Latents in one pass of the generator's encoder."""
        formats = {"dtype": dtype, "precision": precision}
        request = encode_request(image, generator, space=space, crop=crop, value_range=value_range, **formats)
        await self.artifacts.spare(request, [request.image])
        with self._errors():
            return convert.encoded_from(await self._generators.Encode(request, timeout=self.timeout))

    async def healthy(self) -> bool:
        """Does the server's worker take jobs?"""
        with self._errors():
            answer = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=self.timeout)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
