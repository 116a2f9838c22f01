"""Tokens: the home's reaches everything, an app's its handlers, a channel's its people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from capsule_sidecar.model.errors import InvalidArgument, PermissionDenied, Unauthenticated
from capsule_sidecar.names import APP_NAME


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token reaches.

    Attributes:
        app: The one app; empty for every app.
        channel: The one channel; empty for none or, with the home's token, every channel.
        operator: It is the home's token.
        declared: The apps that may be named; empty for any name.
    """

    app: str = ""
    channel: str = ""
    operator: bool = False
    declared: frozenset[str] = frozenset()

    def check_app(self, app: str, field: str) -> None:
        """Refuse an app that the token does not reach.

        Args:
            app: Its name.
            field: Where it was named, for the error.

        Raises:
            InvalidArgument: The name is malformed.
            PermissionDenied: It is another app than the token's, or is not declared.
        """
        if not APP_NAME.fullmatch(app):
            raise InvalidArgument(
                field, "must be 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or a digit"
            )
        if self.app and app != self.app:
            raise PermissionDenied(f"this token is of app {self.app!r}, not {app!r}")
        if self.declared and app not in self.declared:
            raise PermissionDenied(f"app {app!r} is not declared in the configuration")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, for which app."""

    app: str
    grant: Grant

    def require_app(self) -> str:
        """Return the app that is asked for.

        Raises:
            InvalidArgument: None is named.
        """
        if not self.app:
            raise InvalidArgument("capsule-app", "the metadata must name the app")
        return self.app

    def require_handler(self) -> None:
        """Refuse who is no handler.

        Raises:
            PermissionDenied: It is a channel's token.
        """
        if self.grant.channel:
            raise PermissionDenied("this token is a channel's; a handler needs its app's")

    def require_operator(self) -> None:
        """Refuse who is not the operator.

        Raises:
            PermissionDenied: It is not the home's token.
        """
        if not self.grant.operator:
            raise PermissionDenied("this needs the operator's token")

    def require_identity(self, identity: str) -> None:
        """Refuse who may not act for an identity.

        Raises:
            PermissionDenied: The identity is another channel's, or the token is a handler's.
        """
        self.require_channel(identity.partition(":")[0])

    def require_channel(self, channel: str) -> None:
        """Refuse who may not act for a channel.

        Raises:
            PermissionDenied: It is another channel, or the token is a handler's.
        """
        if self.grant.operator:
            return
        if not self.grant.channel:
            raise PermissionDenied("this token is an app's; people are reached by a channel's")
        if channel != self.grant.channel:
            raise PermissionDenied(
                f"this token acts for {self.grant.channel}:* only", channel=self.grant.channel
            )


class Tokens:
    """The tokens that are known, by their digests: the time of a look-up tells nothing.

    Args:
        home: The home's token.
        declared: (token, app, channel) of every other one; the channel is empty for handlers.
        apps: The apps that are declared; empty where any name may be served.
    """

    def __init__(
        self, home: str, declared: Iterable[tuple[str, str, str]], apps: Iterable[str]
    ) -> None:
        self._grants = {_digest(home): Grant(operator=True, declared=frozenset(apps))}
        for token, app, channel in declared:
            self._grants[_digest(token)] = Grant(app, channel)
        # Who asked how: the same few tokens and apps come with every call.
        self._known: dict[tuple[str, str], Principal] = {}

    def principal(self, authorization: str, app: str) -> Principal:
        """Return who is asking.

        Args:
            authorization: `Bearer <token>`.
            app: The app that is asked for; empty: the token's.

        Raises:
            Unauthenticated: No token, or one that is not known.
            PermissionDenied: The token does not reach the app, or the app is not declared.
            InvalidArgument: The app's name is malformed.
        """
        known = self._known.get((authorization, app))
        if known is None:
            known = self._find(authorization, app)
            if len(self._known) >= 1_000:
                self._known.clear()
            self._known[authorization, app] = known
        return known

    def _find(self, authorization: str, app: str) -> Principal:
        scheme, _, token = authorization.partition(" ")
        grant = self._grants.get(_digest(token)) if scheme.lower() == "bearer" else None
        if grant is None:
            raise Unauthenticated(
                "no token was sent; send the metadata authorization: Bearer TOKEN"
                if not authorization
                else "the token is not known"
            )
        if app:
            grant.check_app(app, "capsule-app")
        return Principal(grant.app or app, grant)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
