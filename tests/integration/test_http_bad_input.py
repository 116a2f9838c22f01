"""Bad input for every operation, generated from the table: each is refused and its field named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from capsule_sidecar.web.bodies import SMALL
from capsule_sidecar.web.json_form import is_inline, shown_name
from capsule_sidecar.web.operations import Body, Operation
from tests.support.http import Browser, operations, path_of, problem, served

WRITING = [operation for operation in operations() if operation.body is not None]
READING = [operation for operation in operations() if operation.query]
VALID: dict[str, Any] = {
    "title": "t",
    "text": "t",
    "name": "n",
    "block_id": "b",
    "invocation_id": "i",
    "payload": {},
    "attachments": [],
    "request_id": "0b0e7a8c-0000-4000-8000-000000000001",
}
# Where one of several fields must be given, of which none is required.
LEAST: dict[str, dict[str, Any]] = {
    "answerPrompt": {"approved": True},
    "sendMessage": {"text": "t"},
}
NO_UUID = "0b0e7a8c-0000-4000-8000-00000000000g"
WRONG_STRINGS: list[Any] = [
    None, 1.5, False, ["a"], {"a": 1}, 10**30, "a\udfff",
]  # fmt: skip
WRONG: dict[int, list[Any]] = {
    FieldDescriptor.TYPE_STRING: WRONG_STRINGS,
    FieldDescriptor.TYPE_BOOL: [None, 1.5, 1, 0, "yes", "", ["a"], {"a": 1}],
    FieldDescriptor.TYPE_INT32: [None, 1.5, False, "", "a", ["a"], {"a": 1}, 2**31, 10**30],
}
TOO_LONG: dict[str, Any] = {
    "title": ["x" * 201, "line\nbreak", "nul\0", "tab\t", "\u2028"],
    "text": ["", " ", "\n\t \u3000"],
    "name": ["", "x" * 129],
    "block_id": ["x" * 129],
    "request_id": ["7", "x" * 36, "0b0e7a8c", "{" * 36, "٣" * 36, NO_UUID],
    "attachments": [{}, "a", 1, None, [[]], [1], [None], ["fil_1", {}]],
}  # fmt: skip


def fields_of(body: Body) -> dict[str, FieldDescriptor]:
    """Returns a body's fields by their names, but for what is shown inline."""
    fields = cast(Descriptor, body.message.DESCRIPTOR).fields
    return {shown_name(f): f for f in fields if f.name not in body.omit and not is_inline(f)}


def valid(operation: Operation) -> dict[str, Any]:
    """Returns what an operation must at least be given."""
    assert operation.body is not None
    return {name: VALID[name] for name in operation.body.required} | LEAST.get(operation.name, {})


