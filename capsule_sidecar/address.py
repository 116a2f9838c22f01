"""Where to listen: a TCP address or a Unix socket, written as one string."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """A TCP host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def loopback(self) -> bool:
        """True where nobody beyond this machine can connect."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def with_port(self, port: int) -> Address:
        """Returns the address with the port that was picked for port 0."""
        return Address(self.host, port, self.path)

    def __str__(self) -> str:
        """Returns the form that gRPC binds and connects to."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parses `HOST:PORT`, `[V6]:PORT` or `unix:PATH`. Raises `ValueError` that says the form."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError("unix: needs a path, as unix:/run/capsule.sock")
        return Address(path=path)
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:\[\]/]+)):(\d{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT or unix:PATH")
    return Address(match[1] or match[2], int(match[3]))


def is_taken(address: Address) -> bool:
    """Returns whether somebody listens on a HOST:PORT already; never true of a path or port 0."""
    if address.path or address.port == 0:
        return False
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
            probe.listen(1)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
