"""Where the sidecar is and what opens it: CAPSULE_ADDRESS, CAPSULE_TOKEN, CAPSULE_HOME."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from capsule_client.errors import InvalidArgument

DEFAULT_ADDRESS = "127.0.0.1:7400"
_HTTPS_PORT = 443


@dataclass(frozen=True, slots=True)
class Address:
    """What gRPC dials.

    Attributes:
        target: As `127.0.0.1:7400` or `unix:/run/capsule.sock`.
        secure: Whether it speaks TLS.
    """

    target: str
    secure: bool = False


def address_of(given: str | None) -> Address:
    """Returns the address from an argument, else from CAPSULE_ADDRESS, else the default.

    Takes `host:port`, `unix:path` and `https://host[:port]`; raises InvalidArgument otherwise.
    """
    text = given or os.environ.get("CAPSULE_ADDRESS", "") or DEFAULT_ADDRESS
    if text.startswith("unix:"):
        return Address(text)
    if text.startswith("https://"):
        host = text.removeprefix("https://").rstrip("/")
        if not host or "/" in host:
            raise InvalidArgument(f"CAPSULE_ADDRESS: {text!r} is not https://host[:port]")
        has_port = ":" in host.rpartition("]")[2]  # [::1] has colons of its own
        return Address(host if has_port else f"{host}:{_HTTPS_PORT}", secure=True)
    if "://" in text or not text.rpartition(":")[2].isdigit():
        raise InvalidArgument(
            f"CAPSULE_ADDRESS: {text!r} is none of host:port, unix:path, https://host[:port]"
        )
    return Address(text)


class TokenSource:
    """The token: an argument, CAPSULE_TOKEN, or the `token` file of the home.

    The file is read anew for every attach, since the sidecar may write it after this process began.
    """

    def __init__(self, given: str | None) -> None:
        self._fixed = given or os.environ.get("CAPSULE_TOKEN", "")
        self.path = Path(os.environ.get("CAPSULE_HOME") or ".capsule") / "token"

    @property
    def fixed(self) -> bool:
        """Whether the token was named, so that reading it again gives nothing new."""
        return bool(self._fixed)

    def read(self) -> str:
        """Returns the token; empty where the file is not there yet."""
        if self._fixed:
            return self._fixed
        try:
            return self.path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
