"""What is told of an upload before its bytes, and what they turn out to be."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from capsule_sidecar.model.errors import DigestMismatch, LimitExceeded


@dataclass(frozen=True, slots=True)
class Upload:
    """What is uploaded, as it was told.

    Attributes:
        request_id: A UUID.
        name: A name, of whatever kind.
        content_type: A media type, or nothing.
        size: Bytes, where it was told.
        sha256: The digest, where it was told.
    """

    request_id: str
    name: str = ""
    content_type: str = ""
    size: int | None = None
    sha256: bytes = b""


class Taken:
    """What has come of an upload: how much, and its digest.

    Args:
        upload: What was told of it.
        maximum: Bytes that a file may have.
    """

    def __init__(self, upload: Upload, maximum: int) -> None:
        self._upload = upload
        self._maximum = maximum
        self._size = 0
        self._sha256 = hashlib.sha256()

    async def counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the same pieces.

        Raises:
            LimitExceeded: It becomes too large.
            DigestMismatch: It becomes larger than it was told.
        """
        told = self._upload.size
        async for chunk in chunks:
            self._size += len(chunk)
            check_size(self._size, self._maximum)
            if told is not None and self._size > told:
                raise DigestMismatch(f"the file has more than {told} bytes", size=self._size)
            self._sha256.update(chunk)
            yield chunk

    def checked(self) -> tuple[int, bytes]:
        """Return the size and the digest.

        Raises:
            DigestMismatch: They are not those that were told.
        """
        told, digest_ = self._upload, self._sha256.digest()
        if told.size is not None and told.size != self._size:
            raise DigestMismatch(
                f"the file has {self._size} bytes, not {told.size}", size=self._size
            )
        if told.sha256 and told.sha256 != digest_:
            raise DigestMismatch("the file has another SHA-256", sha256=digest_.hex())
        return self._size, digest_


def check_size(size: int, maximum: int) -> None:
    """Check how large a file is.

    Raises:
        LimitExceeded: It is too large.
    """
    if size > maximum:
        raise LimitExceeded("max_file_bytes", maximum, f"a file has at most {maximum} bytes")
