"""The calls of a simulated user, over the gRPC that channels speak."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from capsule_client._channel import metadata, open_channel
from capsule_client._error_table import from_rpc
from capsule_client._ids import RequestIds
from capsule_client._settings import address_of
from capsule_client.testing._sidecar import Serving
from capsule_protocol.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    channel_service_pb2,
    channel_service_pb2_grpc,
    file_service_pb2,
    file_service_pb2_grpc,
)

_CALL_SECONDS = 20.0
_PIECE = 256 * 1024


class Link:
    """A channel to the sidecar, for one app. `async with` closes it.

    Args:
        serving: The sidecar.
        app: The app's name.
        log: Gives the end of what the sidecar has logged.
    """

    def __init__(self, serving: Serving, app: str, log: Callable[[], str]) -> None:
        self._log = log
        self._metadata = metadata(app, serving.token)
        self._channel = open_channel(address_of(serving.address))
        # The stubs of grpc.aio are typed as those of its synchronous half.
        self._people: Any = channel_service_pb2_grpc.ChannelServiceStub(self._channel)
        self._files: Any = file_service_pb2_grpc.FileServiceStub(self._channel)
        self._admin: Any = admin_service_pb2_grpc.AdminServiceStub(self._channel)
        self._new_id = RequestIds()

    async def __aenter__(self) -> Link:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def call(self, method: str, **fields: Any) -> Any:
        """Calls a method of ChannelService; raises CapsuleError."""
        kind = getattr(channel_service_pb2, f"{method}Request")
        if "request_id" in kind.DESCRIPTOR.fields_by_name:
            fields["request_id"] = self._new_id()
        return await self._answer(getattr(self._people, method), kind(**fields))

    def follow(self, identity: str, session_id: str) -> Any:
        """Returns a call that reads a session from its beginning on."""
        request = channel_service_pb2.FollowSessionRequest(identity=identity, session_id=session_id)
        return self._people.FollowSession(request, metadata=self._metadata)

    async def upload(self, identity: str, name: str, data: bytes, content_type: str) -> str:
        """Uploads a file and returns its id; raises CapsuleError."""

        async def parts() -> AsyncIterator[file_service_pb2.UploadFileRequest]:
            header = file_service_pb2.UploadHeader(
                caller=file_service_pb2.FileCaller(identity=identity),
                request_id=self._new_id(),
                name=name,
                content_type=content_type,
                size=len(data),
                sha256=hashlib.sha256(data).digest(),
            )
            yield file_service_pb2.UploadFileRequest(header=header)
            for at in range(0, len(data), _PIECE):
                yield file_service_pb2.UploadFileRequest(data=data[at : at + _PIECE])

        answer = await self._answer(self._files.UploadFile, parts())
        return str(answer.file.file_id)

    async def advance(self, by: timedelta) -> datetime:
        """Puts the sidecar's clock forward; returns the time that it is then."""
        span = Duration()
        span.FromTimedelta(by)
        answer = await self._answer(
            self._admin.AdvanceClock, admin_service_pb2.AdvanceClockRequest(by=span)
        )
        moment: datetime = answer.time.ToDatetime(tzinfo=UTC)
        return moment

    async def _answer(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, metadata=self._metadata, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            told = from_rpc(error)
            if told.reason == "INTERNAL":  # its log goes with the sidecar
                told.add_note(f"The sidecar has logged:\n{self._log()}")
            raise told from error
