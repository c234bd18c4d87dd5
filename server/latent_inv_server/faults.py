"""The border of every handler: bytes → request, answer → bytes, and exceptions → gRPC statuses. The one place for each.

gRPC would answer UNKNOWN with the exception's own text to a request that cannot be read, to a handler that raises, and
to an answer that cannot be written. So all three happen in here, and gRPC itself only sees bytes.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from latent_inv.convert.errors import error_to
from latent_inv.errors import InputError, LatentInvError, LimitError
from latent_inv.incidents import as_typed

Context = grpc.aio.ServicerContext[Any, Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]

#: (are requests a stream, are answers) → how gRPC makes a handler
MAKE = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Faults(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every handler, so that no exception reaches a client as UNKNOWN.

    Args:
        max_message_bytes: largest answer.
        tell: hears of every error that a call ends in.
    """

    def __init__(self, max_message_bytes: int, tell: Callable[[LatentInvError], None] = lambda _: None) -> None:
        self._max_message_bytes, self._tell = max_message_bytes, tell

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:  # gRPC answers UNIMPLEMENTED by itself
            return handler
        border = _Border(handler, handler_call_details.method, self._max_message_bytes, self._tell)
        wrapped = border.stream if handler.response_streaming else border.unary
        return MAKE[handler.request_streaming, handler.response_streaming](wrapped)


class _Border:
    """One handler with its border; `unary` and `stream` take and give bytes."""

    def __init__(
        self, handler: Any, method: str, max_message_bytes: int, tell: Callable[[LatentInvError], None]
    ) -> None:
        self._handler, self._method, self._limit, self._tell = handler, method, max_message_bytes, tell
        kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        self._inner: Callable[..., Any] = next(kind for kind in kinds if kind is not None)

    async def unary(self, data: Any, context: Context) -> bytes:
        try:
            return self._write(await self._inner(self._request(data), context))
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await self._abort(context, as_typed(error, self._method))
            raise  # not reached, as `abort` raises

    async def stream(self, data: Any, context: Context) -> AsyncIterator[bytes]:
        answers = None
        try:
            if inspect.iscoroutinefunction(self._inner):  # writes to the context itself, as health's Watch does
                await self._inner(self._request(data), _Writer(context, self._write))
                return
            answers = self._inner(self._request(data), context)
            async for answer in answers:
                yield self._write(answer)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await self._abort(context, as_typed(error, self._method))
        finally:
            # Run the handler's own `finally` now, not when the garbage collector comes by.
            if answers is not None:
                await answers.aclose()

    async def _abort(self, context: Context, error: LatentInvError) -> None:
        self._tell(error)
        await abort(context, error)

    def _request(self, data: Any) -> Any:
        return self._read_all(data) if self._handler.request_streaming else self._read(data)

    async def _read_all(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for piece in pieces:
            yield self._read(piece)

    def _read(self, data: bytes) -> Any:
        return read_request(self._handler.request_deserializer, data)

    def _write(self, answer: Any) -> bytes:
        size, limit = answer.ByteSize(), self._limit
        if size > limit:
            text = f"the answer has {size} bytes, at most {limit} can be sent; ask for fewer or smaller pictures"
            raise LimitError(f"{text}, or set --max-message-mb")
        data: bytes = self._handler.response_serializer(answer)
        return data


def read_request(read: Callable[[bytes], Any], data: bytes) -> Any:
    """The message of a method.

    Raises:
        InputError: the bytes are none.
    """
    try:
        return read(data)
    except Exception as error:
        raise InputError(f"the {len(data)} bytes of the request are no message of this method") from error


class _Writer:
    """A context whose `write` takes messages."""

    def __init__(self, context: Context, write: Callable[[Any], bytes]) -> None:
        self._context, self._write = context, write

    async def write(self, answer: Any) -> None:
        await self._context.write(self._write(answer))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def abort(context: Context, error: LatentInvError) -> None:
    """End the call with the status of `error`; does not return."""
    status = error_to(error)
    # What was set before, the call's id, would be lost otherwise.
    details = (*(context.trailing_metadata() or ()), ("grpc-status-details-bin", status.SerializeToString()))
    await context.abort(getattr(grpc.StatusCode, error.status), status.message, details)
