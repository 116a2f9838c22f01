"""The gRPC server: services, health, reflection, and where it listens."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from capsule_protocol.v1 import (
    admin_service_pb2,
    channel_service_pb2,
    collection_service_pb2,
    file_service_pb2,
    handler_service_pb2,
    session_service_pb2,
    state_service_pb2,
    task_service_pb2,
)
from capsule_sidecar.address import Address
from capsule_sidecar.config import Settings
from capsule_sidecar.identity.tokens import Tokens
from capsule_sidecar.rpc.admin_service import AdminService
from capsule_sidecar.rpc.channel_service import ChannelService
from capsule_sidecar.rpc.file_service import FileService
from capsule_sidecar.rpc.guard import Guard
from capsule_sidecar.rpc.handler_services import HandlerService, SessionService
from capsule_sidecar.rpc.state_services import CollectionService, StateService
from capsule_sidecar.rpc.task_service import TaskService

_SERVICES: tuple[ServiceDescriptor, ...] = (
    handler_service_pb2.DESCRIPTOR.services_by_name["HandlerService"],
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    state_service_pb2.DESCRIPTOR.services_by_name["StateService"],
    collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"],
    task_service_pb2.DESCRIPTOR.services_by_name["TaskService"],
    channel_service_pb2.DESCRIPTOR.services_by_name["ChannelService"],
    file_service_pb2.DESCRIPTOR.services_by_name["FileService"],
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
# How long calls are kept before the server stops.
_HOLDING_SECONDS = 0.1
SERVICES = tuple(service.full_name for service in _SERVICES)


class Server:
    """A gRPC server of all services.

    Args:
        settings: Where it listens, and its limits.
        tokens: Who is let in.
        handlers: HandlerService.
        sessions: SessionService.
        state: StateService.
        collections: CollectionService.
        tasks: TaskService.
        channels: ChannelService.
        files: FileService.
        admin: AdminService.
    """

    def __init__(
        self,
        settings: Settings,
        tokens: Tokens,
        handlers: HandlerService,
        sessions: SessionService,
        state: StateService,
        collections: CollectionService,
        tasks: TaskService,
        channels: ChannelService,
        files: FileService,
        admin: AdminService,
    ) -> None:
        self._settings = settings
        self._health = health.aio.HealthServicer()
        size = settings.limits.max_message_bytes
        self._guard = Guard(tokens)
        self._server = grpc.aio.server(
            interceptors=[self._guard],
            options=[
                ("grpc.max_receive_message_length", size),
                ("grpc.max_send_message_length", size + 65_536),
                # Two sidecars must not share a port without knowing it.
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ],
        )
        servicers = (handlers, sessions, state, collections, tasks, channels, files, admin)
        self._server.add_generic_rpc_handlers(tuple(map(_service_handler, _SERVICES, servicers)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.grpc_address.loopback:
            reflection.enable_server_reflection(
                (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
            )

    async def start(self) -> Address:
        """Listen and serve.

        Returns:
            The address, with the port that was picked.

        Raises:
            RuntimeError: The address cannot be bound.
        """
        address = self._settings.grpc_address
        tls = self._settings.tls
        if tls.cert_file is not None and tls.key_file is not None:
            pair = (tls.key_file.read_bytes(), tls.cert_file.read_bytes())
            port = self._server.add_secure_port(str(address), grpc.ssl_server_credentials([pair]))
        else:
            port = self._server.add_insecure_port(str(address))
        await self._server.start()
        await self.healthy(True)
        return address if address.path else address.with_port(port)

    async def healthy(self, serving: bool) -> None:
        """Say whether the services serve."""
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Take no new call, and end those that run when the grace is over."""
        await self._health.enter_graceful_shutdown()
        # A call that gRPC has not taken yet when it stops ends as CANCELLED, which callers do not
        # try again. So calls are taken and kept first, and refused when no other can come.
        self._guard.hold()
        await asyncio.sleep(_HOLDING_SECONDS)
        stopping = asyncio.create_task(self._server.stop(grace), name="stop")
        await asyncio.sleep(0)
        self._guard.refuse()
        await stopping


def _service_handler(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """Return what serves a service: each method of its descriptor by the servicer's of that name.

    The batches of streams are encoded by whoever makes them, once for all who get them, so streams
    send bytes as they are; that is what generated servicers cannot do.
    """
    handlers = {}
    for method in service.methods:
        if not hasattr(servicer, method.name):
            continue  # being written: answered as UNIMPLEMENTED
        make: Any = grpc.unary_unary_rpc_method_handler
        serialize: Any = _message
        if method.client_streaming and not method.server_streaming:
            make = grpc.stream_unary_rpc_method_handler
        elif method.client_streaming:
            make, serialize = grpc.stream_stream_rpc_method_handler, _encoded
        elif method.server_streaming:
            make, serialize = grpc.unary_stream_rpc_method_handler, _encoded
        handlers[method.name] = make(
            getattr(servicer, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=serialize,
        )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _message(message: Message) -> bytes:
    return message.SerializeToString()


def _encoded(data: bytes) -> bytes:
    return data
