"""Around every call, outside of all else: its id, its line in the log, its figures and its span."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from latent_inv_server.faults import MAKE, Context, Continuation
from latent_inv_server.logs import fields, open_scope

from .meters import Meters
from .traces import NO_TRACES, Traces

logger = logging.getLogger(__name__)

#: metadata by which a client names its call, and we answer; ours is made if there is none
REQUEST_ID = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CODES: Mapping[Any, str] = {code.value[0]: code.name for code in grpc.StatusCode}


class Calls(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Watches all calls of methods that there are. Stands outside `Faults`, so it sees bytes and statuses alone."""

    def __init__(self, meters: Meters, traces: Traces = NO_TRACES) -> None:
        self._meters, self._traces = meters, traces

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:  # gRPC answers UNIMPLEMENTED by itself; whatever names are tried make no figures
            return handler
        watched = _Watched(handler, handler_call_details.method.lstrip("/"), self._meters, self._traces)
        wrapped = watched.stream if handler.response_streaming else watched.unary
        return MAKE[handler.request_streaming, handler.response_streaming](wrapped)


class _Watched:
    """One method; `unary` and `stream` take and give bytes."""

    def __init__(self, handler: Any, method: str, meters: Meters, traces: Traces) -> None:
        self._handler, self._method, self._meters, self._traces = handler, method, meters, traces
        kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        self._inner: Callable[..., Any] = next(kind for kind in kinds if kind is not None)
        if handler.response_streaming and not inspect.isasyncgenfunction(self._inner):
            raise TypeError("answers must come from a generator, as those inside `Faults` do")

    async def unary(self, data: Any, context: Context) -> bytes:
        call = _Call(self, context)
        try:
            answer: bytes = await self._inner(call.counted(data), context)
            call.sent += len(answer)
            call.over(None)
            return answer
        except BaseException as error:
            call.over(error)
            raise

    async def stream(self, data: Any, context: Context) -> AsyncIterator[bytes]:
        call = _Call(self, context)
        # A stream may last for hours: whoever reads it knows its id from the start.
        await context.send_initial_metadata(((REQUEST_ID, call.request_id),))
        answers = self._inner(call.counted(data), context)
        try:
            async for answer in answers:
                call.sent += len(answer)
                yield answer
            call.over(None)
        except BaseException as error:
            call.over(error)
            raise
        finally:
            await answers.aclose()


class _Call:
    """One call. Its scope of log lines lasts as long as gRPC's own task for it."""

    def __init__(self, watched: _Watched, context: Context) -> None:
        self._watched, self._context = watched, context
        metadata = _texts(context)
        given = metadata.get(REQUEST_ID, "")
        self.request_id = given if _SANE.fullmatch(given) else secrets.token_hex(8)
        self.received = self.sent = 0
        self._about = open_scope(request_id=self.request_id)
        self._span = watched._traces.call(watched._method, metadata, self.request_id)
        context.set_trailing_metadata(((REQUEST_ID, self.request_id),))
        watched._meters.call_began(watched._method)
        self._began = time.monotonic()
        self._over = False

    def counted(self, data: Any) -> Any:
        """The request as it is, its bytes counted."""
        if isinstance(data, bytes):
            self.received += len(data)
            return data
        return self._count_all(data)

    async def _count_all(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.received += len(piece)
            yield piece

    def over(self, error: BaseException | None) -> None:
        """Note the end, once.

        Args:
            error: what the handler ended with; its status is known by then.
        """
        if self._over:
            return
        self._over = True
        seconds, code, method = time.monotonic() - self._began, self._code(error), self._watched._method
        self._watched._meters.call_ended(method, code, seconds, self.received, self.sent)
        self._span.end(code, self._about.get("client", ""))
        if logger.isEnabledFor(logging.DEBUG):
            of_line = fields(method=method, code=code, seconds=seconds, received=self.received, sent=self.sent)
            logger.debug("call", extra=of_line)

    def _code(self, error: BaseException | None) -> str:
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            left = self._context.time_remaining()
            return "CANCELLED" if left is None or left > 0 else "DEADLINE_EXCEEDED"
        code = self._context.code() or 0
        if error is not None and code in (0, grpc.StatusCode.OK):
            return "UNKNOWN"  # gRPC will make it that
        return code.name if isinstance(code, grpc.StatusCode) else _CODES.get(code, str(code))


def _texts(context: Context) -> dict[str, str]:
    """Metadata that are text, the first of each name."""
    found: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            found.setdefault(key, value)
    return found
