"""Values by key over a real socket: whose they are, how they add up, how they are refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import state_service_pb2 as pb
from tests.support.sidecar import (
    BareHandler,
    Person,
    Refusal,
    SidecarProcess,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.turns import Desk, turn, turn_on, work_of

SESSION, USER, OWNER, APP = pb.SCOPE_SESSION, pb.SCOPE_USER, pb.SCOPE_OWNER, pb.SCOPE_APP
SCOPES = (SESSION, USER, OWNER, APP)
FORMS = pytest.mark.parametrize("form", ["unary", "command"])


async def put(desk: Desk, value: Any, *, scope: int = USER, key: str = "k") -> None:
    """Sets a value."""
    data = json.dumps(value).encode()
    answer = await desk.command("set_value", scope=scope, key=key, value_json=data)
    assert isinstance(answer, pb.SetValueResponse), answer


async def got(desk: Desk, *, scope: int = USER, key: str = "k") -> Any:
    """Returns a value; `...` where there is none."""
    answer = await desk.command("get_value", scope=scope, key=key)
    return json.loads(answer.value_json) if answer.HasField("value_json") else ...


async def turn_of(desk: Desk, person: Person) -> Desk:
    """Has another session of a person begin a turn with the same handler."""
    session = await person.open()
    sent = await person.say(session, "hello")
    work = await work_of(desk.handler, sent.invocation_id)
    return Desk(desk.running, person, desk.handler, session, work)


@FORMS
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_value_is_set_read_added_to_listed_and_removed(
    tmp_path: Path, form: str, scope: int
) -> None:
    async with turn(tmp_path) as desk:

        async def ask(name: str, **fields: Any) -> Any:
            return await desk.answer(form, name, scope=scope, **fields)

        none = await ask("get_value", key="n")
        assert not none.HasField("value_json")
        assert not none.HasField("update_time")
        done = await ask("set_value", key="n", value_json=b"41")
        assert done.HasField("update_time")
        assert (await ask("increment_value", key="n")).value_json == b"42"
        assert (await ask("increment_value", key="n", by_json=b"-2")).value_json == b"40"
        await ask("set_value", key="m", value_json=b'{"a": [1, null]}')
        page = await ask("list_values")
        assert [(v.key, v.value_json) for v in page.values] == [
            ("m", b'{"a": [1, null]}'), ("n", b"40"),
        ]  # fmt: skip
        assert not page.next_page_token
        assert [v.key for v in (await ask("list_values", prefix="n")).values] == ["n"]
        assert (await ask("delete_value", key="n")).deleted
        assert not (await ask("delete_value", key="n")).deleted
        assert not (await ask("get_value", key="n")).HasField("value_json")


async def test_the_same_key_in_two_scopes_is_two_entries(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        for scope in SCOPES:
            await put(desk, scope, scope=scope)
        assert [await got(desk, scope=scope) for scope in SCOPES] == [*SCOPES]


async def test_a_scope_is_shared_by_whom_it_names_and_nobody_else(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, turn_on(running) as desk:
        for scope in SCOPES:
            await put(desk, "mine", scope=scope)
        again = await turn_of(desk, desk.person)
        found = [await got(again, scope=scope) for scope in SCOPES]
        assert found == [..., "mine", "mine", "mine"], "my other session"
        async with Person(running, "terminal:eve") as eve:
            other = await turn_of(desk, eve)
            found = [await got(other, scope=scope) for scope in SCOPES]
            assert found == [..., ..., ..., "mine"], "another person"
        async with Person(running, app="other") as same, BareHandler(running, "other") as handler:
            await handler.attach()
            session = await same.open()
            sent = await same.say(session, "hello")
            work = await work_of(handler, sent.invocation_id)
            foreign = Desk(running, same, handler, session, work)
            found = [await got(foreign, scope=scope) for scope in SCOPES]
            assert found == [..., ..., ..., ...], "another app"


@FORMS
async def test_an_app_needs_no_invocation_for_its_own_values_and_for_others_it_does(
    tmp_path: Path, form: str
) -> None:
    async with turn(tmp_path) as desk:
        nobody: dict[str, Any] = {"invocation_id": "", "attempt": 0, "key": "k"}
        answer = await desk.answer(form, "set_value", scope=APP, value_json=b"1", **nobody)
        assert isinstance(answer, pb.SetValueResponse), answer
        assert await got(desk, scope=APP) == 1
        assert (await desk.answer(form, "get_value", scope=APP, **nobody)).value_json == b"1"
        for scope in (SESSION, USER, OWNER):
            for name, fields in (("get_value", {}), ("set_value", {"value_json": b"2"})):
                found = await desk.answer(form, name, scope=scope, **nobody, **fields)
                assert (found.reason, found.fields) == ("INVALID_ARGUMENT", ["invocation_id"])
        found = await desk.answer(form, "get_value", scope=APP, **(nobody | {"attempt": 1}))
        assert found.fields == ["invocation_id"]


async def test_two_hundred_increments_at_once_are_all_counted(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        answers = await asyncio.gather(
            *(
                desk.answer(("unary", "command")[n % 2], "increment_value", scope=OWNER, key="n")
                for n in range(200)
            )
        )
        assert sorted(int(a.value_json) for a in answers) == list(range(1, 201))
        assert await got(desk, scope=OWNER, key="n") == 200


async def test_integers_beyond_53_bits_stay_exact(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        big = 2**64 + 1
        await put(desk, big)
        answer = await desk.command("increment_value", scope=USER, key="k", by_json=b"%d" % 2**70)
        assert int(answer.value_json) == big + 2**70
        assert await got(desk) == big + 2**70


async def test_what_is_no_number_is_not_added_to(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        await put(desk, "words")
        found = await desk.command("increment_value", scope=USER, key="k")
        assert isinstance(found, Refusal)
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_TYPE")
        assert await got(desk) == "words"


async def test_commands_take_effect_in_the_order_sent(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        tags = []
        for n in range(100):
            sent: dict[str, Any] = {"scope": SESSION, "key": "k"}
            tags.append(await desk.send("set_value", **sent, value_json=b"%d" % (n * 10)))
            tags.append(await desk.send("increment_value", **sent))
        sums = [(await desk.handler.result(tag)).increment_value.value_json for tag in tags[1::2]]
        assert [int(each) for each in sums] == [n * 10 + 1 for n in range(100)]
        assert await got(desk, scope=SESSION) == 991


async def test_a_request_id_counts_once_and_with_other_content_is_refused(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        sent: dict[str, Any] = {"scope": USER, "key": "n", "request_id": request_id()}
        answers = await asyncio.gather(
            *(desk.unary("increment_value", **sent) for _ in range(20)),
        )
        assert {a.value_json for a in answers} == {b"1"}
        await desk.unary("increment_value", scope=USER, key="n")
        assert (await desk.unary("increment_value", **sent)).value_json == b"1"
        assert await got(desk, key="n") == 2
        with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
            await desk.unary("increment_value", **(sent | {"scope": APP}))
        await desk.finish()
        assert (await desk.unary("increment_value", **sent)).value_json == b"1", "after the end"


async def test_values_are_paged_in_the_order_of_their_keys(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        keys = [f"k{n:03}" for n in range(250)] + ["ké", "k\U0001f600"]
        await asyncio.gather(*(put(desk, key, key=key) for key in keys))
        seen: list[str] = []
        sizes: list[int] = []
        token = ""
        while True:
            page = await desk.command(
                "list_values", scope=USER, prefix="k", page_size=1_000, page_token=token
            )
            seen += [value.key for value in page.values]
            sizes.append(len(page.values))
            token = page.next_page_token
            if not token:
                break
        assert seen == sorted(keys)
        assert sizes == [200, 52]
        assert len((await desk.command("list_values", scope=USER)).values) == 50


async def test_a_page_of_large_values_stops_at_a_mebibyte(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        for n in range(4):
            await put(desk, "x" * 600_000, key=f"{n}")
        page = await desk.command("list_values", scope=USER)
        assert [value.key for value in page.values] == ["0", "1"]
        rest = await desk.command("list_values", scope=USER, page_token=page.next_page_token)
        assert [value.key for value in rest.values] == ["2", "3"]


async def test_what_a_session_kept_goes_with_it(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        for scope in SCOPES:
            await put(desk, "mine", scope=scope)
        await desk.person.call("DeleteSession", session_id=desk.session)
        again = await turn_of(desk, desk.person)
        found = [await got(again, scope=scope) for scope in SCOPES]
        assert found == [..., "mine", "mine", "mine"]


async def test_values_are_there_after_the_sidecar_was_killed(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        async with turn_on(await process.start()) as desk:
            await put(desk, {"kept": True}, scope=APP)
            await process.kill()
        async with turn_on(await process.start()) as desk:
            assert await got(desk, scope=APP) == {"kept": True}
