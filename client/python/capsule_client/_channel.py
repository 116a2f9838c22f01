"""gRPC channels to the sidecar, asynchronous for the line, synchronous for the watchdog."""

from __future__ import annotations

import grpc
import grpc.aio

from capsule_client._settings import Address
from capsule_protocol.v1 import collection_service_pb2, file_service_pb2, handler_service_pb2

_SERVICE = handler_service_pb2.DESCRIPTOR.services_by_name["HandlerService"]
_FILES = file_service_pb2.DESCRIPTOR.services_by_name["FileService"]
_COLLECTIONS = collection_service_pb2.DESCRIPTOR.services_by_name["CollectionService"]
ATTACH = f"/{_SERVICE.full_name}/Attach"
BEAT = f"/{_SERVICE.full_name}/Beat"
UPLOAD = f"/{_FILES.full_name}/UploadFile"
DOWNLOAD = f"/{_FILES.full_name}/DownloadFile"
FIND = f"/{_COLLECTIONS.full_name}/Find"

_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # Beats notice a dead line; these notice a dead connection that a proxy keeps open.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A sidecar that comes back is found at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A new channel is a new connection, also where an old one to the same place hangs.
    ("grpc.use_local_subchannel_pool", 1),
]


def open_channel(address: Address) -> grpc.aio.Channel:
    """Opens an asynchronous channel; the caller closes it."""
    if address.secure:
        return grpc.aio.secure_channel(
            address.target, grpc.ssl_channel_credentials(), options=_OPTIONS
        )
    return grpc.aio.insecure_channel(address.target, options=_OPTIONS)


def open_sync_channel(address: Address) -> grpc.Channel:
    """Opens a synchronous channel; the caller closes it."""
    if address.secure:
        return grpc.secure_channel(address.target, grpc.ssl_channel_credentials(), _OPTIONS)
    return grpc.insecure_channel(address.target, _OPTIONS)


def metadata(app: str, token: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that every call carries."""
    return (("authorization", f"Bearer {token}"), ("capsule-app", app))
