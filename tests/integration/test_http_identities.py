"""Every operation against every wrong identity, generated from the table of operations."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx

from capsule_protocol.v1 import session_service_pb2
from tests.support.http import Browser, operations, path_of, problem, served
from tests.support.sidecar import BareHandler, SidecarProcess, request_id
from tests.support.turns import work_of
from tests.support.work import of

# Who an operation is for. A new one without a row here fails.
ANYONE, SIGNED_IN, OWN_SESSION, WELCOME, OPERATOR = (
    "anyone", "signed in", "own session", "welcome", "operator",
)  # fmt: skip
ROWS = {
    "getUser": SIGNED_IN,
    "signInAsGuest": WELCOME,
    "signOut": ANYONE,
    "getConfig": ANYONE,
    "listSessions": SIGNED_IN,
    "openSession": WELCOME,
    "getSession": OWN_SESSION,
    "updateSession": OWN_SESSION,
    "deleteSession": OWN_SESSION,
    "sendMessage": OWN_SESSION,
    "stop": OWN_SESSION,
    "sendAction": OWN_SESSION,
    "answerPrompt": OWN_SESSION,
    "uploadFile": SIGNED_IN,
    "getFile": OWN_SESSION,
    "deleteFile": OWN_SESSION,
    "getFileContent": ANYONE,
    "followSession": OWN_SESSION,
    "followSessions": SIGNED_IN,
    # Whom an app's handlers are for they declare: test_web_passing.
    "getData": ANYONE,
    "endpointGet": ANYONE,
    "endpointPost": ANYONE,
    "endpointPut": ANYONE,
    "endpointPatch": ANYONE,
    "endpointDelete": ANYONE,
    "endpointOptions": ANYONE,
    "getHealth": ANYONE,
    "getReadiness": ANYONE,
    "getMetrics": OPERATOR,
    "getApps": ANYONE,
    "getPage": ANYONE,
    "getPageBySlash": ANYONE,
    "getAsset": ANYONE,
    "getIcon": ANYONE,
}
TABLE = {operation.name: operation for operation in operations()}
BODIES: dict[str, dict[str, Any]] = {
    "updateSession": {"title": "theirs"},
    "sendMessage": {"text": "theirs"},
    "sendAction": {"name": "theirs"},
    "answerPrompt": {"approved": True},
    "stop": {},
}
APPS: dict[str, dict[str, str]] = {"support": {}, "other": {}}
NOT_THEIRS = [name for name, row in ROWS.items() if row in (SIGNED_IN, OWN_SESSION)]


def test_every_operation_has_a_row() -> None:
    assert ROWS.keys() == TABLE.keys()
    for name, row in ROWS.items():
        assert TABLE[name].signed_in == (row in (SIGNED_IN, OWN_SESSION)), name


Ids = dict[str, str]


async def used(me: Browser, handler: BareHandler, title: str) -> Ids:
    """Opens a session with an open prompt; returns what addresses name of it."""
    session = await me.open(title)
    sent = await me.say(session, "secret")
    work = await work_of(handler, sent["invocation_id"])
    request = session_service_pb2.PromptApprovalRequest(
        **of(work, request_id=request_id(), message="Really?")
    )
    result = await handler.result(await handler.command(prompt_approval=request))
    file = await me.upload(b"mine")
    await me.say(session, "", attachments=[file["file_id"]])
    unused = await me.upload(b"not used")
    return {
        "session": session, "prompt": result.prompt_approval.prompt.prompt_id,
        "file": file["file_id"], "unused": unused["file_id"],
        "signed": httpx.URL(file["url"]).query.decode(),
    }  # fmt: skip


async def call(client: httpx.AsyncClient, name: str, ids: Ids, app: str) -> httpx.Response:
    """Calls an operation as its rightful caller would; of a stream only the beginning is read."""
    operation = TABLE[name]
    form = {"file": ("x", b"theirs", "text/plain")} if operation.form is not None else None
    named = {key: value for key, value in ids.items() if key not in ("signed", "unused")}
    if name == "deleteFile" and "unused" in ids:  # one that is used not even its person deletes
        named["file"] = ids["unused"]
    path = path_of(operation, app, **named)
    if name == "getFileContent":  # for whoever has its address
        path += f"?{ids['signed']}"
    request = client.build_request(operation.method, path, json=BODIES.get(name), files=form)
    response = await client.send(request, stream=True)
    if operation.media == "text/event-stream" and response.status_code == 200:
        await response.aclose()
    else:
        await response.aread()
    return response


async def test_no_operation_lets_a_wrong_identity_in(tmp_path: Path) -> None:
    async with served(tmp_path, apps=APPS) as (running, handler), Browser(running) as me:
        ids = await used(me, handler, "mine")
        session = ids["session"]
        before = await seen_by(me, session)
        async with Browser(running) as nobody, Browser(running, "other") as elsewhere:
            await elsewhere.open()
            for name in NOT_THEIRS:
                problem(await call(nobody.http, name, ids, "support"), 401, "UNAUTHENTICATED")
                # Another app's cookie under this app's name, and this app's under the other's.
                for cookie, app in (
                    (f"capsule_support={elsewhere.token}", "support"),
                    (f"capsule_other={me.token}", "other"),
                    (f"capsule_support={me.token}", "other"),
                    (f"capsule_other={elsewhere.token}", "support"),
                ):
                    nobody.http.headers["cookie"] = cookie
                    refused = await call(nobody.http, name, ids, app)
                    problem(refused, 401, "UNAUTHENTICATED")
                del nobody.http.headers["cookie"]
        async with Browser(running) as eve, Browser(running, "other") as elsewhere:
            await eve.open("eve's")
            await elsewhere.open()
            for name, row in ROWS.items():
                if row == OWN_SESSION:
                    answers = [
                        await call(eve.http, name, ids, "support"),
                        await call(elsewhere.http, name, ids, "other"),
                    ]
                    for answer in answers:
                        problem(answer, 404, "NOT_FOUND")
                        assert "mine" not in answer.text
            listed = (await eve.get("/sessions")).json()["sessions"]
            assert [entry["title"] for entry in listed] == ["eve's"]
            async with eve.follow() as events:
                await events.live()
                assert session not in str(events.messages)
        assert await seen_by(me, session) == before


async def seen_by(me: Browser, session: str) -> list[Any]:
    """Returns all that is mine; the position is the app's."""
    page = await me.timeline(session)
    listed = (await me.get("/sessions")).json()
    return [page["items"], page["session"], page["offset"], listed["sessions"]]


