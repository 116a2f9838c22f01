"""Data and endpoint handlers, asked by HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

import capsule_client as capsule
from tests.support.eventually import eventually
from tests.support.sidecar import FAST, Running, running_sidecar


@dataclasses.dataclass
class Total:
    days: int
    sum: float


def make(running: Running, **given: Any) -> capsule.App:
    app = capsule.App(
        "support", address=running.address, token=running.token, drain_timeout=0.5, **given
    )

    @app.data("total")
    async def total(ctx: capsule.RequestContext, days: int = 7, by: float = 1.0) -> Total:
        return Total(days, days * by)

    @app.data("who", access="authenticated")
    async def who(ctx: capsule.RequestContext) -> dict[str, Any]:
        assert ctx.user is not None
        return {"id": ctx.user.id, "authenticated": ctx.authenticated}

    @app.data("anyone")
    async def anyone(ctx: capsule.RequestContext) -> list[Any]:
        return [ctx.user and ctx.user.id, ctx.authenticated, capsule.current_session()]

    @app.data("pick")
    async def pick(
        ctx: capsule.RequestContext,
        sort: Literal["up", "down"],
        tags: list[int],
        deep: bool = False,
    ) -> list[Any]:
        return [sort, tags, deep]

    @app.data("fails")
    async def fails(ctx: capsule.RequestContext) -> None:
        raise RuntimeError("secret words")

    @app.data("odd")
    async def odd(ctx: capsule.RequestContext) -> Any:
        return {1, 2}

    @app.data("slow")
    async def slow(ctx: capsule.RequestContext) -> None:
        begun.append("slow")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append("slow")
            raise

    @app.endpoint("GET", "/orders/{order_id}")
    async def order(ctx: capsule.RequestContext, order_id: int) -> dict[str, Any]:
        return {"order": order_id, "path": ctx.request.path}

    @app.endpoint("GET", "/orders/newest")
    async def newest(ctx: capsule.RequestContext) -> str:
        return "newest"

    @app.endpoint("POST", "/echo")
    async def echo(ctx: capsule.RequestContext) -> capsule.Response:
        request = ctx.request
        told = {
            "body": request.text(), "query": list(request.query_pairs),
            "headers": dict(request.headers),
        }  # fmt: skip
        headers = [("x-mine", "1"), ("set-cookie", "a=b"), ("content-security-policy", "none")]
        return capsule.Response(201, headers, told)

    @app.endpoint("POST", "/json")
    async def as_json(ctx: capsule.RequestContext) -> list[Any]:
        return [ctx.request.json()]

    @app.endpoint("GET", "/private", authorized=True)
    async def private(ctx: capsule.RequestContext) -> str:
        return "private"

    @app.endpoint("GET", "/page")
    async def page(ctx: capsule.RequestContext) -> capsule.Response:
        body = "<script>alert(1)</script>"
        return capsule.Response(headers={"content-type": "text/html"}, body=body)

    @app.endpoint("GET", "/huge")
    async def huge(ctx: capsule.RequestContext) -> capsule.Response:
        return capsule.Response(body=b"x" * (8 * 1024 * 1024))

    @app.endpoint("GET", "/large")
    async def large(ctx: capsule.RequestContext) -> capsule.Response:
        return capsule.Response(body=b"x" * (2 * 1024 * 1024 + 1))

    return app


begun: list[str] = []
cancelled: list[str] = []


@asynccontextmanager
async def asked(home: Path, **settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Running]]:
    async with running_sidecar(home, **settings) as running:
        async with make(running).attached(), client(running) as http:
            yield http, running


@asynccontextmanager
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    address = f"{running.http}/apps/support"
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=20) as http:
        yield http


def field_of(response: httpx.Response) -> str:
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    (error,) = response.json()["errors"]
    return str(error["field"])


async def test_a_data_handlers_parameters_are_converted_and_its_answer_is_json(
    tmp_path: Path,
) -> None:
    async with asked(tmp_path) as (http, _):
        answer = await http.get("/data/total", params={"days": "30", "by": "1.5"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"days": 30, "sum": 45.0}
        assert (await http.get("/data/total")).json() == {"days": 7, "sum": 7.0}
        answer = await http.get("/data/pick?sort=up&tags=1&tags=2&deep=yes")
        assert answer.json() == ["up", [1, 2], True]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("total?days=many", "days"),
        ("total?days=1&days=2", "days"),
        ("total?by=nan", "by"),
        ("total?other=1", "other"),
        ("pick?tags=1", "sort"),
        ("pick?sort=left&tags=1", "sort"),
        ("pick?sort=up&tags=x", "tags"),
        ("pick?sort=up&tags=1&deep=perhaps", "deep"),
    ],
)
async def test_a_parameter_that_does_not_fit_is_named(
    tmp_path: Path, query: str, field: str
) -> None:
    async with asked(tmp_path) as (http, _):
        assert field_of(await http.get(f"/data/{query}")) == field


async def test_who_asks_is_told_and_who_is_not_signed_in_is_kept_out(tmp_path: Path) -> None:
    async with asked(tmp_path) as (http, _):
        assert (await http.get("/data/anyone")).json() == [None, False, None]
        for path in ("/data/who", "/api/private"):
            refused = await http.get(path)
            assert (refused.status_code, refused.json()["reason"]) == (401, "UNAUTHENTICATED")
        user = (await http.post("/auth/guest")).json()["user"]["user_id"]
        assert (await http.get("/data/who")).json() == {"id": user, "authenticated": True}
        assert (await http.get("/data/anyone")).json() == [user, True, None]
        assert (await http.get("/api/private")).json() == "private"


async def test_an_endpoint_is_found_by_method_and_path(tmp_path: Path) -> None:
    async with asked(tmp_path) as (http, _):
        answer = await http.get("/api/orders/17")
        assert answer.json() == {"order": 17, "path": "/orders/17"}
        assert (await http.get("/api/orders/newest")).json() == "newest"
        assert field_of(await http.get("/api/orders/seventeen")) == "order_id"
        assert (await http.head("/api/orders/17")).status_code == 200
        wrong = await http.delete("/api/orders/17")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
        for nothing in ("/api/orders", "/api/orders/1/2", "/api/", "/data/nothing"):
            assert (await http.get(nothing)).status_code == 404, nothing


async def test_an_endpoint_sees_the_request_without_what_asserts_an_identity(
    tmp_path: Path,
) -> None:
    async with asked(tmp_path) as (http, _):
        await http.post("/auth/guest")
        answer = await http.post(
            "/api/echo?a=1&a=2&b=",
            content="héllo",
            headers={
                "x-forwarded-user": "root", "remote-user": "root", "x-capsule-user": "root",
                "x-mine": "kept", "cookie": "theirs=1; capsule_support=stolen",
            },
        )  # fmt: skip
        assert answer.status_code == 201
        told = answer.json()
        assert told["body"] == "héllo"
        assert told["query"] == [["a", "1"], ["a", "2"], ["b", ""]]
        headers = told["headers"]
        assert headers["x-mine"] == "kept"
        assert headers["cookie"] == "theirs=1"
        assert not {"x-forwarded-user", "remote-user", "x-capsule-user"} & set(headers)


async def test_what_an_endpoint_answers_cannot_act_for_the_page(tmp_path: Path) -> None:
    async with asked(tmp_path) as (http, _):
        answer = await http.post("/api/echo")
        assert answer.headers["x-mine"] == "1"
        assert "set-cookie" not in answer.headers
        page = await http.get("/api/page")
        assert page.text == "<script>alert(1)</script>"
        assert page.headers["content-security-policy"].startswith("sandbox")
        assert page.headers["x-content-type-options"] == "nosniff"


async def test_the_apps_own_host_keeps_its_cookies_and_policy(tmp_path: Path) -> None:
    apps = {"support": {"host": "support.test"}}
    async with asked(tmp_path, apps=apps) as (http, _):
        answer = await http.post("/api/echo", headers={"host": "support.test"})
        assert answer.headers["set-cookie"] == "a=b"
        assert answer.headers["content-security-policy"] == "none"


async def test_a_handler_that_raises_is_a_reference_and_no_words(tmp_path: Path) -> None:
    async with asked(tmp_path) as (http, _):
        for name in ("fails", "odd"):
            answer = await http.get(f"/data/{name}")
            assert (answer.status_code, answer.json()["reason"]) == (500, "HANDLER_ERROR")
            assert answer.json()["metadata"]["reference_id"] in answer.json()["detail"]
            assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{bad", "is not JSON"),
        (b"", "is not JSON"),
        (b'"\xff"', "is not UTF-8"),
        ('"x"'.encode("utf-16"), "is not UTF-8"),
        (b"[NaN]", "NaN"),
        (b"-Infinity", "-Infinity"),
        (b"1e999", "beyond 64-bit floating point"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5_000, "more than 4,300 digits"),
    ],
)
async def test_a_body_that_is_no_json_is_named_as_a_parameter_is(
    tmp_path: Path, body: bytes, why: str
) -> None:
    async with asked(tmp_path) as (http, _):
        answer = await http.post("/api/json", content=body)
        assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_ARGUMENT")
        (error,) = answer.json()["errors"]
        assert error["field"] == "body"
        assert why in error["description"]
        answer = await http.post("/api/json", content='\ufeff{"é": 1.5}'.encode())
        assert answer.json() == [{"é": 1.5}]


async def test_a_response_that_is_too_large_is_the_apps_fault(tmp_path: Path) -> None:
    async with asked(tmp_path) as (http, _):
        answer = await http.get("/api/large")
        assert (answer.status_code, answer.json()["reason"]) == (502, "BAD_RESPONSE")
        # What no message to the sidecar holds ends neither the line nor the wait.
        answer = await http.get("/api/huge")
        assert (answer.status_code, answer.json()["reason"]) == (500, "HANDLER_ERROR")
        assert (await http.get("/data/total")).status_code == 200


async def test_nobody_attached_is_503_and_a_known_app_answers_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path) as running, client(running) as http:
        async with make(running).attached():
            assert (await http.get("/data/total")).status_code == 200
        for path in ("/data/total", "/api/orders/1"):
            away = await http.get(path)
            assert (away.status_code, away.json()["reason"]) == (503, "NO_HANDLER")
            assert int(away.headers["retry-after"]) > 0
        async with make(running).attached():
            assert (await http.get("/data/total")).status_code == 200


async def test_a_handler_that_takes_too_long_is_cancelled_and_504(tmp_path: Path) -> None:
    cancelled.clear()
    timing = FAST | {"request_deadline": 2.0}  # time enough to begin
    async with asked(tmp_path, timing=timing) as (http, running):
        answer = await http.get("/data/slow")
        assert (answer.status_code, answer.json()["reason"]) == (504, "DEADLINE")
        await eventually(lambda: cancelled == ["slow"])
        assert running.sidecar is not None
        calls = running.sidecar._dispatcher.calls
        await eventually(lambda: calls.total == 0)


async def test_a_caller_who_goes_cancels_the_handler(tmp_path: Path) -> None:
    begun.clear()
    cancelled.clear()
    async with asked(tmp_path) as (http, running):
        assert running.sidecar is not None
        calls = running.sidecar._dispatcher.calls
        asking = asyncio.create_task(http.get("/data/slow"))
        # Given up before it has begun, it would never begin.
        await eventually(lambda: begun == ["slow"])
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: cancelled == ["slow"])
        await eventually(lambda: calls.total == 0)


async def test_requests_wait_for_a_place_and_all_are_answered(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, client(running) as http:
        async with make(running, concurrency=2).attached():
            answers = await asyncio.gather(
                *(http.get("/data/total", params={"days": n}) for n in range(40))
            )
            assert [answer.json()["days"] for answer in answers] == [*range(40)]


async def test_a_process_that_goes_is_502(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, client(running) as http:
        begun.clear()
        app = make(running)
        async with app.attached():
            asking = asyncio.create_task(http.get("/data/slow"))
            await eventually(lambda: begun == ["slow"])
        answer = await asking
        assert (answer.status_code, answer.json()["reason"]) == (502, "HANDLER_LOST")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_another_sites_page_cannot_ask_to_change_anything(
    tmp_path: Path, method: str
) -> None:
    async with asked(tmp_path) as (http, _):
        answer = await http.request(
            method,
            "/api/echo",
            headers={"origin": "https://evil.test", "sec-fetch-site": "cross-site"},
        )
        assert (answer.status_code, answer.json()["reason"]) == (403, "CROSS_SITE")


def test_declarations_that_cannot_be_are_refused_at_once() -> None:
    app = capsule.App("support")
    with pytest.raises(ValueError, match="data handler's name"):
        app.data("no spaces")
    with pytest.raises(ValueError, match="method is one of"):
        app.endpoint("FETCH", "/")
    with pytest.raises(ValueError, match="path is / or segments"):
        app.endpoint("GET", "orders")
    with pytest.raises(ValueError, match="access"):
        app.data("x", access="everyone")  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="does not take 'order_id'"):

        @app.endpoint("GET", "/orders/{order_id}")
        async def order(ctx: capsule.RequestContext) -> None: ...

    with pytest.raises(TypeError, match="nothing is converted to when"):

        @app.data("x")
        async def when(ctx: capsule.RequestContext, when: dict[str, int]) -> None: ...
