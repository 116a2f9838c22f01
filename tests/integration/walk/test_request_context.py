"""`RequestContext`: data and endpoint handlers, asked by HTTP."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pydantic
import pytest

import capsule_client as capsule
from tests.integration.walk.stage import app_of, walks
from tests.support.sidecar import Running


@asynccontextmanager
async def serving(
    sidecar: Running, prepare: Callable[[capsule.App], object], *, guest: bool = False
) -> AsyncIterator[httpx.AsyncClient]:
    """Attaches an app with these handlers; a client at its address, perhaps signed in."""
    app = app_of(sidecar)
    prepare(app)
    address = f"{sidecar.http}/apps/{app.name}"
    async with (
        app.attached(),
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=20) as http,
    ):
        if guest:
            assert (await http.post("/auth/guest")).status_code in (200, 201)
        yield http


@walks(
    "App.data", "App.endpoint", "RequestContext.user", "RequestContext.authenticated", "UserInfo",
)  # fmt: skip
@pytest.mark.parametrize("guest", [True, False], ids=["a guest", "nobody"])
async def test_who_asks_is_the_user_and_an_anonymous_caller_is_none(
    sidecar: Running, guest: bool
) -> None:
    seen: list[Any] = []

    def prepare(app: capsule.App) -> None:
        @app.data("who")
        async def who(ctx: capsule.RequestContext) -> None:
            seen.append((ctx.user, ctx.authenticated))

        @app.endpoint("GET", "/who")
        async def who_too(ctx: capsule.RequestContext) -> None:
            seen.append((ctx.user, ctx.authenticated))

    async with serving(sidecar, prepare, guest=guest) as http:
        for path in ("/data/who", "/api/who"):
            assert (await http.get(path)).status_code == 200
    for user, authenticated in seen:
        assert isinstance(user, capsule.UserInfo) is guest
        assert authenticated is guest
    assert len(seen) == 2


@walks(
    "RequestContext.request", "Request.method", "Request.path", "Request.query",
    "Request.headers", "Request.body",
)  # fmt: skip
async def test_the_request_is_told_with_method_path_query_headers_and_body(
    sidecar: Running,
) -> None:
    seen: list[capsule.Request] = []

    def prepare(app: capsule.App) -> None:
        @app.endpoint("POST", "/orders/{number}")
        async def order(ctx: capsule.RequestContext, number: int) -> None:
            seen.append(ctx.request)

    async with serving(sidecar, prepare) as http:
        await http.post(
            "/api/orders/17?a=1&b=%C3%BC", content=b"\x00words", headers={"X-Mine": "m"}
        )
    (request,) = seen
    assert (request.method, request.path) == ("POST", "/orders/17")
    assert dict(request.query) == {"a": "1", "b": "ü"}
    assert request.headers["x-mine"] == "m"
    assert request.body == b"\x00words"


@walks("RequestContext.db")
async def test_db_reaches_the_documents_of_who_asks(sidecar: Running) -> None:
    def prepare(app: capsule.App) -> None:
        app.collection("notes", scope="user")

        @app.endpoint("POST", "/notes")
        async def add(ctx: capsule.RequestContext) -> None:
            await ctx.db.notes.insert_one({"text": ctx.request.text()})

        @app.data("notes")
        async def notes(ctx: capsule.RequestContext) -> list[str]:
            return [one["text"] async for one in ctx.db.notes.find()]

    async with serving(sidecar, prepare, guest=True) as http:
        await http.post("/api/notes", content="mine")
        assert (await http.get("/data/notes")).json() == ["mine"]
        http.cookies.clear()
        await http.post("/auth/guest")
        assert (await http.get("/data/notes")).json() == []


@walks("App.data", "query parameters")
async def test_query_parameters_become_arguments_converted_by_their_annotations(
    sidecar: Running,
) -> None:
    def prepare(app: capsule.App) -> None:
        @app.data("sum")
        async def total(
            ctx: capsule.RequestContext, days: int, by: float = 1.5, deep: bool = False
        ) -> list[Any]:
            return [days, by, deep]

    async with serving(sidecar, prepare) as http:
        assert (await http.get("/data/sum?days=7")).json() == [7, 1.5, False]
        assert (await http.get("/data/sum?days=7&by=2&deep=true")).json() == [7, 2.0, True]


@walks("App.data", "query parameters")
async def test_a_bad_query_parameter_is_400_and_named(sidecar: Running) -> None:
    def prepare(app: capsule.App) -> None:
        @app.data("sum")
        async def total(ctx: capsule.RequestContext, days: int) -> int:
            return days

    async with serving(sidecar, prepare) as http:
        refused = await http.get("/data/sum?days=many")
    assert refused.status_code == 400
    assert "days" in refused.json()["detail"]


class Model(pydantic.BaseModel):
    n: int


@dataclasses.dataclass
class Data:
    n: int


RETURNED = {
    "dict": {"n": 1}, "list": [1, "a"], "str": "text", "int": 7, "float": 1.5, "bool": True,
    "None": None, "pydantic": Model(n=1), "dataclass": Data(n=1),
}  # fmt: skip


@walks("App.data", "App.endpoint", "return values")
@pytest.mark.parametrize("kind", RETURNED)
async def test_what_is_returned_is_sent_as_json(sidecar: Running, kind: str) -> None:
    def prepare(app: capsule.App) -> None:
        @app.data("value")
        @app.endpoint("GET", "/value")
        async def value(ctx: capsule.RequestContext) -> Any:
            return RETURNED[kind]

    wanted = {"n": 1} if kind in ("pydantic", "dataclass") else RETURNED[kind]
    async with serving(sidecar, prepare) as http:
        for path in ("/data/value", "/api/value"):
            answer = await http.get(path)
            assert answer.headers["content-type"] == "application/json"
            assert answer.json() == wanted


@walks("Response.status", "Response.headers", "Response.body")
async def test_an_endpoint_may_return_a_response(sidecar: Running) -> None:
    def prepare(app: capsule.App) -> None:
        @app.endpoint("PUT", "/thing")
        async def thing(ctx: capsule.RequestContext) -> capsule.Response:
            return capsule.Response(status=201, headers={"x-mine": "m"}, body=b"\x00bytes")

    async with serving(sidecar, prepare) as http:
        answer = await http.put("/api/thing")
    assert (answer.status_code, answer.headers["x-mine"]) == (201, "m")
    assert answer.content == b"\x00bytes"


@walks("access=authenticated", "authorized=True")
@pytest.mark.parametrize("path", ["/data/private", "/api/private"])
async def test_who_is_not_signed_in_is_kept_out_before_the_handler_is_asked(
    sidecar: Running, path: str
) -> None:
    asked: list[Any] = []

    def prepare(app: capsule.App) -> None:
        @app.data("private", access="authenticated")
        async def data(ctx: capsule.RequestContext) -> None:
            asked.append(ctx)

        @app.endpoint("GET", "/private", authorized=True)
        async def endpoint(ctx: capsule.RequestContext) -> None:
            asked.append(ctx)

    async with serving(sidecar, prepare) as http:
        assert (await http.get(path)).status_code == 401
        assert asked == []
        await http.post("/auth/guest")
        assert (await http.get(path)).status_code == 200
        assert len(asked) == 1


@walks("identity headers", "Request.headers")
async def test_headers_that_assert_an_identity_are_stripped(sidecar: Running) -> None:
    asserting = {
        "cookie": "capsule_x=stolen", "forwarded": "for=1.2.3.4",
        "x-forwarded-for": "1.2.3.4", "x-forwarded-user": "root", "x-real-ip": "1.2.3.4",
        "x-remote-user": "root", "x-auth-request-email": "root@example.com",
    }  # fmt: skip
    seen: list[dict[str, str]] = []

    def prepare(app: capsule.App) -> None:
        @app.endpoint("GET", "/headers")
        async def headers(ctx: capsule.RequestContext) -> None:
            seen.append(dict(ctx.request.headers))

    async with serving(sidecar, prepare) as http:
        await http.get("/api/headers", headers=asserting | {"x-mine": "m"})
    assert seen[0]["x-mine"] == "m"
    assert "stolen" not in str(seen)
    assert not asserting.keys() & seen[0].keys()
