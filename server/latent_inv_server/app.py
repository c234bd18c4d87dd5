"""A server put together: servicers, health, reflection, limits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from latent_inv.engine.seam import EngineSeam
from latent_inv.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    generator_service_pb2,
    generator_service_pb2_grpc,
    inversion_service_pb2,
    inversion_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
)

from .artifacts import Artifacts
from .config import MIB, ServerConfig
from .dispatcher import Dispatcher
from .door.door import Door
from .faults import Faults
from .fleet import Fleet
from .jobs import Jobs
from .servicers import ArtifactServicer, GeneratorServicer, InversionServicer, JobServicer
from .store.records import Blobs, JobStore
from .store.uploads import SqlUploads
from .telemetry.collector import Sources
from .telemetry.telemetry import Telemetry

logger = logging.getLogger(__name__)

_SERVICES = {
    service.full_name: service
    for service in (
        inversion_service_pb2.DESCRIPTOR.services_by_name["InversionService"],
        job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
        generator_service_pb2.DESCRIPTOR.services_by_name["GeneratorService"],
        artifact_service_pb2.DESCRIPTOR.services_by_name["ArtifactService"],
    )
}
#: how often the worker's state is looked at for the health service, in seconds
_HEALTH_SECONDS = 0.5
#: calls above those that the door counts; gRPC itself refuses the rest, without details
_SPARE_CALLS = 1000


def options(config: ServerConfig) -> list[tuple[str, int]]:
    """Channel options of the server."""
    return [
        # Two servers would share a port without a word otherwise.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_metadata_size", 16 * 1024),
        # Clients may ping an idle connection every 10 s; faster ones would be cut off with too_many_pings.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 60_000),
    ]


class Store(Protocol):
    """What a server keeps; see `store.records`."""

    @property
    def jobs(self) -> JobStore:
        """All jobs."""

    @property
    def uploads(self) -> SqlUploads:
        """Files of clients."""

    @property
    def blobs(self) -> Blobs:
        """Contents that jobs and uploads refer to."""

    def close(self) -> None:
        """Let go of it."""


class Application:
    """One server on one port.

    Args:
        engine: what does the work; closed with the server. If its worker dies, it gets itself another one.
        store: where jobs are kept; closed with the server.
        door: who may call; None makes the one that `config` describes.
        retain: removes from the store what is old, called in a thread now and then; None: nothing is removed.
        telemetry: what it tells of itself; None: figures without traces. Closed with the server.
    Raises:
        InputError: a file that the door needs cannot be used.
    """

    def __init__(
        self,
        config: ServerConfig,
        engine: EngineSeam,
        store: Store,
        door: Door | None = None,
        retain: Callable[[], object] | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.config = config
        self.door = door or Door(config)
        self.telemetry = telemetry or Telemetry(config)
        self.dispatcher = Dispatcher(engine, config.max_requests)
        self.artifacts = Artifacts(
            store.jobs, store.uploads, store.blobs, config.image_limits, config.max_message_bytes
        )
        self.jobs = Jobs(
            config, self.dispatcher, store.jobs, store.blobs, retain, self.artifacts.contents, self.telemetry.jobs
        )
        self._engine, self._store = engine, store
        self.port = 0
        self._health = HealthServicer()

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            UnavailableError: the port is in use.
        """
        config = self.config
        server = grpc.aio.server(
            interceptors=[
                self.telemetry.calls,
                Faults(config.max_message_bytes, self.telemetry.meters.rejected),
                self.door.guard,
            ],
            options=options(config),
            maximum_concurrent_rpcs=config.max_streams + _SPARE_CALLS,
        )
        inversion_service_pb2_grpc.add_InversionServiceServicer_to_server(
            InversionServicer(self.jobs, self.dispatcher), server
        )
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(self.jobs, self.dispatcher), server)
        generator_service_pb2_grpc.add_GeneratorServiceServicer_to_server(
            GeneratorServicer(self.dispatcher, self.artifacts, config), server
        )
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(ArtifactServicer(self.artifacts), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*_SERVICES, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
        self.port = self.door.bind(server)
        methods = (f"{name}/{method.name}" for name, service in _SERVICES.items() for method in service.methods)
        self.telemetry.meters.begin_with(methods)
        self.telemetry.start(self._sources())
        self._server = server
        self.door.start()
        self.dispatcher.start()
        await self.jobs.start()
        await self._tell_health(self.dispatcher.alive)
        await server.start()
        self._watch = asyncio.create_task(self._watch_health())

    async def stop(self) -> None:
        """Take no new jobs, keep how far the running ones are within the grace time, then end all."""
        began = time.monotonic()
        await self._health.enter_graceful_shutdown()
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch
        # Streams of jobs end with this, so that there is little left for the server's own grace.
        await self.jobs.drain(self.config.grace_seconds)
        await self._server.stop(max(0.0, self.config.grace_seconds - (time.monotonic() - began)))
        await self.door.stop()
        # Before the engine: what it says of its own end is no end of any job.
        await self.jobs.stop()
        await self.dispatcher.stop()
        await asyncio.to_thread(self.artifacts.close)
        await asyncio.to_thread(self._store.close)
        await asyncio.to_thread(self.telemetry.close)

    def _sources(self) -> Sources:
        """Where figures are read that nobody reports."""
        store, engine = self._store, self._engine
        return Sources(
            waiting=lambda: self.jobs.waiting,
            running=lambda: self.jobs.runs.running,
            kept=lambda: {state.name: count for state, count in store.jobs.counts().items()},
            devices=(lambda: engine.health) if isinstance(engine, Fleet) else None,
            used=lambda: store.blobs.used,
            budget=self.config.disk_budget_mb * MIB,
            folder=getattr(store, "folder", None),
        )

    async def _watch_health(self) -> None:
        """Healthy means that the worker takes orders, not that this process runs."""
        told = self.dispatcher.alive
        while True:
            await asyncio.sleep(_HEALTH_SECONDS)
            alive = self.dispatcher.alive
            if alive != told:
                told = alive
                logger.info("the worker is %s", "ready" if alive else "gone")
                await self._tell_health(alive)

    async def _tell_health(self, alive: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if alive else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *_SERVICES):
            await self._health.set(name, status)
