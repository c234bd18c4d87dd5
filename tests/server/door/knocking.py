"""Servers with a door, and calls of every kind on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from latent_inv.v1 import artifact_service_pb2, generator_service_pb2, inversion_service_pb2
from latent_inv_server.app import Application
from latent_inv_server.config import ServerConfig
from latent_inv_server.door.token_edit import add_client
from latent_inv_server.testing import running_server
from tests.server.fake import FakeEngine

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
Metadata = tuple[tuple[str, str], ...]


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def clients(path: Path, *names: str, **quotas: int | None) -> Mapping[str, str]:
    """Enter clients into a file; gives their tokens."""
    return {name: add_client(path, name, quotas) for name in names}


@asynccontextmanager
async def door(engine: FakeEngine | None = None, **settings: Any) -> AsyncIterator[Application]:
    """A server on a free port."""
    config = ServerConfig(port=0, grace_seconds=0, **settings)
    async with running_server(engine or FakeEngine(), config) as application:
        yield application


@asynccontextmanager
async def channel(application: Application) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{application.port}") as opened:
        yield opened


async def unary(opened: Any, metadata: Metadata = ()) -> None:
    call = opened.unary_unary("/latent_inv.v1.GeneratorService/ListGenerators")
    data = await call(generator_service_pb2.ListGeneratorsRequest().SerializeToString(), metadata=metadata)
    assert len(generator_service_pb2.ListGeneratorsResponse.FromString(data).generators) == len(FakeEngine.names)


async def server_stream(opened: Any, metadata: Metadata = ()) -> None:
    from latent_inv.v1 import data_pb2, job_pb2
    from tests.server.fake import PNG

    spec = job_pb2.JobSpec(image=data_pb2.Image(encoded=PNG), generator="steps")
    spec.budget.steps = 2
    call = opened.unary_stream("/latent_inv.v1.InversionService/Invert")
    request = inversion_service_pb2.InvertRequest(spec=spec).SerializeToString()
    assert len([answer async for answer in call(request, metadata=metadata)]) >= 3


async def client_stream(opened: Any, metadata: Metadata = ()) -> None:
    """Let in if it is refused for what it sends: an upload of nothing is none."""
    call = opened.stream_unary("/latent_inv.v1.ArtifactService/UploadArtifact")
    try:
        await call(iter([artifact_service_pb2.UploadArtifactRequest().SerializeToString()]), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT):
            raise


async def both_streams(opened: Any, metadata: Metadata = ()) -> None:
    from grpc_reflection.v1alpha import reflection_pb2

    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    for attempts_left in (4, 3, 2, 1, 0):
        call = opened.stream_stream(REFLECTION)(iter([request]), metadata=metadata)
        try:
            assert len([answer async for answer in call]) == 1
            return
        except grpc.aio.AioRpcError as error:
            # A refusal that overtakes the request makes this client's own sending fail, and it reports that instead.
            if "execute_batch" not in str(error.debug_error_string()) or not attempts_left:
                raise


#: kind of call → makes one, and raises what it is refused with
KINDS: dict[str, Callable[..., Awaitable[None]]] = {
    "unary": unary,
    "server stream": server_stream,
    "client stream": client_stream,
    "both streams": both_streams,
}


def run(scenario: Callable[[], Any]) -> None:
    """Run a scenario on a loop of its own; a hang fails."""
    asyncio.run(asyncio.wait_for(scenario(), 60))
