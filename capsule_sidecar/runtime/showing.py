"""What a handler's request to show an image must be."""

from __future__ import annotations

from capsule_sidecar.config import Limits
from capsule_sidecar.model.errors import InvalidArgument
from capsule_sidecar.model.ids import digest, parse_request_id
from capsule_sidecar.model.types import Lease
from capsule_sidecar.runtime.checks import check_length
from capsule_sidecar.storage.requests import Method, Request

_MAX_WIDTH = 4_096


def image_request(
    limits: Limits, lease: Lease, request_id: str, file_id: str, alt: str, width: int
) -> Request:
    """Return the identity of a request to show an image.

    Raises:
        InvalidArgument: A field is malformed.
        LimitExceeded: The alternative text is too long.
    """
    if not file_id:
        raise InvalidArgument("file_id", "is required")
    check_length("alt", alt, limits.max_alt_chars)
    if not 0 <= width <= _MAX_WIDTH:
        raise InvalidArgument("width", f"must be 1 to {_MAX_WIDTH}, or 0 for as wide as it is")
    content = digest(lease.invocation_id, file_id, alt, str(width))
    return Request(Method.SHOW_IMAGE, parse_request_id(request_id), content)
