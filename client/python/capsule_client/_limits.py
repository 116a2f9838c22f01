"""What the sidecar takes, as its last welcome said."""

from __future__ import annotations

from dataclasses import dataclass

from capsule_protocol.v1 import handler_service_pb2

_KIB = 1024


@dataclass(slots=True)
class Limits:
    """The welcome's limits; before the first one, the protocol's own defaults. Bytes each."""

    max_commands_in_flight: int = 4096
    max_bytes_in_flight: int = 16 * _KIB * _KIB
    stream_window_bytes: int = _KIB * _KIB
    max_text_bytes: int = 256 * _KIB
    max_message_bytes: int = 4 * _KIB * _KIB
    max_file_bytes: int = 100 * _KIB * _KIB

    def take_over(self, limits: handler_service_pb2.Limits) -> None:
        """Takes over what a welcome names; what it leaves out stays."""
        for name in self.__slots__:
            value = getattr(limits, name)
            if value > 0:
                setattr(self, name, value)
