"""What a request carries besides its body: its query, and who sends it."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from capsule_sidecar.identity.sign_ins import SignIns
from capsule_sidecar.model.errors import InvalidArgument, NotFound, Unauthenticated
from capsule_sidecar.runtime.apps import Apps
from capsule_sidecar.runtime.conversations import Caller
from capsule_sidecar.runtime.rates import Rate
from capsule_sidecar.storage.logins import Login
from capsule_sidecar.web.json_form import encode_bytes

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{0,5})?")


class JSON(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of a JSON value."""
        return encode_bytes(content)


def integer(query: Mapping[str, str], name: str, maximum: int = (1 << 63) - 1) -> int:
    """Return a whole number of the query; 0 where it is not given.

    Raises:
        InvalidArgument: It is not a whole number from 0 on, within its range.
    """
    text = query.get(name, "0")
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > maximum:
        raise InvalidArgument(name, f"must be a whole number from 0 to {maximum}")
    return int(text)


def request_id_of(given: str) -> str:
    """Return the request id to act under: a new one where none was given.

    A client that gives none cannot send again without risking to do the same thing twice.
    """
    return given or str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request: signed in, to an app.

    Attributes:
        app: The app's number.
        caller: Who acts.
        login: How they signed in.
        token: The value of their cookie.
        new: They were signed in just now.
    """

    app: int
    caller: Caller
    login: Login
    token: str
    new: bool = False


class Visitors:
    """Finds out who sends a request.

    Args:
        apps: The apps.
        sign_ins: Who is signed in.
        guests: How often one address may become a guest.
        closed: The apps that let no guests in.
        own_hosts: The app that each host name of its own serves.
        secure: Cookies are for https alone.
    """

    def __init__(
        self,
        apps: Apps,
        sign_ins: SignIns,
        guests: Rate,
        closed: frozenset[str],
        own_hosts: Mapping[str, str],
        *,
        secure: bool,
    ) -> None:
        self.apps = apps
        self._sign_ins = sign_ins
        self._guests = guests
        self._closed = closed
        self._own_hosts = dict(own_hosts)
        self._secure = secure

    def methods(self, app: str) -> list[str]:
        """Return how people sign in to an app."""
        return [] if app in self._closed else ["guest"]

    def host_app(self, request: Request) -> str:
        """Return the one app that the request's host serves; empty: all of them."""
        return self._own_hosts.get(host_name(request.headers.get("host", "")), "")

    async def app(self, request: Request) -> tuple[int, str]:
        """Return the number and name of the app that a request is for.

        Raises:
            NotFound: There is none of this name on this host.
        """
        name = str(request.path_params["app"])
        if self.host_app(request) not in ("", name):
            raise NotFound("there is no such app on this host", app=name[:63])
        return await self.apps.find(name), name

    async def visitor(self, request: Request, *, welcome: bool = False) -> Visitor:
        """Return who sends a request.

        Args:
            request: The request.
            welcome: Who is not signed in becomes a guest, where the app lets guests in.

        Raises:
            NotFound: There is no such app.
            Unauthenticated: Nobody is signed in, or in a way that the app takes no more.
            RateLimited: Too many guests came from this address.
        """
        app, name = await self.app(request)
        token = request.cookies.get(cookie_name(name), "")
        try:
            if not token:
                raise Unauthenticated("nobody is signed in: POST to .../auth/guest, or to sign in")
            login = await self._sign_ins.who(app, token)
            if login.method not in self.methods(name):
                raise Unauthenticated("this app does not take the way you signed in any more")
        except Unauthenticated:
            if not welcome or name in self._closed:
                raise
            self._guests.take(network_of(request.client.host if request.client else ""))
            token, login = await self._sign_ins.guest(app, name)
            return Visitor(app, Caller(name, login.identity), login, token, new=True)
        return Visitor(app, Caller(name, login.identity), login, token)

    async def check(self, visitor: Visitor) -> None:
        """See whether a visitor is signed in still.

        Raises:
            Unauthenticated: They are not.
        """
        await self._sign_ins.who(visitor.app, visitor.token)

    def remember(self, response: Response, visitor: Visitor) -> Response:
        """Give the response the visitor's cookie, whose time begins anew."""
        name = visitor.caller.app
        response.set_cookie(
            cookie_name(name), visitor.token, max_age=self._sign_ins.ttl, path=f"/apps/{name}",
            secure=self._secure, httponly=True, samesite="lax",
        )  # fmt: skip
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the login of a request's cookie and drop the cookie."""
        app, name = await self.app(request)
        token = request.cookies.get(cookie_name(name), "")
        if token:
            await self._sign_ins.sign_out(app, token)
        response = Response(status_code=204)
        response.delete_cookie(
            cookie_name(name), path=f"/apps/{name}", secure=self._secure, httponly=True,
            samesite="lax",
        )  # fmt: skip
        return response


def host_name(host: str) -> str:
    """Return the name that a `Host` header holds, in lower case; empty: none that can be read."""
    match = _HOST.fullmatch(host.lower())
    return match[1].strip("[]").removesuffix(".") if match else ""


def network_of(address: str) -> str:
    """Return what one visitor has of addresses: the address, of IPv6 the network of 64 bits.

    Whoever has one address of such a network has all of them.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address  # a socket of this machine, or a proxy's word
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def cookie_name(app: str) -> str:
    """Return the name of an app's cookie: apps of one origin are signed in to one by one."""
    return f"capsule_{app}"
