"""Files on a server, for the blocking client."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import grpc

from latent_inv.errors import CancelledError, LatentInvError, NotFoundError, UnavailableError
from latent_inv.v1 import artifact_service_pb2 as wire
from latent_inv.v1 import artifact_service_pb2_grpc as wire_grpc
from latent_inv.v1 import data_pb2

from .artifact import (
    Artifact,
    OnBytes,
    Receiving,
    Sending,
    Source,
    artifact_from,
    hash_of,
    opened,
    outcome,
    target,
    type_of,
)
from .job import page_size
from .messages import outsized

if TYPE_CHECKING:
    from .blocking import Client

#: seconds between two looks at how much was sent
_LOOK_SECONDS = 0.05


class Artifacts:
    """The files of a client's owner on a server: `client.artifacts`."""

    def __init__(self, client: Client, stub: wire_grpc.ArtifactServiceStub) -> None:
        self._client, self._stub = client, stub

    def upload(
        self,
        source: Source,
        *,
        content_type: str = "",
        on_progress: OnBytes | None = None,
        patience: float = 60.0,
    ) -> Artifact:
        """Send a file, or what the server lacks of it; the answer can be given as the picture of any number of jobs.

        A line that breaks is made anew, and goes on where it was, also in another process or on another day.

        Args:
            source: a path, or the content.
            content_type: media type to announce; empty: by the end of the file's name.
            on_progress: called with the bytes that were sent, and those in all.
            patience: seconds without a byte getting there after which it is given up.
        Raises:
            InputError: no regular file, an empty one, or one that changed while it was sent.
            LimitError: over a quota or a limit of the server. UnavailableError: it was away longer than `patience`.
        """
        with opened(source) as file:
            sending = Sending(file, type_of(source, content_type), self._client.max_message_bytes, patience)
            while True:
                try:
                    return self._send(sending, on_progress)
                except UnavailableError as error:
                    pause = sending.patience.pause(error)
                time.sleep(pause)

    def _send(self, sending: Sending, on_progress: OnBytes | None) -> Artifact:
        there = self._look(sending.sha256)
        offset = sending.begin(there)
        if there is not None and there.complete:
            return there
        call = self._stub.UploadArtifact.future(sending.messages(offset))
        try:
            with self._client._errors():
                while True:
                    try:
                        answer = call.result(timeout=_LOOK_SECONDS)
                        break
                    except grpc.FutureTimeoutError:
                        sending.tell(on_progress)
                    except grpc.FutureCancelledError:
                        raise CancelledError("the connection was closed while the file was sent") from None
        except LatentInvError:
            sending.check()
            raise
        finally:
            call.cancel()
        sending.tell(on_progress)
        return artifact_from(answer.artifact)

    def _look(self, sha256: str) -> Artifact | None:
        try:
            return self.get(sha256)
        except NotFoundError:
            return None

    @overload
    def download(
        self,
        artifact: Artifact | str,
        path: None = None,
        *,
        on_progress: OnBytes | None = None,
        patience: float = 60.0,
    ) -> bytes:
        """Into memory."""

    @overload
    def download(
        self,
        artifact: Artifact | str,
        path: str | os.PathLike[str],
        *,
        on_progress: OnBytes | None = None,
        patience: float = 60.0,
    ) -> Path:
        """Into a file."""

    def download(
        self,
        artifact: Artifact | str,
        path: str | os.PathLike[str] | None = None,
        *,
        on_progress: OnBytes | None = None,
        patience: float = 60.0,
    ) -> bytes | Path:
        """Fetch a file: an upload, or what a job made (`Job.artifacts`). Its hash is checked.

        A line that breaks is made anew, and goes on where it was.

        Args:
            artifact: the file, or its hash.
            path: where to write it; it is there when it is whole. None: into memory.
            on_progress: called with the bytes that are here, and those in all.
            patience: seconds without a byte getting here after which it is given up.
        Returns:
            the content, or `path`.
        Raises:
            NotFoundError: there is none of yours with this hash. StateError: its upload is not complete.
            InputError: `path` cannot be written. InternalError: what came is another file.
            UnavailableError: the server was away longer than `patience`.
        """
        found = self.get(artifact)
        with target(path) as file:
            receiving = Receiving(found, file, patience)
            while not receiving.whole:
                call = self._stub.DownloadArtifact(receiving.request())
                try:
                    with self._client._errors():
                        for message in call:
                            receiving.take(message, on_progress)
                    receiving.check()
                    continue
                except UnavailableError as error:
                    pause = receiving.patience.pause(error)
                finally:
                    call.cancel()  # gRPC does not cancel a call that nobody reads any more
                time.sleep(pause)
        return outcome(file, path)

    def get(self, artifact: Artifact | str) -> Artifact:
        """How much of a file is there.

        Raises:
            NotFoundError: there is none of yours with this hash.
        """
        request = wire.GetArtifactRequest(sha256=hash_of(artifact))
        with self._client._errors():
            return artifact_from(self._stub.GetArtifact(request, timeout=self._client.timeout).artifact)

    def list(self, limit: int | None = None) -> Iterator[Artifact]:
        """Your uploads, newest first, unfinished ones too; asks for further pages as they are needed.

        Args:
            limit: most files; None: all there are.
        """
        request, left = wire.ListArtifactsRequest(page_size=page_size(limit)), limit
        while True:
            with self._client._errors():
                page = self._stub.ListArtifacts(request, timeout=self._client.timeout)
            found = page.artifacts if left is None else page.artifacts[:left]
            yield from map(artifact_from, found)
            left = None if left is None else left - len(found)
            if left == 0 or not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def delete(self, artifact: Artifact | str) -> None:
        """Remove an upload, finished or not. What jobs made goes with them.

        Raises:
            NotFoundError: there is none of yours with this hash. StateError: a job that is not over needs it.
        """
        request = wire.DeleteArtifactRequest(sha256=hash_of(artifact))
        with self._client._errors():
            self._stub.DeleteArtifact(request, timeout=self._client.timeout)

    def spare(self, request: Any, pictures: Sequence[data_pb2.Image]) -> None:
        """Upload the pictures that a request is too small for, and leave their hashes in it.

        Raises:
            LimitError: it is over the message limit all the same, or an upload is over a limit of the server.
        """
        for picture in outsized(request, pictures, self._client.max_message_bytes):
            picture.artifact_sha256 = self.upload(picture.encoded).sha256
