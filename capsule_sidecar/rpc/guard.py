"""The one interceptor: who is asking, and what an error looks like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from capsule_sidecar.identity.tokens import Principal, Tokens
from capsule_sidecar.model.errors import ShuttingDown
from capsule_sidecar.rpc.errors import abort

_principal: ContextVar[Principal] = ContextVar("capsule_principal")
# The longest that a call is kept waiting for its refusal.
_HELD_SECONDS = 2.0
_OPEN = ("/grpc.health.v1.", "/grpc.reflection.")

# grpc's own types of handlers and contexts are generic over messages; here they are all of them.
Handler = Any
Context = Any


def principal() -> Principal:
    """Return who makes the current call."""
    return _principal.get()


class Guard(grpc.aio.ServerInterceptor):
    """Lets in who has a token, and answers errors by the one table.

    Health and reflection need no token; where they answer at all is the server's business.

    Args:
        tokens: The tokens that are known.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._guarded: dict[str, Handler] = {}
        self._refusing: asyncio.Event | None = None

    def hold(self) -> None:
        """Take every call from now on and keep it waiting."""
        self._refusing = asyncio.Event()

    def refuse(self) -> None:
        """Refuse the calls that are kept waiting, so that their callers try again."""
        assert self._refusing is not None
        self._refusing.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, guarded; made once for each method."""
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None or method.startswith(_OPEN):
                return handler
            guarded = self._guarded[method] = self._guard(handler)
        return guarded

    def _guard(self, handler: Handler) -> Handler:
        if handler.unary_unary is not None or handler.stream_unary is not None:
            inner = handler.unary_unary or handler.stream_unary

            async def unary(request: Any, context: Context) -> Any:
                try:
                    if self._refusing is not None:
                        await self._refused(self._refusing)
                    self._enter(context)
                    return await inner(request, context)
                except (asyncio.CancelledError, grpc.aio.AbortError):
                    raise
                except Exception as error:  # noqa: BLE001 - the table decides what is told of it
                    return await abort(context, error)

            make = (
                grpc.unary_unary_rpc_method_handler
                if handler.unary_unary is not None
                else grpc.stream_unary_rpc_method_handler
            )
            return make(unary, handler.request_deserializer, handler.response_serializer)
        inner = handler.unary_stream or handler.stream_stream

        async def stream(request: Any, context: Context) -> None:
            try:
                if self._refusing is not None:
                    await self._refused(self._refusing)
                self._enter(context)
                await inner(request, context)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:  # noqa: BLE001 - the table decides what is told of it
                await abort(context, error)

        make = (
            grpc.unary_stream_rpc_method_handler
            if handler.unary_stream is not None
            else grpc.stream_stream_rpc_method_handler
        )
        return make(stream, handler.request_deserializer, handler.response_serializer)

    @staticmethod
    async def _refused(refusing: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(_HELD_SECONDS):
                await refusing.wait()
        except TimeoutError:
            pass  # whoever was to say so is gone: refused all the same
        raise ShuttingDown("the sidecar is shutting down")

    def _enter(self, context: Context) -> None:
        authorization = app = ""
        for key, value in context.invocation_metadata():
            if key == "authorization":
                authorization = str(value)
            elif key == "capsule-app":
                app = str(value)
        _principal.set(self._tokens.principal(authorization, app))