async def test_an_expired_sign_in_reaches_nothing(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path, environment={"CAPSULE_APPS": '{"support": {}}'}) as sidecar:
        running = await sidecar.start()
        async with Browser(running) as me:
            ids = {"session": await me.open()}
            await sidecar.kill()
            database = sqlite3.connect(tmp_path / "capsule.db")
            database.execute("UPDATE logins SET expire_ms = 1")
            database.commit()
            database.close()
            await sidecar.start()
            for name in NOT_THEIRS:
                problem(await call(me.http, name, ids, "support"), 401, "UNAUTHENTICATED")


async def test_every_operation_lets_its_rightful_caller_in(tmp_path: Path) -> None:
    """So that the matrix cannot pass by refusing everything, or a malformed request."""
    async with served(tmp_path, apps=APPS) as (running, handler), Browser(running) as me:
        ids = await used(me, handler, "mine")
        last = ("deleteSession", "signOut")
        page = (await me.http.get("/apps/support")).status_code == 200
        for name in sorted(ROWS, key=lambda name: (name in last, name)):
            if (
                TABLE[name].passed
                or name == "getAsset"
                or (name in ("getPage", "getIcon") and not page)
            ):
                continue
            answer = await call(me.http, name, ids, "support")
            assert answer.status_code < 400, (name, answer.text)
            expected = {TABLE[name].status, *TABLE[name].also}
            assert answer.status_code in expected, name
