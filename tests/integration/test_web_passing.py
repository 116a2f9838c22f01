"""What passes between who asks and an app: paths, headers, bodies, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.http import Answer, Browser, Line, problem, served
from tests.support.sidecar import FAST, BareHandler, Running, refused, running_sidecar

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ECHO = [
    pb.EndpointDeclaration(method=method, path=path)
    for method in METHODS
    for path in ("/", "/one/{name}", "/two/{a}/{b}")
]
DECLARED = pb.Declarations(
    data=[pb.DataDeclaration(name="x"), pb.DataDeclaration(name="mine", authenticated=True)],
    endpoints=[*ECHO, pb.EndpointDeclaration(method="GET", path="/mine", authenticated=True)],
)
Fields = list[tuple[str, str]]


class Echo:
    """A bare handler that keeps what it was asked and answers as it is told to."""

    def __init__(self, handler: BareHandler) -> None:
        self.handler = handler
        self.status = 200
        self.headers: Fields = []
        self.body = b"{}"
        self.asked: list[pb.Invocation] = []

    async def answer(self) -> None:
        count = 0
        while True:
            count += 1
            work = await self.handler.work(count, timeout=600)
            self.asked.append(work)
            response = pb.WebResponse(
                status=self.status,
                headers=[pb.WebField(name=n, value=v) for n, v in self.headers],
                body=self.body,
            )
            outcome = pb.Outcome(
                invocation_id=work.invocation_id, attempt=1,
                status=pb.OUTCOME_STATUS_COMPLETED, response=response,
            )  # fmt: skip
            await self.handler.send(pb.HandlerFrame(outcome=outcome))

    @property
    def last(self) -> pb.WebRequest:
        work = self.asked[-1]
        return work.data.request if work.WhichOneof("kind") == "data" else work.endpoint.request


@asynccontextmanager
async def echoed(home: Path, **settings: Any) -> AsyncIterator[tuple[Running, Echo, Browser]]:
    async with served(home, attach=False, **settings) as (running, handler):
        await handler.attach(declarations=DECLARED)
        echo = Echo(handler)
        answering = asyncio.create_task(echo.answer())
        async with Browser(running) as me:
            yield running, echo, me
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


async def raw(running: Running, target: str, method: str = "GET", *headers: str) -> Answer:
    async with Line(running) as line:
        lines = [f"{method} {target} HTTP/1.1", f"host: {line.host}", *headers]
        await line.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        return await line.answer(head=method == "HEAD")


async def test_a_path_is_split_before_it_is_decoded(tmp_path: Path) -> None:
    async with echoed(tmp_path) as (running, echo, _):
        for target, taken in {
            "one/a%2Fb": {"name": "a/b"},
            "one/%C3%A9%20": {"name": "é "},
            "two/%7Ba%7D/..c": {"a": "{a}", "b": "..c"},
            "on%65/a+b": {"name": "a+b"},
            "one/a?b=/c/../": {"name": "a"},
        }.items():
            answer = await raw(running, f"/apps/support/api/{target}")
            assert answer.status == 200, (target, answer)
            assert dict(echo.asked[-1].endpoint.path_params) == taken
        assert (await raw(running, "/apps/support/api/")).status == 200
        asked = len(echo.asked)
        for target, status in {
            "api/one/%ff": 400, "api/one/%ed%a0%80": 400, "api/one/a%00": 400, "api/one/%0a": 400,
            "api/one/": 404, "api//one/a": 404, "api/one//a": 404, "api/one/a/": 404,
            "api/one/..": 404, "api/one/%2e%2E": 404, "api/two/./a": 404, "api/../api/one/a": 404,
            "api%2Fone/a": 404, "api/one%2Fa": 404, "api": 404, "data/": 404, "data/x/": 404,
            "data/y": 404, "data/x%00": 404, "data/%ff": 404,
        }.items():  # fmt: skip
            answer = await raw(running, f"/apps/support/{target}")
            assert answer.status == status, (target, answer)
        for target in (
            "/apps%2Fsupport/api/one/a",
            "/apps/support%2Fapi/one/a",
            "//apps/support/api/",
        ):
            assert (await raw(running, target)).status == 404, target
        assert len(echo.asked) == asked


async def test_an_app_may_be_called_api(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, BareHandler(running, app="api") as handler:
        await handler.attach(declarations=DECLARED)
        echo = Echo(handler)
        answering = asyncio.create_task(echo.answer())
        assert (await raw(running, "/apps/api/api/one/a")).status == 200
        assert echo.last.path == "/one/a"
        answering.cancel()


async def test_a_query_is_told_in_order_and_refused_where_it_is_none(tmp_path: Path) -> None:
    async with echoed(tmp_path) as (running, echo, _):
        answer = await raw(running, "/apps/support/data/x?b=1&a=%C3%A9+%2B&b=&c&=d")
        assert answer.status == 200
        fields = [(f.name, f.value) for f in echo.last.query]
        assert fields == [("b", "1"), ("a", "é +"), ("b", ""), ("c", ""), ("", "d")]
        for query in ("a=%ff", "a=%ed%a0%80", "&".join(["a=1"] * 1_001)):
            answer = await raw(running, f"/apps/support/data/x?{query}")
            assert (answer.status, answer.reason) == (400, "INVALID_ARGUMENT"), query
        assert (await raw(running, "/apps/support/data/x?a=\xff")).status == 400  # no HTTP
        assert len(echo.asked) == 1


ASSERTED = (
    "x-forwarded-user", "X-Forwarded-For", "Remote-User", "remote_user", "REMOTE-GROUPS",
    "X_Forwarded_User", "X-Capsule-User", "x-goog-iap-jwt-assertion", "Tailscale-User-Login",
    "X-MS-CLIENT-PRINCIPAL", "cf-access-authenticated-user-email", "X-Real-IP", "Forwarded",
    "OIDC_CLAIM_sub", "ssl-client-s-dn", "x-user-id", "Client-Cert",
)  # fmt: skip


async def test_what_asserts_an_identity_or_is_of_the_connection_stays_outside(
    tmp_path: Path,
) -> None:
    async with echoed(tmp_path) as (running, echo, _):
        given = [f"{name}: root" for name in ASSERTED]
        kept = ["Authorization: Bearer mine", "X-Mine: 1", "X-Mine: 2", "X-Username-Hint: a"]
        gone = ["Connection: close, X-Hop", "X-Hop: 1", "TE: trailers", "Keep-Alive: 1",
                "Proxy-Authorization: Basic x", "Expect: nothing"]  # fmt: skip
        cookies = ["Cookie: a=1; capsule_support=x;capsule_other=y ;  capsule_=z; b=2",
                   "Cookie: capsule_support=x"]  # fmt: skip
        answer = await raw(running, "/apps/support/data/x", "GET", *given, *kept, *gone, *cookies)
        assert answer.status == 200
        assert [(f.name, f.value) for f in echo.last.headers if f.name != "host"] == [
            ("authorization", "Bearer mine"), ("x-mine", "1"), ("x-mine", "2"),
            ("x-username-hint", "a"), ("cookie", "a=1; b=2"),
        ]  # fmt: skip


async def test_a_body_of_two_mebibytes_goes_both_ways_and_no_larger_one(tmp_path: Path) -> None:
    async with echoed(tmp_path) as (_, echo, me):
        large = b"\0\xff" * (1 << 20)
        echo.body = large
        answer = await me.http.post("/apps/support/api/", content=large)
        assert answer.content == large
        assert answer.headers["content-type"] == "application/octet-stream"
        assert echo.last.body == large
        chunks = (large[at : at + 10_000] for at in range(0, len(large), 10_000))

        async def slowly() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        answer = await me.http.post("/apps/support/api/", content=slowly())
        assert answer.status_code == 200
        assert echo.last.body == large
        assert "transfer-encoding" not in {f.name for f in echo.last.headers}
        problem(
            await me.http.post("/apps/support/api/", content=large + b"x"), 413, "LIMIT_EXCEEDED"
        )
        assert len(echo.asked) == 2


async def test_bodies_that_wait_for_an_answer_stay_counted(tmp_path: Path) -> None:
    """Or a thousand waiting requests could hold two gigabytes."""
    limits = {"max_body_bytes": 65_536, "bodies_in_flight": 4 * 65_536}
    async with served(tmp_path, attach=False, limits=limits) as (running, handler):
        await handler.attach(declarations=DECLARED, concurrency=1)
        async with Browser(running) as me:
            url, body = "/apps/support/api/", b"x" * 60_000
            held = asyncio.create_task(me.http.post(url, content=body))
            work = await handler.work(1)
            problem(await me.http.post(url, content=body), 503, "BUSY")
            outcome = pb.Outcome(
                invocation_id=work.invocation_id, attempt=1, status=pb.OUTCOME_STATUS_COMPLETED
            )
            await handler.send(pb.HandlerFrame(outcome=outcome))
            answer = await held
            assert (answer.status_code, answer.content) == (204, b"")
            again = asyncio.create_task(me.http.post(url, content=body))
            await handler.work(2)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)


async def test_answers_that_nobody_reads_are_bounded(tmp_path: Path) -> None:
    limits = {
        "max_body_bytes": 65_536, "bodies_in_flight": 4 * 65_536,
        "max_response_bytes": 24 << 20, "max_message_bytes": 32 << 20,
    }  # fmt: skip
    async with echoed(tmp_path, limits=limits) as (running, echo, me):
        echo.body = b"x" * (24 << 20)  # more than the buffers between us hold
        async with Line(running) as line:
            await line.send(f"GET /apps/support/data/x HTTP/1.1\r\nhost: {line.host}\r\n\r\n")
            await eventually(lambda: len(echo.asked) == 1)

            echo.body = b"small"
            busy: httpx.Response | None = None

            async def is_busy() -> bool:
                nonlocal busy
                busy = await me.http.get("/apps/support/data/x")
                return busy.status_code == 503

            await eventually(is_busy)
            assert busy is not None
            problem(busy, 503, "BUSY")
            assert busy.headers["retry-after"] == "2"

        async def is_free() -> bool:
            return (await me.http.get("/apps/support/data/x")).content == b"small"

        await eventually(is_free)  # its reader is gone


async def test_an_answer_loses_what_is_not_its_to_say(tmp_path: Path) -> None:
    async with echoed(tmp_path) as (_, echo, me):
        echo.status = 299
        echo.headers = [
            ("Set-Cookie", "a=b"), ("Connection", "close"), ("Transfer-Encoding", "chunked"),
            ("Content-Length", "7"), ("Content-Type", "text/html"), ("X-Mine", "\xe9"),
            ("Content-Security-Policy", "script-src *"), ("X-Frame-Options", "ALLOWALL"),
            ("X-Content-Type-Options", "sniff"), ("Clear-Site-Data", '"*"'), ("NEL", "{}"),
            ("Service-Worker-Allowed", "/"), ("X-Accel-Redirect", "/secret"), ("X-Request-Id", "x"),
            ("Strict-Transport-Security", "max-age=1"), ("Vary", "a"), ("vary", "b"),
        ]  # fmt: skip
        answer = await me.http.get("/apps/support/data/x")
        assert (answer.status_code, answer.content) == (299, b"{}")
        assert answer.headers["content-length"] == "2"
        assert answer.headers.get_list("vary") == ["a", "b"]
        assert answer.headers["x-mine"] == "\xe9"
        assert answer.headers["content-security-policy"] == "sandbox; frame-ancestors 'none'"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"] != "x"
        lost = (
            "set-cookie", "transfer-encoding", "connection", "clear-site-data", "nel",
            "service-worker-allowed", "x-accel-redirect", "strict-transport-security",
        )  # fmt: skip
        assert not [name for name in lost if name in answer.headers]


@pytest.mark.parametrize(
    "answered",
    [
        {"status": 199}, {"status": 600}, {"status": 0}, {"headers": [("a b", "c")]},
        {"headers": [("", "c")]}, {"headers": [("a", "b\r\nc: d")]}, {"headers": [("a", "\0")]},
        {"headers": [("a", "€")]}, {"headers": [("a", "\x7f")]}, {"headers": [("a", "b")] * 101},
        {"body": b"x" * (2 * 1024 * 1024 + 1)},
    ],
    ids=str,
)  # fmt: skip
async def test_an_answer_that_cannot_be_sent_is_the_apps_fault(
    tmp_path: Path, answered: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with echoed(tmp_path) as (_, echo, me):
        echo.__dict__.update(answered)
        problem(await me.http.get("/apps/support/data/x?secret=words"), 502, "BAD_RESPONSE")
    (line,) = [r.getMessage() for r in caplog.records if r.name == "capsule.web"]
    assert line == "data request x answered what cannot be sent"


async def test_head_and_answers_without_a_body(tmp_path: Path) -> None:
    async with echoed(tmp_path) as (running, echo, me):
        echo.body = b"12345"
        answer = await raw(running, "/apps/support/api/one/a", "HEAD")
        assert (answer.status, answer.headers["content-length"], answer.body) == (200, "5", b"")
        assert (echo.last.method, echo.asked[-1].endpoint.route) == ("HEAD", "GET /one/{name}")
        assert (await raw(running, "/apps/support/data/x", "HEAD")).status == 200
        for status in (204, 205, 304):
            echo.status = status
            answer = await raw(running, "/apps/support/data/x")
            assert (answer.status, answer.body) == (status, b"")
        echo.status = 200
        assert (await me.http.get("/apps/support/data/x")).content == b"12345"


async def test_each_method_is_its_own(tmp_path: Path) -> None:
    async with echoed(tmp_path) as (_, echo, me):
        for method in METHODS:
            answer = await me.http.request(method, "/apps/support/api/one/a")
            assert answer.status_code == 200
            assert echo.asked[-1].endpoint.route == f"{method} /one/{{name}}"
        wrong = await me.http.post("/apps/support/api/mine")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
        assert (await me.http.request("TRACE", "/apps/support/api/one/a")).status_code == 405
        assert (await me.http.post("/apps/support/data/x")).status_code == 405


async def test_who_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with echoed(tmp_path, limits={"requests_per_minute": 2}) as (_, _echo, me):
        answers = [await me.http.get("/apps/support/data/x") for _ in range(3)]
        assert [a.status_code for a in answers] == [200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) > 0
        await me.sign_in()  # whose count is their own
        assert (await me.http.get("/apps/support/data/x")).status_code == 200


async def test_a_handler_that_fails_is_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, attach=False) as (running, handler), Browser(running) as me:
        await handler.attach(declarations=DECLARED)
        asking = asyncio.create_task(me.http.post("/apps/support/api/one/secret", content="secret"))
        work = await handler.work(1)
        outcome = pb.Outcome(
            invocation_id=work.invocation_id, attempt=1, status=pb.OUTCOME_STATUS_FAILED,
            reference_id="abc", error_type="secret",
        )  # fmt: skip
        await handler.send(pb.HandlerFrame(outcome=outcome))
        shown = problem(await asking, 500, "HANDLER_ERROR")
        assert shown["metadata"]["reference_id"] == "abc"
        headers = {"authorization": f"Bearer {running.token}"}
        figures = (await me.http.get("/metrics", headers=headers)).text
    lines = [r.getMessage() for r in caplog.records if r.name == "capsule.web_calls"]
    assert lines == ["POST /one/{name} failed, reference abc"]
    assert "capsule_web_calls 0.0" in figures
    assert "capsule_web_calls_waiting 0.0" in figures
    assert 'operation="endpointPost",status="500"} 1.0' in figures
    assert "secret" not in figures


async def test_a_sidecar_that_ends_lets_requests_finish_and_takes_no_more(tmp_path: Path) -> None:
    timing = FAST | {"drain_grace": 30.0}
    async with (
        served(tmp_path, attach=False, timing=timing) as (running, handler),
        Browser(running) as me,
    ):
        await handler.attach(declarations=DECLARED, concurrency=1)
        first = asyncio.create_task(me.http.get("/apps/support/data/x"))
        work = await handler.work(1)
        waits = asyncio.create_task(me.http.get("/apps/support/data/x"))
        assert running.sidecar is not None
        calls = running.sidecar._dispatcher.calls
        await eventually(lambda: calls.waiting == 1)
        ending = asyncio.create_task(running.sidecar._stop())
        problem(await waits, 503, "SHUTTING_DOWN")
        problem(await me.http.get("/apps/support/data/x"), 503, "SHUTTING_DOWN")
        outcome = pb.Outcome(
            invocation_id=work.invocation_id, attempt=1, status=pb.OUTCOME_STATUS_COMPLETED,
            response=pb.WebResponse(status=200, body=b"1"),
        )  # fmt: skip
        await handler.send(pb.HandlerFrame(outcome=outcome))
        assert (await first).content == b"1"
        await ending


DATA, ENDPOINTS = "hello.declarations.data", "hello.declarations.endpoints"
Data, Endpoint = pb.DataDeclaration, pb.EndpointDeclaration
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"data": [Data(name="")]}, f"{DATA}[0].name"),
    ({"data": [Data(name="a"), Data(name="b/c")]}, f"{DATA}[1].name"),
    ({"data": [Data(name="x" * 129)]}, f"{DATA}[0].name"),
    ({"data": [Data(name="a"), Data(name="a")]}, DATA),
    ({"data": [Data(name=f"a{n}") for n in range(1_001)]}, DATA),
    ({"endpoints": [Endpoint(method="get", path="/")]}, f"{ENDPOINTS}[0].method"),
    ({"endpoints": [Endpoint(method="", path="/")]}, f"{ENDPOINTS}[0].method"),
    ({"endpoints": [Endpoint(method="GET", path="/a")] * 2}, ENDPOINTS),
    ({"endpoints": [Endpoint(method="GET", path=f"/a{n}") for n in range(1_001)]}, ENDPOINTS),
    *(
        ({"endpoints": [Endpoint(method="GET", path=path)]}, f"{ENDPOINTS}[0].path")
        for path in ("", "a", "//", "/a/", "/a//b", "/{a}/{a}", "/{A}", "/a{b}", "/..", "/a/./b",
                     "/a b", "/é", "/a?b", "/a%20b", "/a#b", "/" + "a" * 500)
    ),
]  # fmt: skip


async def test_declarations_that_cannot_be_are_refused_by_field(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running:
        for declared, field in WRONG:
            async with BareHandler(running) as handler:
                hello = pb.Hello(
                    app="support", protocol_version="1", process_id=handler.process_id,
                    declarations=pb.Declarations(**declared),
                )  # fmt: skip
                call = handler.handlers.Attach(metadata=handler.metadata)
                await call.write(pb.AttachRequest(frames=[pb.HandlerFrame(hello=hello)]))
                with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as found:
                    await call.read()
                assert found.fields == [field], declared


async def test_a_cookie_of_another_app_lets_nobody_in(tmp_path: Path) -> None:
    apps: dict[str, dict[str, str]] = {"support": {}, "other": {}}
    async with echoed(tmp_path, apps=apps) as (running, echo, me):
        async with Browser(running, "other") as elsewhere, Browser(running) as nobody:
            await me.sign_in()
            await elsewhere.open()
            for target in ("data/mine", "api/mine"):
                path = f"/apps/support/{target}"
                for cookie in (
                    "", f"capsule_support={elsewhere.token}", f"capsule_other={me.token}",
                    "capsule_support=x", f"capsule_support={me.token}x",
                ):  # fmt: skip
                    headers = {"cookie": cookie, "x-forwarded-user": "root"}
                    answer = await nobody.http.get(path, headers=headers)
                    problem(answer, 401, "UNAUTHENTICATED")
                assert (await me.http.get(path)).status_code == 200
        user = (await me.http.get("/apps/support/auth/user")).json()["user"]["user_id"]
        assert {work.user.user_id for work in echo.asked} == {user}
        assert json.dumps(user) not in str(echo.last)
