"""The one place where exceptions become gRPC statuses, around every handler."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from latent_inv.convert.errors import error_to
from latent_inv.errors import InternalError, LatentInvError

logger = logging.getLogger(__name__)

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: LatentInvError) -> None:
    """End the call with the status of `error`; does not return."""
    status = error_to(error)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(getattr(grpc.StatusCode, error.status), status.message, details)


def as_typed(error: Exception, method: str) -> LatentInvError:
    """The error itself if it is ours; else it is logged, and only the id of the log line goes out."""
    if isinstance(error, LatentInvError):
        return error
    incident = secrets.token_hex(4)
    try:
        logger.error("incident %s in %s", incident, method, exc_info=error)
    except Exception:  # its text cannot be made: log its type alone
        logger.error("incident %s in %s: %s", incident, method, type(error).__name__)
    return InternalError(f"something went wrong inside; the log has it as incident {incident}")


class Faults(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Wraps every handler, so that no exception reaches a client as UNKNOWN."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return handler
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        inner: Any = next(
            behaviour
            for behaviour in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
            if behaviour is not None
        )
        wrapped = _guard_stream(inner, method) if handler.response_streaming else _guard(inner, method)
        return make(wrapped, handler.request_deserializer, handler.response_serializer)


def _guard(inner: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Awaitable[Any]]:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await inner(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, as_typed(error, method))

    return handle


def _guard_stream(inner: Callable[..., Any], method: str) -> Callable[..., AsyncIterator[Any]]:
    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        answers = inner(request, context)
        if not hasattr(answers, "__aiter__"):  # a handler that writes to the context itself, as reflection's may
            await answers
            return
        try:
            async for answer in answers:
                yield answer
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, as_typed(error, method))
        finally:
            # Run the handler's own `finally` now, not when the garbage collector comes by.
            await answers.aclose()

    return handle
