"""Files by their hash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from latent_inv.errors import InputError, LimitError
from latent_inv.v1 import artifact_service_pb2 as wire
from latent_inv.v1 import artifact_service_pb2_grpc as wire_grpc
from latent_inv_server.artifacts import MAX_CHUNK, Artifacts, Stored
from latent_inv_server.pages import page_size, read_place, write_place

Context = grpc.aio.ServicerContext[Any, Any]

#: what the tokens of its pages are for
_LIST = "uploads"


class ArtifactServicer(wire_grpc.ArtifactServiceServicer):
    """Files by their hash."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[wire.UploadArtifactRequest], context: Context
    ) -> wire.UploadArtifactResponse:
        first = await anext(request_iterator, wire.UploadArtifactRequest())
        if not first.HasField("header"):
            raise InputError(f"must come first, found {first.WhichOneof('part') or 'nothing'}", field="header")
        header = first.header
        stored = await self._artifacts.begin(header.sha256, header.size, header.offset, header.content_type)
        if not stored.complete:
            # Whoever waits for the answer's metadata sends nothing in vain where the file is refused, or here already.
            await context.send_initial_metadata(())
            stored = await self._artifacts.receive(header.sha256, header.offset, _chunks(request_iterator))
        return wire.UploadArtifactResponse(artifact=_message(stored))

    async def GetArtifact(self, request: wire.GetArtifactRequest, context: Context) -> wire.GetArtifactResponse:
        return wire.GetArtifactResponse(artifact=_message(await self._artifacts.get(request.sha256)))

    async def ListArtifacts(self, request: wire.ListArtifactsRequest, context: Context) -> wire.ListArtifactsResponse:
        size = page_size(request.page_size)
        # One more than is asked for tells whether there is another page.
        found = await self._artifacts.page(size + 1, read_place(request.page_token, _LIST))
        page = [stored for _, stored in found[:size]]
        token = write_place(found[size - 1][0], page[-1].sha256, _LIST) if len(found) > size else ""
        return wire.ListArtifactsResponse(artifacts=map(_message, page), next_page_token=token)

    async def DownloadArtifact(
        self, request: wire.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[wire.DownloadArtifactResponse]:
        async with aclosing(self._artifacts.pieces(request.sha256, request.offset)) as pieces:
            async for offset, chunk in pieces:
                yield wire.DownloadArtifactResponse(offset=offset, chunk=chunk)

    async def DeleteArtifact(
        self, request: wire.DeleteArtifactRequest, context: Context
    ) -> wire.DeleteArtifactResponse:
        await self._artifacts.delete(request.sha256)
        return wire.DeleteArtifactResponse()


async def _chunks(messages: AsyncIterator[wire.UploadArtifactRequest]) -> AsyncIterator[bytes]:
    async for message in messages:
        found = message.WhichOneof("part")
        if found != "chunk":
            raise InputError(f"only chunks may follow the header, found {found or 'nothing'}", field=found or "chunk")
        size = len(message.chunk)
        if not size:
            raise InputError(f"must hold from 1 to {MAX_CHUNK} bytes, found none", field="chunk")
        if size > MAX_CHUNK:
            raise LimitError(f"must hold from 1 to {MAX_CHUNK} bytes, found {size}", field="chunk")
        yield message.chunk


def _message(stored: Stored) -> wire.Artifact:
    return wire.Artifact(
        sha256=stored.sha256,
        size=stored.size,
        received=stored.received,
        content_type=stored.content_type,
        complete=stored.complete,
    )
