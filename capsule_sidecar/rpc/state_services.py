"""StateService and CollectionService: values and documents, by unary calls and by Find."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, TypeVar

from capsule_protocol.v1 import collection_service_pb2 as collections
from capsule_protocol.v1 import state_service_pb2 as pb
from capsule_sidecar.rpc.calls import CALLS
from capsule_sidecar.rpc.guard import Context, principal
from capsule_sidecar.rpc.state_calls import find
from capsule_sidecar.runtime.commands import Commands
from capsule_sidecar.runtime.dispatcher import Dispatcher

_Response = TypeVar("_Response")


class HandlersService:
    """A service of unary calls that handlers make.

    Args:
        dispatcher: Knows the apps.
        commands: What handlers may do.
    """

    def __init__(self, dispatcher: Dispatcher, commands: Commands) -> None:
        self._dispatcher = dispatcher
        self._commands = commands

    async def _app(self) -> int:
        caller = principal()
        caller.require_handler()
        return await self._dispatcher.app(caller.require_app())

    async def _call(self, name: str, request: Any, _: type[_Response]) -> _Response:
        call = CALLS[name]
        waited = call.begin(self._commands, await self._app(), request)
        response: _Response = call.answer(await waited)
        return response


class StateService(HandlersService):
    """Values by key."""

    async def GetValue(self, request: pb.GetValueRequest, context: Context) -> pb.GetValueResponse:
        """Return a value."""
        return await self._call("get_value", request, pb.GetValueResponse)

    async def SetValue(self, request: pb.SetValueRequest, context: Context) -> pb.SetValueResponse:
        """Set a value."""
        return await self._call("set_value", request, pb.SetValueResponse)

    async def DeleteValue(
        self, request: pb.DeleteValueRequest, context: Context
    ) -> pb.DeleteValueResponse:
        """Remove a value."""
        return await self._call("delete_value", request, pb.DeleteValueResponse)

    async def IncrementValue(
        self, request: pb.IncrementValueRequest, context: Context
    ) -> pb.IncrementValueResponse:
        """Add to a number."""
        return await self._call("increment_value", request, pb.IncrementValueResponse)

    async def ListValues(
        self, request: pb.ListValuesRequest, context: Context
    ) -> pb.ListValuesResponse:
        """Return a page of values."""
        return await self._call("list_values", request, pb.ListValuesResponse)


class CollectionService(HandlersService):
    """Documents in collections."""

    async def Insert(
        self, request: collections.InsertRequest, context: Context
    ) -> collections.InsertResponse:
        """Add documents."""
        return await self._call("insert", request, collections.InsertResponse)

    async def Update(
        self, request: collections.UpdateRequest, context: Context
    ) -> collections.UpdateResponse:
        """Change documents."""
        return await self._call("update", request, collections.UpdateResponse)

    async def Delete(
        self, request: collections.DeleteRequest, context: Context
    ) -> collections.DeleteResponse:
        """Remove documents."""
        return await self._call("delete", request, collections.DeleteResponse)

    async def Count(
        self, request: collections.CountRequest, context: Context
    ) -> collections.CountResponse:
        """Count documents."""
        return await self._call("count", request, collections.CountResponse)

    async def Distinct(
        self, request: collections.DistinctRequest, context: Context
    ) -> collections.DistinctResponse:
        """Return the different values at a path."""
        return await self._call("distinct", request, collections.DistinctResponse)

    async def Find(self, request: collections.FindRequest, context: Context) -> None:
        """Send documents in batches; the next is read when this one is on its way."""
        found = find(self._commands, await self._app(), request)
        async with aclosing(found):
            async for batch in found:
                response = collections.FindResponse(documents_json=batch)
                await context.write(response.SerializeToString())
