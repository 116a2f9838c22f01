"""Signing in from a browser: guests, and the cookies that stand for whoever signed in."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from functools import partial

from capsule_sidecar.model.errors import Unauthenticated
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.storage import logins
from capsule_sidecar.storage.journal import Journal
from capsule_sidecar.storage.logins import Login
from capsule_sidecar.storage.people import Person

CHANNEL = "chat"
_TOKEN_BYTES = 32
# Another sidecar of the same database may have ended a login: it is not believed for longer.
_KNOWN_SECONDS = 5.0
_KNOWN = 10_000
# A login that is used is prolonged once a day, or in a tenth of its time, not with each request.
_PROLONG_MS = 24 * 3_600_000


class SignIns:
    """Who is signed in.

    Args:
        journal: Where it is kept.
        ttl: Seconds until a login that is not used ends.
    """

    def __init__(self, journal: Journal, ttl: float) -> None:
        self._journal = journal
        self._ttl_ms = round(ttl * 1000)
        self._prolong_ms = min(_PROLONG_MS, self._ttl_ms // 10)
        self._known: OrderedDict[tuple[int, bytes], tuple[Login, float]] = OrderedDict()

    @property
    def ttl(self) -> int:
        """Seconds until a login that is not used ends."""
        return self._ttl_ms // 1000

    async def guest(self, app: int, app_name: str) -> tuple[str, Login]:
        """Sign a new guest in.

        Returns:
            The token that the cookie carries, and who it stands for.
        """
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        person = Person(app, app_name, f"{CHANNEL}:{new_id('guest')}")
        login = await self._journal.submit(
            app,
            partial(
                logins.sign_in, person=person, method="guest", token=_digest(token),
                ttl_ms=self._ttl_ms,
            ),
        )  # fmt: skip
        return token, login

    async def who(self, app: int, token: str) -> Login:
        """Return who a token stands for in an app.

        Raises:
            Unauthenticated: Nobody, or its time is over.
        """
        key = (app, _digest(token))
        known = self._known.get(key)
        now_ms = self._journal.clock.now_ms()
        if known is not None and time.monotonic() - known[1] < _KNOWN_SECONDS:
            login = known[0]
            if login.expire_ms > now_ms:
                return login
        found = await self._journal.read(partial(logins.find, app=app, token=key[1]))
        if found is None or found.expire_ms <= now_ms:
            self._known.pop(key, None)
            raise Unauthenticated("nobody is signed in with this cookie; sign in again")
        if now_ms - found.seen_ms > self._prolong_ms:
            self._journal.start(app, partial(logins.prolong, token=key[1], ttl_ms=self._ttl_ms))
        self._known[key] = (found, time.monotonic())
        self._known.move_to_end(key)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return found

    async def sign_out(self, app: int, token: str) -> None:
        """End a login; one that is not known has ended already."""
        key = (app, _digest(token))
        self._known.pop(key, None)
        await self._journal.submit(app, partial(logins.sign_out, token=key[1]))
        self._known.pop(key, None)  # read by another request meanwhile


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
