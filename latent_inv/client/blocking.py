"""The client for scripts: blocking calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from latent_inv import convert
from latent_inv.ask import choose_generator, given_latents
from latent_inv.errors import UnavailableError
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

from .artifacts import Artifacts
from .connection import File, connection
from .jobs import Jobs
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


class Client:
    """A connection to a server. Use it as a context manager, or call `close`.

    Args:
        address: "host:port".
        timeout: seconds for each call without progress; None waits as long as it takes.
        max_message_bytes: largest message both ways; the server has a limit of its own.
        token: of this client, as `latent-inv tokens add` printed it; None takes LATENT_INV_TOKEN, if it is set.
        ca: certificates of CAs to trust, a path or PEM bytes, for TLS; None takes the path in LATENT_INV_CA, if set.
        certificate, key: of this client, paths or PEM bytes, for servers that want one.
        tls: encrypt though none of these is given; for a server with a certificate of a public CA.
        insecure_token: send the token to another machine without TLS all the same.
    Raises:
        InputError: an argument is wrong, a file cannot be read, or the token would be sent in the open.
    """

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
        self._channel = made.channel(channel_options(max_message_bytes))
        self._inversion = inversion_service_pb2_grpc.InversionServiceStub(self._channel)
        #: jobs that outlive the calls and the connection that made them
        self.jobs = Jobs(self, job_service_pb2_grpc.JobServiceStub(self._channel))
        #: files on the server: uploaded pictures, and what jobs made
        self.artifacts = Artifacts(self, artifact_service_pb2_grpc.ArtifactServiceStub(self._channel))
        self._generators = generator_service_pb2_grpc.GeneratorServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; calls that are running are cancelled."""
        self._channel.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise typed(error, self.address) from None

    def invert(
        self,
        image: Any,
        generator: str = "",
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_preview: Callable[[Preview], None] | None = None,
        stop: Callable[[], bool] | None = None,
        **arguments: Any,
    ) -> JobResult:
        """Find latents of `generator` whose picture is `image`; arguments as `latent_inv.invert`.

        Args:
            stop: asked at each event; once it says True the job is cancelled, and the best so far is returned.
        Raises:
            LatentInvError: as the server raised it.
        """
        for event in self.invert_stream(image, generator, stop=stop, **arguments):
            if isinstance(event, JobResult):
                return event
            if isinstance(event, Progress) and on_progress is not None:
                on_progress(event)
            if isinstance(event, Preview) and on_preview is not None:
                on_preview(event)
        raise UnavailableError("the stream ended without a result", retry_after=1)

    def invert_stream(
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
    ) -> Iterator[Event]:
        """The same as a stream: progress and previews, and the result as the last value.

        Leaving the loop cancels the job.

        Args:
            request_id: chosen by you to make retries safe: the same id and arguments give the same job, from whose
                beginning the stream tells; leaving it does not cancel a job that was there before.
            detach: the job goes on when the loop is left; see `jobs`.
        """
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
            info=lambda: self.generator(generator),
            request_id=request_id,
            detach=detach,
        )
        self.artifacts.spare(request, [request.spec.image, request.spec.weight])
        call = self._inversion.Invert(request, timeout=timeout)
        job_id, stopped = "", False
        try:
            with self._errors():
                for message in call:
                    if message.HasField("accepted"):
                        job_id = message.accepted.job_id
                    if stop is not None and not stopped and stop():
                        stopped = True
                        self.jobs.cancel(job_id)
                    event = read_event(message, job_id, warnings)
                    if event is not None:
                        yield event
        finally:
            call.cancel()  # gRPC does not cancel a call that nobody reads any more

    def cancel(self, job_id: str) -> None:
        """The same as `jobs.cancel`."""
        self.jobs.cancel(job_id)

    def generators(self) -> tuple[GeneratorInfo, ...]:
        """What the server can invert."""
        with self._errors():
            request = generator_service_pb2.ListGeneratorsRequest()
            answer = self._generators.ListGenerators(request, timeout=self.timeout)
        return tuple(convert.info_from(message) for message in answer.generators)

    def generator(self, name: str) -> GeneratorInfo:
        """One generator.

        Raises:
            SpecError: there is none of that name.
        """
        with self._errors():
            request = generator_service_pb2.GetGeneratorRequest(name=name)
            answer = self._generators.GetGenerator(request, timeout=self.timeout)
        return convert.info_from(answer.generator)

    def loaded_generators(self) -> Residents:
        """Which generators the server has in memory, on all its devices; the least recently used first."""
        with self._errors():
            request = generator_service_pb2.ListLoadedGeneratorsRequest()
            answer = self._generators.ListLoadedGenerators(request, timeout=self.timeout)
        return convert.residents_from(answer)

    def load_generator(self, name: str, *, dtype: str = "float32", precision: str = "auto") -> Residents:
        """Bring a generator into memory, so that its first job need not wait; harmless if it is there.

        Raises:
            SpecError: there is none of that name. AssetError: its weights cannot be had.
            LimitError: it does not fit beside those in use (`retry_after` is set), or never will.
        """
        spec = ResidenceSpec(action="load", generator=name, dtype=dtype, precision=precision)
        with self._errors():
            answer = self._generators.LoadGenerator(convert.load_message(spec))
        return convert.residents_from(answer)

    def unload_generator(self, name: str) -> Residents:
        """Free the memory of a generator; harmless if it is not loaded.

        Raises:
            StateError: it is in use.
        """
        with self._errors():
            request = generator_service_pb2.UnloadGeneratorRequest(generator=name)
            answer = self._generators.UnloadGenerator(request, timeout=self.timeout)
        return convert.residents_from(answer)

    def sample(
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
            return convert.sampled_from(self._generators.Sample(request, timeout=self.timeout))

    def decode(self, latents: Any, generator: str = "", *, dtype: str = "float32", precision: str = "auto") -> Decoded:
        """Pictures of latents: part → [n, …], a saved file, or an earlier result."""
        generator = choose_generator(generator, latents)
        given, _ = given_latents(latents, generator, lambda: self.generator(generator))
        request = decode_request(given, generator, dtype, precision)
        check_size(request, self.max_message_bytes)
        with self._errors():
            return convert.decoded_from(self._generators.Decode(request, timeout=self.timeout))

    def encode(
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
        """Latents in one pass of the generator's encoder.

        Raises:
            UnsupportedError: it has none.
        """
        formats = {"dtype": dtype, "precision": precision}
        request = encode_request(image, generator, space=space, crop=crop, value_range=value_range, **formats)
        self.artifacts.spare(request, [request.image])
        with self._errors():
            return convert.encoded_from(self._generators.Encode(request, timeout=self.timeout))

    def healthy(self) -> bool:
        """Does the server's worker take jobs?

        Raises:
            UnavailableError: no server answers.
        """
        with self._errors():
            answer = self._health.Check(health_pb2.HealthCheckRequest(), timeout=self.timeout)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
