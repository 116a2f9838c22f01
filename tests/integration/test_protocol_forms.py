"""One implementation, two ways to call: unary and command give the same answer and error."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import (
    collection_service_pb2,
    handler_service_pb2,
    state_service_pb2,
    types_pb2,
)
from capsule_protocol.v1.task_service_pb2 import TaskFilter
from tests.support.eventually import eventually
from tests.support.files import Mover
from tests.support.sidecar import Refusal, request_id
from tests.support.turns import SERVICES, Desk, method_name, refusal_of_status, turn

COMMANDS = {
    field.name for field in handler_service_pb2.Command.DESCRIPTOR.oneofs_by_name["request"].fields
}
BLOCK = types_pb2.Block(type="card", payload_json=b"{}")
USER = state_service_pb2.SCOPE_USER
THINGS = collection_service_pb2.Collection(name="things", scope=USER)
# Wrong names of collections, and scopes.
NOWHERE: list[dict[str, Any]] = [
    {"collection": collection_service_pb2.Collection(name=name, scope=USER)}
    for name in ("", "1st", "a b", "a.b", "x" * 65)
] + [{"collection": collection_service_pb2.Collection(name="things")}]
NO_KEY: list[dict[str, Any]] = [{"key": ""}, {"key": "k" * 257}, {"key": "a\0"}, {"scope": 0}]
NO_FILTER: list[dict[str, Any]] = [
    {"filter_json": wrong} for wrong in (b"[]", b"{", b'{"n":{"$regex":"a"}}', b'{"$nor":[]}')
]


# What no turn may ask: test_tasks.py has it.
OF_TASKS = {"report_progress"}


async def a_task(desk: Desk) -> str:
    """Submits a task that nobody takes; returns its id."""
    submitted = await desk.unary("submit_task", name="nobodys", request_id=request_id())
    return str(submitted.task_id)


def good(stream: str, image: str, task: str) -> dict[str, dict[str, Any]]:
    """Returns fields of a request of every command, each with its request id."""
    return {
        "get_session": {},
        "list_messages": {"page_size": 10},
        "reply": {"text": "hi", "request_id": request_id()},
        "notify": {"text": "thinking", "detail": "hard"},
        "append_stream": {"stream_id": stream, "text": "text", "position": 0},
        "open_stream": {"request_id": stream},
        "show_block": {"block": BLOCK, "request_id": request_id()},
        "show_image": {"file_id": image, "alt": "a dot", "request_id": request_id()},
        "show_task": {"task_id": task, "message": "a task", "request_id": request_id()},
        "submit_task": {"name": "sync", "args_json": b'{"n":1}', "request_id": request_id()},
        "get_task": {"task_id": task},
        "list_tasks": {"filter": TaskFilter(task_ids=[task]), "page_size": 10},
        "cancel_tasks": {"filter": TaskFilter(name="sync"), "request_id": request_id()},
        "prompt_file": {"message": "which?", "request_id": request_id()},
        "prompt_approval": {"message": "really?", "request_id": request_id()},
        "prompt_choice": {"message": "which?", "options": ["a"], "request_id": request_id()},
        "set_title": {"title": "title", "request_id": request_id()},
        "update_data": {
            "patch": types_pb2.DataPatch(set_json={"a": b"1"}),
            "request_id": request_id(),
        },
        "close_stream": {"stream_id": stream, "request_id": request_id()},
        "set_value": {
            "scope": USER, "key": "k", "value_json": b"1", "request_id": request_id(),
        },
        "increment_value": {"scope": USER, "key": "k", "by_json": b"2", "request_id": request_id()},
        "get_value": {"scope": USER, "key": "k"},
        "list_values": {"scope": USER, "page_size": 10},
        "delete_value": {"scope": USER, "key": "k", "request_id": request_id()},
        "insert": {
            "collection": THINGS, "documents_json": [b'{"id":"a","n":1}'],
            "request_id": request_id(),
        },
        "update": {
            "collection": THINGS, "filter_json": b'{"n":1}', "update_json": b'{"$inc":{"n":1}}',
            "request_id": request_id(),
        },
        "count": {"collection": THINGS, "filter_json": b'{"n":2}'},
        "distinct": {"collection": THINGS, "path": "n"},
        "delete": {"collection": THINGS, "request_id": request_id()},
    }  # fmt: skip


# Fields that make a request of the command wrong in itself.
BAD: dict[str, list[dict[str, Any]]] = {
    "get_session": [],
    "list_messages": [{"page_size": -1}, {"page_token": "nonsense"}],
    "reply": [{"text": ""}, {"text": "x" * 300_000}, {"request_id": "x"}, {"key": "k" * 257}],
    "notify": [{"text": "x" * 1001}, {"text": "x", "detail": "x" * 4001}],
    "append_stream": [{"position": -1}, {"position": 99}, {"revision": 3}, {"stream_id": "none"}],
    "open_stream": [{"request_id": "x"}, {"key": "k" * 257}],
    "show_block": [
        {"block": types_pb2.Block(type="No Type")},
        {"block": types_pb2.Block(type="card", payload_json=b"[1]")},
        {"block": types_pb2.Block(type="card", payload_json=b"NaN")},
        {"block": types_pb2.Block(type="card", block_id="b" * 129)},
        {"block": types_pb2.Block(type="card", payload_json=b'"' + b"x" * 70_000 + b'"')},
        {"request_id": ""},
    ],
    "show_image": [
        {"file_id": ""},
        {"width": -1},
        {"width": 5_000},
        {"alt": "x" * 1_001},
        {"request_id": ""},
    ],
    "show_task": [{"task_id": ""}, {"message": "x" * 1_001}, {"request_id": ""}],
    "submit_task": [
        {"name": ""},
        {"name": "x" * 129},
        {"args_json": b"[]"},
        {"args_json": b'{"n":Infinity}'},
        {"retries": -1},
        {"retries": 1_001},
        {"lock": "x" * 513},
        {"delay": Duration(seconds=-1)},
        {"timeout": Duration()},
        {"request_id": ""},
    ],
    "get_task": [{"task_id": ""}, {"wait": Duration(seconds=31)}, {"wait": Duration(seconds=-1)}],
    "list_tasks": [
        {"filter": TaskFilter(statuses=[99])},  # type: ignore[list-item]  # none that there is
        {"page_size": -1},
        {"page_token": "nonsense"},
    ],
    "cancel_tasks": [
        {"filter": TaskFilter()},
        {"filter": TaskFilter(task_ids=["x"] * 101)},
        {"request_id": ""},
    ],
    "prompt_file": [{"message": " "}, {"message": "x" * 4_001}, {"accept": "pdf"}],
    "prompt_approval": [
        {"approve_label": "x" * 81},
        {"timeout": Duration(seconds=-1)},
        {"request_id": ""},
    ],
    "prompt_choice": [{"options": ["b", "b"]}, {"message": ""}, {"request_id": ""}],
    "set_title": [{"title": "two\nlines"}, {"title": "x" * 201}, {"request_id": ""}],
    "update_data": [
        {"patch": types_pb2.DataPatch(set_json={"": b"1"})},
        {"patch": types_pb2.DataPatch(set_json={"a": b"{"})},
        {"patch": types_pb2.DataPatch(set_json={"a": b'"' + b"x" * (1 << 20) + b'"'})},
        {"request_id": ""},
    ],
    "close_stream": [{"length": 99}, {"sha256": b"x" * 32}, {"stream_id": "none"}],
    "get_value": NO_KEY,
    "set_value": [
        *NO_KEY,
        {"value_json": b""},
        {"value_json": b"NaN"},
        {"value_json": b'"' + b"x" * (1 << 20) + b'"'},
        {"scope": 5},
        {"request_id": ""},
    ],
    "delete_value": [*NO_KEY, {"request_id": ""}],
    "increment_value": [
        *NO_KEY,
        {"by_json": b'"1"'},
        {"by_json": b"1" * 401},
        {"request_id": ""},
    ],
    "list_values": [
        {"scope": 0},
        {"prefix": "k" * 257},
        {"prefix": "a\0"},
        {"page_size": -1},
        {"page_token": "nonsense"},
    ],
    "insert": [
        *NOWHERE,
        {"documents_json": []},
        {"documents_json": [b"[]"]},
        {"documents_json": [b'{"create_time":1}']},
        {"documents_json": [b'{"$a":1}']},
        {"documents_json": [b"{}"] * 1_001},
        {"request_id": ""},
    ],
    "update": [
        *NOWHERE,
        *NO_FILTER,
        {"update_json": b""},
        {"update_json": b'{"$inc":{"id":1}}'},
        {"update_json": b'{"a":1,"$inc":{"n":1}}'},
        {"request_id": ""},
    ],
    "delete": [*NOWHERE, *NO_FILTER, {"request_id": ""}],
    "count": [*NOWHERE, *NO_FILTER],
    "distinct": [*NOWHERE, *NO_FILTER, {"path": ""}, {"path": "a..b"}],
}


def test_every_command_is_a_unary_rpc_with_the_same_messages() -> None:
    unary = {
        method.name: method
        for name, module in SERVICES.items()
        for method in module.DESCRIPTOR.services_by_name[name].methods
        if not method.client_streaming and not method.server_streaming
    }
    assert {method_name(name) for name in COMMANDS} == unary.keys()
    results = handler_service_pb2.CommandResult.DESCRIPTOR.fields_by_name
    for field in handler_service_pb2.Command.DESCRIPTOR.oneofs_by_name["request"].fields:
        method = unary[method_name(field.name)]
        assert field.message_type is method.input_type
        assert results[field.name].message_type is method.output_type
    assert good("", "", "").keys() == BAD.keys() == COMMANDS - OF_TASKS


async def _is_durable(desk: Desk, opening: dict[str, Any]) -> bool:
    opened = await desk.answer("unary", "open_stream", **opening)
    return bool(opened.position == len("text"))


@pytest.mark.parametrize("first", ["unary", "command"])
async def test_a_request_is_answered_alike_and_counts_once_in_both_forms(
    tmp_path: Path, first: str
) -> None:
    second = "command" if first == "unary" else "unary"
    async with turn(tmp_path) as desk:
        stream, image, task = await desk.open(), await dot(desk), await a_task(desk)
        for name, fields in good(stream, image, task).items():
            if name == "open_stream":
                # It answers the stream's place: one that moves is not the same twice.
                await eventually(partial(_is_durable, desk, fields), message="the text is durable")
            answer = await desk.answer(first, name, **fields)
            assert not isinstance(answer, Refusal), answer
            again = await desk.answer(second, name, **fields)
            assert again == answer, name
        assert await desk.person.texts(desk.session) == ["hello", "text", "hi"]


async def test_a_wrong_request_is_refused_alike(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream, image, task = await desk.open(), await dot(desk), await a_task(desk)
        for name, fields in good(stream, image, task).items():
            for wrong in BAD[name]:
                found = await _both(desk, name, fields | wrong)
                assert found.reason, (name, wrong)
                if found.reason == "INVALID_ARGUMENT":
                    assert found.fields, "INVALID_ARGUMENT names the field"
                    [named] = found.fields
                    # Of JSON the path in it: `filter.n.$gt`.
                    names = {field.removesuffix("_json") for field in wrong} | wrong.keys()
                    assert named.split(".")[0].split("[")[0] in names, (named, wrong)
                if found.reason == "LIMIT_EXCEEDED":
                    assert found.metadata.keys() == {"limit", "maximum"}
        assert await desk.person.texts(desk.session) == ["hello"], "a refused call left a trace"


async def test_a_request_for_no_invocation_of_mine_is_refused_alike(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        stream, image, task = await desk.open(), await dot(desk), await a_task(desk)
        for name, fields in good(stream, image, task).items():
            for wrong, reason in (
                ({"invocation_id": ""}, "INVALID_ARGUMENT"),
                ({"attempt": 0}, "INVALID_ARGUMENT"),
                ({"attempt": -1}, "INVALID_ARGUMENT"),
                ({"invocation_id": "inv_unknown"}, "NOT_FOUND"),
                ({"attempt": 2}, "SUPERSEDED"),
            ):
                if name == "open_stream" and reason != "INVALID_ARGUMENT":
                    # An id that was used is answered before the attempt is checked.
                    fields = {"request_id": request_id()}
                found = await _both(desk, name, fields | wrong)
                if name == "append_stream" and reason == "NOT_FOUND":
                    reason = "STREAM_CLOSED"
                assert found.reason == reason, (name, wrong, found)
                if reason == "INVALID_ARGUMENT":
                    assert found.fields == list(wrong)
        await desk.unary("append_stream", stream_id=stream, text="still open")
        await desk.finish()
        for name, fields in good(stream, image, task).items():
            changed = fields | ({"request_id": request_id()} if name == "open_stream" else {})
            found = await _both(desk, name, changed)
            expected = "STREAM_CLOSED" if name == "append_stream" else "INVOCATION_ENDED"
            assert found.reason == expected, (name, found)


async def test_a_command_that_is_not_known_is_refused_and_the_line_goes_on(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        command = handler_service_pb2.Command(tag=77)
        await desk.handler.send(handler_service_pb2.HandlerFrame(command=command))
        result = await desk.handler.result(77)
        assert result.error.message
        reason = refusal_of_status(result.error).reason
        assert reason == "UNKNOWN_COMMAND"
        assert (await desk.command("reply", text="on")).offset


async def dot(desk: Desk) -> str:
    """Uploads an image for the turn's session; returns the file's id."""
    return (await Mover(desk).up(b"GIF89a", "dot.gif", "image/gif")).file_id


async def _both(desk: Desk, name: str, fields: dict[str, Any]) -> Refusal:
    found = [await desk.answer(form, name, **fields) for form in ("unary", "command")]
    assert all(isinstance(one, Refusal) for one in found), (name, fields, found)
    assert found[0] == found[1]
    refusal: Refusal = found[0]
    return refusal
