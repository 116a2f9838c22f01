"""The demo's data and endpoints: asked over HTTP, answered by this process, kept nowhere.

curl 'http://127.0.0.1:7480/apps/demo/data/stats?days=3'
curl -d '{"note": "hello"}' http://127.0.0.1:7480/apps/demo/api/echo/one
"""

from __future__ import annotations

import dataclasses
import os
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import capsule_client as capsule

HELP = """\
- over HTTP: `curl 'http://127.0.0.1:7480/apps/demo/data/stats?days=3'` asks the demo's `stats` \
data handler, `curl -d hi http://127.0.0.1:7480/apps/demo/api/echo/one` its endpoint"""

_STARTED = time.monotonic()


@dataclasses.dataclass
class Day:
    """What is told of a day; made up, the same for each date."""

    date: date
    messages: int


@dataclasses.dataclass
class Stats:
    """What `stats` answers."""

    asked_at: datetime
    process: int
    up_seconds: int
    days: list[Day]


async def stats(
    ctx: capsule.RequestContext, days: int = 7, order: Literal["oldest", "newest"] = "oldest"
) -> Stats:
    """Answers with figures; `days=many` is answered by 400, which names the parameter."""
    now = datetime.now(UTC)
    dates = [now.date() - timedelta(days=n) for n in range(min(max(days, 0), 365))]
    shown = [Day(each, each.toordinal() * 7919 % 100) for each in dates]
    if order == "oldest":
        shown.reverse()
    return Stats(now, os.getpid(), int(time.monotonic() - _STARTED), shown)


async def me(ctx: capsule.RequestContext) -> dict[str, Any]:
    """Says who asks; the sidecar lets nobody through who is not signed in."""
    assert ctx.user is not None
    return {"id": ctx.user.id, "owner_id": ctx.user.owner_id}


async def echo(ctx: capsule.RequestContext, name: str) -> capsule.Response:
    """Answers with what it was sent, and with what is left of its headers."""
    told = {
        "name": name,
        "body": ctx.request.text(),
        "query": ctx.request.query,
        "headers": ctx.request.headers,
    }
    return capsule.Response(201, {"x-demo": "echo"}, told)


def declare(app: capsule.App) -> None:
    """Has an app answer them."""
    app.data("stats")(stats)
    app.data("me", access="authenticated")(me)
    app.endpoint("POST", "/echo/{name}")(echo)
