"""Frames as bytes: each is encoded once, and a batch is nothing but frames in a row."""

from __future__ import annotations

from capsule_protocol.v1.handler_service_pb2 import AttachRequest, HandlerFrame

# The field key of AttachRequest.frames: its number, length-delimited.
_FRAME_KEY = AttachRequest.DESCRIPTOR.fields_by_name["frames"].number << 3 | 2

MAX_BATCH_BYTES = 1024 * 1024


def encode(frame: HandlerFrame) -> bytes:
    """Returns a frame as an item of an AttachRequest: joined, items are a whole message."""
    body = frame.SerializeToString()
    size = len(body)
    if size < 0x80:
        return bytes((_FRAME_KEY, size)) + body
    head = bytearray((_FRAME_KEY,))
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + body