def bad_fields(operation: Operation) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields bodies with one thing wrong, and the field that is to be named."""
    body = operation.body
    assert body is not None
    good = valid(operation)
    names = fields_of(body)
    for name, field in names.items():
        for value in WRONG[field.type] if not field.is_repeated else ():
            yield {**good, name: value}, name
        if field.containing_oneof is not None:  # one of several, of which none is required
            yield {}, field.containing_oneof.name
    for name in (*names, *body.extra):
        for value in TOO_LONG.get(name, ()):
            yield {**good, name: value}, name
    for name in body.required:
        yield {key: value for key, value in good.items() if key != name}, name
    unknown = ("nope", "", "session_id", "identity", "payload_json", "requestId", "__proto__",
               "\ud800", "x" * 5000, "constructor", "invocation\0id")  # fmt: skip
    for name in unknown:
        yield {**good, name: "x"}, name[:64]


BODIES: list[tuple[bytes, int, str]] = [
    (b"[]", 400, "body"),
    (b"null", 400, "body"),
    (b'"text"', 400, "body"),
    (b"1", 400, "body"),
    (b"{", 400, "body"),
    (b"{}{}", 400, "body"),
    (b"{'text': 1}", 400, "body"),
    (b'{"text": NaN}', 400, "body"),
    (b'{"text": -Infinity}', 400, "body"),
    (b'{"text": "\xff"}', 400, "body"),
    (b'{"text": "\xed\xa0\x80"}', 400, "body"),
    (b'{"text": "\x00"}', 400, "body"),
    (b'{"text": 1' + b"0" * 5000 + b"}", 400, "body"),
    (b"\xef\xbb\xbf{}", 400, "body"),
    ('{"text": "x"}'.encode("utf-16"), 400, "body"),
    (b"[" * 200_000, 400, "body"),
    (b'{"text":' * 50_000, 400, "body"),
    (b'{"text": "' + b"x" * (2 << 20) + b'"}', 413, ""),
    (b"\x1f\x8b\x08\x00", 400, "body"),
]
MEDIA = (
    "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/jsonp", "application", "text/json", "application/json-patch+json", "*/*", "\\",
)  # fmt: skip
NUMBERS = ("-1", "x", "1.0", "1e3", "9" * 30, "٣", "0x1", " 1", "1 ", "NaN", "null", "[]", "\0")


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """Checks that a response refuses by a problem; returns it."""
    reason = answer.json().get("reason", "") if answer.content else ""
    assert answer.status_code in statuses, (answer.request.url, answer.status_code, answer.text)
    return problem(answer, answer.status_code, reason)


async def test_every_field_that_is_wrong_is_refused_and_named(tmp_path: Path) -> None:
    limits = {"messages_per_minute": 10_000, "sessions_per_minute": 10_000}
    async with served(tmp_path, limits=limits) as (running, _), Browser(running) as me:
        session = await me.open("kept")
        for operation in WRITING:
            path = path_of(operation, session=session)
            for body, field in bad_fields(operation):
                answer = await me.http.request(
                    operation.method,
                    path,
                    content=json.dumps(body).encode(),
                    headers={"content-type": "application/json"},
                )
                shown = refused(answer, 400)
                named = [error["field"] for error in shown["errors"]]
                assert named == [field], (operation.name, body, named)
        page = await me.timeline(session)
        assert page["session"]["title"] == "kept"
        assert "items" not in page


async def test_a_body_that_is_no_json_object_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open("kept")
        for operation in WRITING:
            path = path_of(operation, session=session)
            for body, status, field in BODIES:
                answer = await me.http.request(
                    operation.method, path, content=body,
                    headers={"content-type": "application/json"},
                )  # fmt: skip
                assert operation.body is not None
                if len(body) > SMALL and not operation.body.large:
                    refused(answer, 413)
                    continue
                shown = refused(answer, status)
                if field:
                    assert [error["field"] for error in shown["errors"]] == [field]
                else:
                    assert answer.headers["connection"] == "close"
            for media in MEDIA:
                headers = {"content-type": media}
                answer = await me.http.request(
                    operation.method, path, content=b'{"text": "t"}', headers=headers
                )
                assert refused(answer, 415)["reason"] == "UNSUPPORTED_MEDIA_TYPE"
        assert "items" not in await me.timeline(session)


async def test_what_is_large_but_allowed_is_taken_and_one_byte_more_is_not(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open()
        path = f"/sessions/{session}"
        assert (await me.patch(path, title="é" * 200)).status_code == 200
        text = "é" * (128 * 1024)
        assert (await me.say(session, text))["message"]["text"] == text
        shown = refused(await me.post(f"{path}/messages", text=text + "x"), 413)
        assert shown["reason"] == "LIMIT_EXCEEDED"
        assert shown["metadata"] == {"limit": "text", "maximum": "262144"}
        payload = "x" * (64 * 1024 - 2)
        longest = {"name": "n" * 128, "block_id": "b" * 128}
        taken = await me.post(f"{path}/actions", payload=payload, **longest)
        assert taken.status_code == 202
        refused(await me.post(f"{path}/actions", name="n", payload=payload + "x"), 413)
        deep = "[" * 400 + "]" * 400
        body = f'{{"name": "n", "payload": {deep}}}'.encode()
        headers = {"content-type": "application/json"}
        answer = await me.http.post(f"{me.v1}{path}/actions", content=body, headers=headers)
        assert answer.status_code == 202
        for value in (b"1e999", b"NaN", b'"\\ud800"', b'{"\\udc00": 1}', b"[" * 990 + b"]" * 990):
            body = b'{"name": "n", "payload": ' + value + b"}"
            answer = await me.http.post(f"{me.v1}{path}/actions", content=body, headers=headers)
            if answer.status_code != 202 or not value.startswith(b"["):
                refused(answer, 400)
        assert (await me.get(path)).status_code == 200


async def test_every_parameter_that_is_wrong_is_refused_and_named(tmp_path: Path) -> None:
    wrong = {
        "page_size": NUMBERS,
        "page_token": ("x", "é", "a" * 3000, "\0", "eyJ9", "AAAA", "{}", "=" * 8),
        "query": ("x" * 201,),
        "after": NUMBERS,
        "request_id": ("x", "1", "\0", NO_UUID),
    }
    async with served(tmp_path) as (running, _), Browser(running) as me:
        session = await me.open()
        for operation in READING:
            for query in operation.query:
                # Uploads and signed addresses: test_files_http.
                if query.header or "/files" in operation.path:
                    continue
                for value in wrong[query.name]:
                    answer = await me.http.request(
                        operation.method,
                        path_of(operation, session=session),
                        params={query.name: value},
                    )
                    shown = refused(answer, 400)
                    assert [error["field"] for error in shown["errors"]] == [query.name]
        assert (await me.get("/sessions", query="a\0b")).json().get("sessions") is None


async def test_ids_of_any_form_are_not_found(tmp_path: Path) -> None:
    ids = ("x", "%00", "%ff", "%ed%a0%80", "..%2f..", "'%20OR%201=1", "a" * 5000, "%0d%0aa:b",
           "ses_", "%F0%9F%98%80", "*", "%25s", "\\", "~")  # fmt: skip
    async with served(tmp_path) as (running, _), Browser(running) as me:
        await me.open()
        for operation in operations():
            if "{session_id}" not in operation.path:
                continue
            given = valid(operation) if operation.body else None
            for session in ids:
                path = path_of(operation, session=session)
                answer = await me.http.request(operation.method, path, json=given)
                refused(answer, 404)
        session = await me.open()
        for invocation in ("x", "a\0b", "a" * 5000, "é"):
            answer = await me.post(f"/sessions/{session}/stop", invocation_id=invocation)
            refused(answer, 404)
