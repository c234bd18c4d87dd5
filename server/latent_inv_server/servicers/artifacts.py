"""Uploaded files; not offered yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc.aio

from latent_inv.errors import UnsupportedError
from latent_inv.v1 import artifact_service_pb2_grpc as artifact_grpc

Context = grpc.aio.ServicerContext[Any, Any]


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


def _later(text: str) -> NoReturn:
    raise UnsupportedError(text)
