"""What both clients share about files: the file as a value, and where one is on its way over broken lines."""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from latent_inv.errors import InputError, InternalError, UnavailableError, at
from latent_inv.files import open_regular, writing
from latent_inv.v1 import artifact_service_pb2 as wire

from .patience import Patience

#: bytes of a piece; servers take 1 MiB, if their messages may be as large as that with what is around it
_CHUNK = 2**19
#: room for that, in bytes
_AROUND = 2**9

#: what to upload: a path, or the content
Source = str | os.PathLike[str] | bytes | bytearray | memoryview
#: called with the bytes that are sent or here, and those in all
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True)
class Artifact:
    """A file on a server, known by its content; can be given as the picture of a job.

    Attributes:
        sha256: of its content, lowercase hexadecimal.
        size, received: bytes in all, and bytes that are there.
        content_type: as announced, e.g. "image/png".
        complete: all is there, and its hash was checked.
    """

    sha256: str
    size: int
    received: int
    content_type: str
    complete: bool


def artifact_from(message: wire.Artifact) -> Artifact:
    """The file of a message."""
    return Artifact(message.sha256, message.size, message.received, message.content_type, message.complete)


def hash_of(artifact: Artifact | str) -> str:
    """The hash of a file that is given as a value or by its hash.

    Raises:
        InputError: neither.
    """
    found = artifact.sha256 if isinstance(artifact, Artifact) else artifact
    if not isinstance(found, str):
        raise InputError(f"must be an Artifact or its hash, found {type(artifact).__name__}", field="artifact")
    return found


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The content of what is to be uploaded, as a file.

    Raises:
        InputError: no regular file, or nothing that holds one.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        with at("source"):
            file = open_regular(source)
        with file:
            yield file
    else:
        raise InputError(f"must be a path or bytes, found {type(source).__name__}", field="source")


def type_of(source: Source, content_type: str) -> str:
    """The media type to announce: as it was given, or by the end of a file's name."""
    if content_type or not isinstance(source, (str, os.PathLike)):
        return content_type
    return mimetypes.guess_type(os.fspath(source))[0] or ""


class Sending:
    """A file on its way to a server. Reads all of it once, for its hash: not on an event loop.

    Args:
        max_message_bytes: largest message of this client.
        patience: seconds without a byte getting there after which the server is given up.
    Raises:
        InputError: an empty file. OSError: it cannot be read.
    """

    def __init__(self, file: BinaryIO, content_type: str, max_message_bytes: int, patience: float) -> None:
        self._file, self._type = file, content_type
        self._chunk = max(1, min(_CHUNK, max_message_bytes - _AROUND))
        self.patience = Patience(patience)
        digest, self.size = hashlib.sha256(), 0
        while piece := file.read(_CHUNK):
            digest.update(piece)
            self.size += len(piece)
        if not self.size:
            raise InputError("the file is empty", field="source")
        self.sha256 = digest.hexdigest()
        #: bytes that were handed to the connection
        self.sent = 0
        #: what went wrong on this side while gRPC asked for messages
        self.failure: Exception | None = None
        #: the last line ended in a way that did not tell why
        self.cautious = False
        self._told = -1
        self._furthest = 0

    def begin(self, there: Artifact | None) -> int:
        """Note what the server has; returns where to go on."""
        offset = 0 if there is None else there.received
        if offset > self._furthest:
            self._furthest = offset
            self.patience.heard()
        return offset

    def messages(self, offset: int) -> Iterator[wire.UploadArtifactRequest]:
        """Header and pieces. Never raises, since gRPC would only log it: see `failure`."""
        header = wire.UploadArtifactHeader(sha256=self.sha256, size=self.size, offset=offset, content_type=self._type)
        yield wire.UploadArtifactRequest(header=header)
        try:
            while offset < self.size:
                self._file.seek(offset)
                piece = self._file.read(min(self._chunk, self.size - offset))
                if not piece:
                    raise InputError("the file became shorter while it was sent", field="source")
                yield wire.UploadArtifactRequest(chunk=piece)
                offset += len(piece)
                self.sent = offset
        except Exception as error:
            self.failure = error

    def check(self) -> None:
        """Raises `failure`, if there is one: it says more than what the server makes of an upload that breaks off."""
        if self.failure is not None:
            raise self.failure

    def tell(self, on_progress: OnBytes | None) -> None:
        """Say how far it is, if that is news."""
        if on_progress is not None and self.sent > self._told:
            self._told = self.sent
            on_progress(self.sent, self.size)


class Receiving:
    """A file on its way from a server.

    Args:
        patience: seconds without a byte getting here after which the server is given up.
    """

    def __init__(self, artifact: Artifact, file: BinaryIO, patience: float) -> None:
        self._artifact, self._file = artifact, file
        self.patience = Patience(patience)
        self._digest = hashlib.sha256()
        self.received = 0

    def request(self) -> wire.DownloadArtifactRequest:
        """Asks for what is not here yet."""
        return wire.DownloadArtifactRequest(sha256=self._artifact.sha256, offset=self.received)

    def take(self, message: wire.DownloadArtifactResponse, on_progress: OnBytes | None) -> None:
        """Take a piece.

        Raises:
            InternalError: it is not the next one. OSError: it cannot be written.
        """
        size = self._artifact.size
        if message.offset != self.received or self.received + len(message.chunk) > size:
            found = f"{len(message.chunk)} bytes from {message.offset} on"
            raise InternalError(f"the server sent {found}, at most {size - self.received} from {self.received} on fit")
        self._file.write(message.chunk)
        self._digest.update(message.chunk)
        self.received += len(message.chunk)
        self.patience.heard()
        if on_progress is not None:
            on_progress(self.received, size)

    @property
    def whole(self) -> bool:
        """Is all of it here?

        Raises:
            InternalError: all is here, and it is something else.
        """
        if self.received < self._artifact.size:
            return False
        if self._digest.hexdigest() != self._artifact.sha256:
            raise InternalError(f"what came is not the file {self._artifact.sha256}: it has another hash")
        return True

    def check(self) -> None:
        """See that a line that ended brought all.

        Raises:
            UnavailableError: it did not. InternalError: as `whole`.
        """
        if not self.whole:
            raise UnavailableError("the download ended before the file did", retry_after=0.1)


def target(path: str | os.PathLike[str] | None) -> AbstractContextManager[BinaryIO]:
    """Where a download goes: a file that is there when it is whole, or memory."""
    return nullcontext(io.BytesIO()) if path is None else writing(path)


def outcome(file: BinaryIO, path: str | os.PathLike[str] | None) -> Any:
    """What a download gives: its bytes, or its path."""
    return file.getvalue() if isinstance(file, io.BytesIO) else Path(os.fspath(path or ""))
