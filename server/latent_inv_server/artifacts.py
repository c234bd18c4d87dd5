"""Files of clients on an event loop: what they upload, and the files of their jobs' results.

A file is known by its hash, and only to its client: whoever uploaded it, or whose job made it. Disks and databases are
waited for in threads, one piece at a time, so that a line that is slow, or stops, holds no more than that piece.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from latent_inv.convert import Contents
from latent_inv.errors import InputError, NotFoundError, SpecError, StateError
from latent_inv.images import Limits

from .door.identity import Caller, caller
from .door.quotas import check_upload
from .store.blobs import is_sha256
from .store.records import Blobs, JobStore
from .store.uploads import SqlUploads, Upload

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: largest piece of a file in one message that is taken
MAX_CHUNK = 2**20
#: and that is sent, so that it fits into messages of 1 MiB with what is around it
_SENT_CHUNK = 2**19
#: threads for pieces; jobs have their own, so that they are saved however much is uploaded
_THREADS = 4
#: end of a result file's name → its media type
_TYPES = {".png": "image/png", ".safetensors": "application/vnd.safetensors"}


@dataclass(frozen=True)
class Stored:
    """A file as far as it is here.

    Attributes:
        size, received: bytes in all, and bytes that are here.
        complete: all are here, and they have this hash.
    """

    sha256: str
    size: int
    received: int
    content_type: str
    complete: bool


class Artifacts:
    """Files of all clients; every method answers for `door.identity.caller()`. Used on one event loop.

    Args:
        limits: of pictures that jobs and requests name by hash.
        max_message_bytes: largest answer.
    """

    def __init__(
        self, jobs: JobStore, uploads: SqlUploads, blobs: Blobs, limits: Limits, max_message_bytes: int = 2**20
    ) -> None:
        self._jobs, self._uploads, self._blobs, self._limits = jobs, uploads, blobs, limits
        self._chunk = min(_SENT_CHUNK, max_message_bytes // 2)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")

    async def _ask(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def close(self) -> None:
        """Let go of the threads; what they are doing is done."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    # ---- up ----------------------------------------------------------------------------------------

    async def begin(self, sha256: str, size: int, offset: int, content_type: str) -> Stored:
        """Announce a file, or find out how much of it came before; what is missing is then given to `receive`.

        Args:
            size: bytes in all, ≥ 1.
            offset: where the next piece will begin, from 0 to what is here.
        Raises:
            InputError: a value that cannot be. StateError: there would be a gap. LimitError: over a quota, or no room.
        """
        client = caller()
        upload = await self._ask(lambda: self._begin(client, sha256, size, content_type))
        if not upload.complete and not 0 <= offset <= upload.received:
            text = f"{upload.received} bytes are here, so it must be from 0 to that; found {offset}"
            raise (InputError if offset < 0 else StateError)(text, field="header.offset")
        return _stored(upload)

    async def receive(self, sha256: str, offset: int, chunks: AsyncIterator[bytes]) -> Stored:
        """Take what is missing of a file that was begun. What came is kept however this ends, for another line.

        Args:
            offset: where the first of `chunks` begins.
        Raises:
            InputError: more bytes than announced, or content of another hash, which is forgotten.
            StateError: bytes are missing at the end. LimitError: the disk is full.
        """
        client = caller().name
        async for chunk in chunks:
            upload = await self._ask(partial(self._append, client, sha256, offset, chunk))
            if upload.complete:
                return _stored(upload)  # another line was quicker with the rest
            offset += len(chunk)
        upload = await self._ask(lambda: self._uploads.complete(client, sha256, time.time()))
        logger.info("a file of %d bytes was uploaded", upload.size)
        return _stored(upload)

    def _begin(self, client: Caller, sha256: str, size: int, content_type: str) -> Upload:
        found = self._uploads.get(client.name, sha256)
        more = size - (0 if found is None else found.size)
        if more > 0:
            check_upload(client, self._uploads.used(client.name), more)
        # Looked at once more where two files that are begun at once cannot both pass.
        most = client.quotas.upload_bytes
        return self._uploads.begin(client.name, sha256, size, content_type, time.time(), max_bytes=most)

    def _append(self, client: str, sha256: str, offset: int, data: bytes) -> Upload:
        try:
            return self._uploads.append(client, sha256, offset, data, time.time())
        except StateError:
            found = self._uploads.get(client, sha256)
            if found is None or not found.complete:
                raise
            return found

    # ---- down --------------------------------------------------------------------------------------

    async def get(self, sha256: str) -> Stored:
        """How much of a file is here.

        Raises:
            NotFoundError: none of this client's has this hash.
        """
        client = caller().name
        return await self._ask(lambda: self._find(client, sha256))

    def _find(self, client: str, sha256: str) -> Stored:
        _check(sha256)
        upload = self._uploads.get(client, sha256)
        if upload is not None and upload.complete:
            return _stored(upload)
        # What a job made is whole, though the same may be on its way as an upload.
        made, size = self._jobs.file(client, sha256), self._blobs.size(sha256)
        if made is not None and size is not None:
            kind = next((kind for end, kind in _TYPES.items() if made[1].endswith(end)), "")
            return Stored(sha256, size, size, kind, complete=True)
        if upload is None:
            raise _missing(sha256)
        return _stored(upload)

    async def page(self, limit: int, after: tuple[float, str] | None) -> list[tuple[float, Stored]]:
        """Uploads of the caller with the time of each, newest first; `after`: as `SqlUploads.page`."""
        client = caller().name
        found = await self._ask(lambda: self._uploads.page(client, limit, after))
        return [(upload.create_time, _stored(upload)) for upload in found]

    async def pieces(self, sha256: str, offset: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """A file from `offset` on: where each piece begins, and its bytes. The next one is read when it is asked for.

        Raises:
            NotFoundError: none of this client's has this hash, or it was removed meanwhile.
            StateError: its upload is not complete. InputError: it has no such offset.
        """
        found = await self.get(sha256)
        if not found.complete:
            # Though the same content may be here of another client: who has it all has to show that.
            text = f"{found.received} of its {found.size} bytes were uploaded; it can be downloaded once it is complete"
            raise StateError(text, field="sha256")
        if not 0 <= offset <= found.size:
            raise InputError(f"must be from 0 to its size, {found.size}, found {offset}", field="offset")
        while offset < found.size:
            data = await self._ask(partial(self._blobs.piece, sha256, offset, min(self._chunk, found.size - offset)))
            if not data:
                raise _missing(sha256)
            yield offset, data
            offset += len(data)

    async def delete(self, sha256: str) -> None:
        """Remove an upload, finished or not.

        Raises:
            NotFoundError: none of this client's has this hash.
            StateError: a job that is not over needs it, or it belongs to the result of one.
        """
        client = caller().name
        await self._ask(lambda: self._delete(client, sha256))

    def _delete(self, client: str, sha256: str) -> None:
        _check(sha256)
        if self._uploads.delete(client, sha256):
            return
        made = self._jobs.file(client, sha256)
        if made is None:
            raise _missing(sha256)
        raise StateError(f"it is {made[1]} of the job {made[0]}, and goes with that job", field="sha256")

    # ---- in requests -------------------------------------------------------------------------------

    def contents(self, client: str) -> Contents:
        """Pictures by hash in requests of `client`, to be read in a thread.

        What it returns raises NotFoundError for what is no complete upload of this client's, and LimitError for a file
        that is too large for a picture, before it is read.
        """

        def read(sha256: str) -> bytes:
            _check(sha256, "")
            upload = self._uploads.get(client, sha256)
            if upload is None:
                raise NotFoundError(f'there is no upload "{sha256}" of yours; upload the file first')
            if not upload.complete:
                text = f"{upload.received} of the {upload.size} bytes of this upload are here; send the others first"
                raise NotFoundError(text)
            self._limits.check_bytes(upload.size)
            return self._blobs.read(sha256)

        return read


def _check(sha256: str, field: str = "sha256") -> None:
    if not is_sha256(sha256):
        raise SpecError(f'must be 64 lowercase hexadecimal digits, found "{sha256[:80]}"', field=field)


def _missing(sha256: str) -> NotFoundError:
    return NotFoundError(f'there is no file "{sha256}" of yours', field="sha256")


def _stored(upload: Upload) -> Stored:
    return Stored(upload.sha256, upload.size, upload.received, upload.content_type, upload.complete)
