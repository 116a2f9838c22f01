"""What a request meets before any route, where a route itself is at fault."""

from __future__ import annotations

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from capsule_sidecar.web.front import Front
from capsule_sidecar.web.metrics import Metrics


async def test_a_connection_that_a_route_has_lost_elsewhere_is_told_as_a_fault_of_ours() -> None:
    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/lost":
            raise ConnectionResetError("a database at 10.0.0.7 has gone")
        await JSONResponse({"path": Request(scope).url.path})(scope, receive, send)

    front = Front(route, ["here"], None, Metrics(dict, dict))
    transport = httpx.ASGITransport(front)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        assert (await client.get("/fine")).status_code == 200
        answer = await client.get("/lost")
    assert answer.status_code == 500
    assert answer.json()["reason"] == "INTERNAL"
    assert answer.json()["metadata"]["reference_id"].startswith("ref_")
    assert "10.0.0.7" not in answer.text
