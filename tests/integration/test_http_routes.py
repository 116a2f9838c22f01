"""Every route of the chat API, by a real HTTP client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from capsule_protocol.v1 import (
    handler_service_pb2,
    session_service_pb2,
    types_pb2,
)
from tests.support.http import APP, Browser, kind_of, operations, path_of, problem, served
from tests.support.sidecar import BareHandler, Person, request_id
from tests.support.work import EVERYTHING, of, reply

BIG = 2**60 + 1  # beyond the 53 bits that JavaScript's numbers hold


async def test_a_session_is_opened_listed_read_renamed_and_deleted(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        opened = await me.post("/sessions", title="Plans")
        session = opened.json()["session"]
        where = f"{me.v1}/sessions/{session['session_id']}"
        assert opened.status_code == 201
        assert opened.headers["location"] == where
        assert session["title"] == "Plans"
        assert session["app"] == APP
        assert session["state"] == "SESSION_STATE_OPEN"
        assert session["channel"] == {"type": "chat"}
        assert session["create_time"].endswith("Z")
        assert (await me.http.get(where)).json()["session"]["session_id"] == session["session_id"]
        listed = (await me.get("/sessions")).json()
        assert [entry["title"] for entry in listed["sessions"]] == ["Plans"]
        assert int(listed["position"]) >= 1
        assert isinstance(listed["position"], str)
        renamed = await me.patch(f"/sessions/{session['session_id']}", title="Ünïcode 計画")
        assert renamed.status_code == 200
        assert renamed.json()["session"]["title"] == "Ünïcode 計画"
        removed = await me.patch(f"/sessions/{session['session_id']}", title="")
        assert "title" not in removed.json()["session"]  # a default is left out
        gone = await me.delete(f"/sessions/{session['session_id']}")
        assert (gone.status_code, gone.content) == (204, b"")
        problem(await me.http.get(where), 404, "NOT_FOUND")
        problem(await me.http.delete(where), 404, "NOT_FOUND")
        assert "sessions" not in (await me.get("/sessions")).json()


async def test_a_message_is_durable_when_it_is_accepted_and_reaches_the_handler(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (running, handler), Browser(running) as me:
        session = await me.open()
        sent = await me.say(session, "Grüße 😀\n\tmit Zeilen", attachments=[])
        assert sent["message"]["text"] == "Grüße 😀\n\tmit Zeilen"
        assert sent["message"]["sender"] == "SENDER_USER"
        work = await handler.work()
        assert work.invocation_id == sent["invocation_id"]
        assert work.turn.message.text == "Grüße 😀\n\tmit Zeilen"
        assert work.session.channel.type == "chat"
        page = await me.timeline(session)
        assert page["items"][-1]["offset"] == sent["offset"]
        assert page["items"][-1]["message"]["message_id"] == sent["message"]["message_id"]
        assert page["pending"][0]["invocation_id"] == sent["invocation_id"]
        assert page["pending"][0]["kind"] == "INVOCATION_KIND_MESSAGE"


async def test_json_of_handlers_is_shown_inline_exactly_as_it_was_given(tmp_path: Path) -> None:
    """Long numbers, half surrogates, depth: nothing that was taken may break a reader."""
    payload = (
        f'{{"n": {BIG}, "long": {"9" * 400},\r\n "huge": 1e999, "half": "\\ud800",'
        f' "deep": {"[" * 900}{"]" * 900}}}'
    )
    async with served(tmp_path) as (running, handler), Browser(running) as me:
        session = await me.open()
        await me.say(session, "show")
        work = await handler.work()
        block = types_pb2.Block(type="card", payload_json=payload.encode())
        request = session_service_pb2.ShowBlockRequest(
            **of(work, request_id=request_id(), block=block)
        )
        result = await handler.result(await handler.command(show_block=request))
        assert result.WhichOneof("result") == "show_block", result
        page = await me.get(f"/sessions/{session}")
        assert page.status_code == 200, page.text
        shown = f'"payload":{payload}'.replace("\r\n", "  ")
        assert shown in page.text
        async with me.http.stream("GET", f"{me.v1}/sessions/{session}/events") as stream:
            seen = ""
            async for chunk in stream.aiter_text():
                seen += chunk
                if '"last":true' in seen:
                    break
        assert shown in seen


async def test_a_click_carries_its_payload_to_the_handler_with_every_digit(tmp_path: Path) -> None:
    async with served(tmp_path, attach=False) as (running, handler), Browser(running) as me:
        await handler.attach(declarations=EVERYTHING)
        session = await me.open()
        enter = await handler.work()
        await handler.finish(enter)
        body = f'{{"name": "pick", "block_id": "b", "payload": {{"n": {BIG}, "t": [null, "é"]}}}}'
        clicked = await me.http.post(
            f"{me.v1}/sessions/{session}/actions",
            content=body.encode(),
            headers={"content-type": "application/json; charset=utf-8"},
        )
        assert clicked.status_code == 202, clicked.text
        work = await handler.work(2)
        assert work.invocation_id == clicked.json()["invocation_id"]
        assert work.action.payload_json == f'{{"n":{BIG},"t":[null,"é"]}}'.encode()
        assert (work.action.name, work.action.block_id) == ("pick", "b")
        await handler.finish(work)
        payloads: list[Any] = [None, False, [], "text", 0]
        for payload in payloads:
            again = await me.post(f"/sessions/{session}/actions", name="pick", payload=payload)
            assert again.status_code == 202, again.text
        async with me.follow(session) as events:
            seen = await events.sees("action_sent")
            assert seen["action_sent"]["payload"] == {"n": BIG, "t": [None, "é"]}
            assert seen["offset"] == clicked.json()["offset"]


async def test_an_enum_value_that_is_not_known_is_shown_as_its_number() -> None:
    from capsule_sidecar.web.json_form import to_json

    message = types_pb2.Message.FromString(types_pb2.Message(text="t").SerializeToString())
    message.sender = 99  # type: ignore[assignment]  # as from a newer peer
    assert to_json(message) == {"text": "t", "sender": 99}


WRITES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "open": ("POST", "/sessions", {"title": "a"}, {"title": "b"}),
    "rename": ("PATCH", "/sessions/{s}", {"title": "a"}, {"title": "b"}),
    "message": ("POST", "/sessions/{s}/messages", {"text": "a"}, {"text": "b"}),
    "action": ("POST", "/sessions/{s}/actions", {"name": "a"}, {"name": "a", "payload": 1}),
    "stop": ("POST", "/sessions/{s}/stop", {"invocation_id": "{i}"}, {}),
}


@pytest.mark.parametrize("write", WRITES)
async def test_the_same_request_id_does_a_thing_once_and_other_content_is_refused(
    tmp_path: Path, write: str
) -> None:
    method, path, body, other = WRITES[write]
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open()
        sent = await me.say(session, "first")
        address = me.v1 + path.format(s=session)
        body = {k: v.format(i=sent["invocation_id"]) for k, v in body.items()}
        body["request_id"] = other["request_id"] = request_id()
        answers = [await me.http.request(method, address, json=body) for _ in range(3)]
        assert answers[0].is_success, answers[0].text
        assert {answer.status_code for answer in answers} == {answers[0].status_code}
        same = ("invocation_id", "offset", "message")
        for key in same:
            assert len({str(answer.json().get(key)) for answer in answers}) == 1
        if write == "open":
            ids = {answer.json()["session"]["session_id"] for answer in answers}
            assert len(ids) == 1
        problem(await me.http.request(method, address, json=other), 409, "REQUEST_ID_REUSED")


async def test_a_deletion_that_is_sent_again_answers_as_before(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session, other = await me.open(), await me.open()
        again = request_id()
        for _ in range(2):
            assert (await me.delete(f"/sessions/{session}", request_id=again)).status_code == 204
        problem(await me.delete(f"/sessions/{other}", request_id=again), 409, "REQUEST_ID_REUSED")
        problem(await me.delete(f"/sessions/{other}", request_id="7"), 400, "INVALID_ARGUMENT")


async def test_stop_ends_what_runs_and_sent_again_never_stops_the_next(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, handler), Browser(running) as me:
        session = await me.open()
        problem(await me.post(f"/sessions/{session}/stop"), 404, "NOT_FOUND")
        first, second = await me.say(session, "one"), await me.say(session, "two")
        await handler.work()
        again = request_id()
        stopped = await me.post(f"/sessions/{session}/stop", request_id=again)
        assert stopped.json() == {"status": "INVOCATION_STATUS_RUNNING"}
        cancel = (await handler.gets("cancel")).cancel
        assert cancel.invocation_id == first["invocation_id"]
        await handler.finish(await handler.work(), handler_service_pb2.OUTCOME_STATUS_CANCELLED)
        assert (await handler.work(2)).invocation_id == second["invocation_id"]
        # What was stopped has ended and another turn runs: the same request is not about that one.
        resent = await me.post(f"/sessions/{session}/stop", request_id=again)
        assert resent.json() == {"status": "INVOCATION_STATUS_STOPPED"}
        pending = (await me.timeline(session))["pending"]
        assert [entry["status"] for entry in pending] == ["INVOCATION_STATUS_RUNNING"]
        assert not any(
            frame.cancel.invocation_id == second["invocation_id"] for frame in handler.frames
        )
        named = await me.post(f"/sessions/{session}/stop", invocation_id=first["invocation_id"])
        assert named.json() == {"status": "INVOCATION_STATUS_STOPPED"}
        problem(await me.post(f"/sessions/{session}/stop", invocation_id="x"), 404, "NOT_FOUND")


async def test_a_session_that_was_closed_takes_no_message(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open()
        identity = await _identity(running.sidecar)
        async with Person(running, identity=identity) as person:
            await person.call("CloseSession", session_id=session)
        for path, body in (("messages", {"text": "t"}), ("actions", {"name": "a"})):
            refused = await me.post(f"/sessions/{session}/{path}", **body)
            problem(refused, 409, "SESSION_CLOSED")


async def test_lists_and_timelines_page_without_gap_or_double(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        sessions = [await me.open(f"Trip {number:02}") for number in range(9)]
        await me.open("Groceries 100%")
        for number in range(7):
            await me.say(sessions[0], f"m{number}")
        found: list[str] = []
        token = ""
        for _ in range(5):
            page = (await me.get("/sessions", page_size=2, page_token=token, query="trIP")).json()
            found += [entry["title"] for entry in page["sessions"]]
            token = page.get("next_page_token", "")
            if not token:
                break
        assert not token
        assert found == ["Trip 00", *[f"Trip {number:02}" for number in range(8, 0, -1)]]
        for query, titles in (("100%", ["Groceries 100%"]), ("%", ["Groceries 100%"]), ("_", [])):
            page = (await me.get("/sessions", query=query)).json()
            assert [entry["title"] for entry in page.get("sessions", [])] == titles
        texts: list[str] = []
        token = ""
        while True:
            page = await me.timeline(sessions[0], page_size=3, page_token=token)
            texts = [item["message"]["text"] for item in page["items"]] + texts
            assert page["session"]["title"] == "Trip 00"
            token = page.get("next_page_token", "")
            if not token:
                break
        assert texts == [f"m{number}" for number in range(7)]
        # A token of one list is none of another.
        page = await me.timeline(sessions[0], page_size=3)
        refused = await me.get("/sessions", page_token=page["next_page_token"])
        assert problem(refused, 400, "INVALID_ARGUMENT")["errors"][0]["field"] == "page_token"
        assert (await me.get("/sessions", page_size=0)).json()["sessions"]


async def test_a_snapshot_and_what_follows_it_are_the_whole_log(tmp_path: Path) -> None:
    """Read while it is written to: nothing is between the page and the events behind it."""
    async with served(tmp_path) as (running, handler), Browser(running) as me:
        session = await me.open()
        await me.say(session, "begin")
        work = await handler.work()

        async def write() -> None:
            for number in range(60):
                await handler.result(await handler.command(reply=reply(work, f"r{number}")))

        writing = asyncio.create_task(write())
        pages = [await me.timeline(session, page_size=200) for _ in range(8)]
        await writing
        for page in pages:
            assert page["offset"] == page["session"].get("head_offset")
            before = [item["message"]["text"] for item in page["items"]]
            async with me.follow(session, after=int(page["offset"])) as by_offset:
                await by_offset.live()
            async with me.follow(after=int(page["position"])) as by_position:
                await by_position.live()
            for events in (by_offset.events, by_position.events):
                behind = [event["message_added"]["message"]["text"] for event in events]
                assert before + behind == ["begin", *[f"r{number}" for number in range(60)]]


async def test_other_methods_are_refused_and_those_that_there_are_are_named(tmp_path: Path) -> None:
    by_path: dict[str, set[str]] = {}
    for operation in operations():
        allowed = by_path.setdefault(operation.path, set())
        allowed.add(operation.method)
        if operation.method == "GET" and operation.media != "text/event-stream":
            allowed.add("HEAD")
    paths = {operation.path: path_of(operation) for operation in operations()}
    async with served(tmp_path) as (running, _), Browser(running) as me:
        for path, allowed in by_path.items():
            methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
            for method in methods:
                if method in allowed:
                    continue
                response = await me.http.request(method, paths[path])
                assert response.status_code == 405, (method, path)
                assert response.headers["allow"] == ", ".join(sorted(allowed))
                if method != "HEAD":
                    problem(response, 405, "METHOD_NOT_ALLOWED")


async def test_head_answers_as_get_without_a_body(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open("t")
        for path in ("/healthz", f"{me.v1}/sessions", f"{me.v1}/sessions/{session}", "/nowhere"):
            got, head = await me.http.get(path), await me.http.head(path)
            assert head.status_code == got.status_code
            assert head.content == b""
            assert head.headers["content-type"] == got.headers["content-type"]
            if head.is_success:
                assert head.headers["content-length"] == str(len(got.content))


NOWHERE = (
    "/nowhere", "/apps", "/apps/", "/apps/support/v1", "/apps/support/v2/config",
    "/apps/support/v1/sessions/", "/apps/support/v1/sessions/a/b", "/assets/", "/assets/../a",
    "/assets/%2e%2e%2findex.html", "/assets/..%5cindex.html", "/favicon.svg",
)  # fmt: skip


async def test_what_is_no_address_is_not_found(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        for path in NOWHERE:
            problem(await me.http.get(path), 404, "NOT_FOUND")


async def test_the_configuration_needs_no_sign_in_and_the_front_leads_to_the_app(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, attach=False) as (running, handler), Browser(running) as me:
        empty = await me.http.get("/")
        assert empty.status_code == 200
        assert "No app" in empty.text
        problem(await me.get("/config"), 404, "NOT_FOUND")
        await handler.attach()
        shown = (await me.get("/config")).json()
        assert shown["app"] == APP
        assert shown["sign_in"] == ["guest"]
        assert shown["limits"] == {
            "text_bytes": 262_144, "title_chars": 200, "file_bytes": 104_857_600, "attachments": 20,
        }  # fmt: skip
        front = await me.http.get("/")
        assert (front.status_code, front.headers["location"]) == (307, "/apps/support")
        async with BareHandler(running, app="billing") as second:
            await second.attach()
            listed = await me.http.get("/")
            assert listed.status_code == 200
            assert "/apps/billing" in listed.text
            assert "/apps/support" in listed.text
        assert not me.token


async def _identity(sidecar: Any) -> str:
    """Returns the one guest's identity."""
    from sqlalchemy import select

    from capsule_sidecar.storage import schema

    def look(connection: Any) -> str:
        return str(connection.execute(select(schema.users.c.identity)).scalar_one())

    return str(await sidecar.journal.read(look))


async def test_every_event_has_one_kind_and_its_numbers_are_strings(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, handler), Browser(running) as me:
        session = await me.open("t")
        await me.say(session, "hi")
        work = await handler.work()
        await handler.finish(work)
        async with me.follow(session) as events:
            await events.sees("invocation_ended", 2)
        assert [kind_of(event) for event in events.events] == [
            "session_opened", "invocation_ended", "message_added", "invocation_ended",
        ]  # fmt: skip
        for number, event in enumerate(events.events, 1):
            assert event["offset"] == str(number)
            assert isinstance(event["position"], str)
        ended = events.events[-1]["invocation_ended"]
        assert ended["status"] == "INVOCATION_STATUS_COMPLETED"
        assert ended["attempts"] == 1
