"""Prompts by HTTP: answered, dismissed, too late, somebody else's; and how event streams tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import handler_service_pb2, session_service_pb2, types_pb2
from tests.support.eventually import eventually
from tests.support.http import Browser, problem, served
from tests.support.sidecar import BareHandler, Running, request_id
from tests.support.turns import method_name, work_of
from tests.support.work import of


@dataclass
class Asker:
    """A turn that asks, and the browser of who is asked."""

    running: Running
    me: Browser
    handler: BareHandler
    session: str
    work: handler_service_pb2.Invocation

    async def ask(self, name: str = "prompt_approval", **fields: Any) -> str:
        """Asks; returns the prompt's id."""
        kind: Any = getattr(session_service_pb2, f"{method_name(name)}Request")
        given = {"message": "Really?", "request_id": request_id()} | fields
        tag = await self.handler.command(**{name: kind(**of(self.work, **given))})
        result = await self.handler.result(tag)
        assert result.WhichOneof("result") == name, result
        return str(getattr(result, name).prompt.prompt_id)

    async def answer(self, prompt: str, **body: Any) -> dict[str, Any]:
        """Answers a prompt, and returns what that is answered."""
        response = await self.me.post(f"/prompts/{prompt}/answer", **body)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def told(self, prompt: str) -> types_pb2.Prompt:
        """Waits until the handler is told how a prompt ended."""

        def found() -> list[types_pb2.Prompt]:
            ends = [frame.prompt_resolved.prompt for frame in self.handler.frames]
            return [end for end in ends if end.prompt_id == prompt]

        return (await eventually(found, timeout=15, message="the handler is told"))[0]

    async def shown(self) -> list[dict[str, Any]]:
        """Returns the prompts of the timeline."""
        page = await self.me.timeline(self.session)
        return [item["prompt"] for item in page["items"] if "prompt" in item]


@asynccontextmanager
async def asker(home: Path, **settings: Any) -> AsyncIterator[Asker]:
    """Runs a sidecar, a browser, and a handler that holds a turn of its session."""
    async with served(home, **settings) as (running, handler), Browser(running) as me:
        session = await me.open()
        sent = await me.say(session, "hello")
        work = await work_of(handler, sent["invocation_id"])
        yield Asker(running, me, handler, session, work)


async def test_an_answer_is_shown_told_and_kept(tmp_path: Path) -> None:
    options = {"options": ["a", "b"]}
    answers: list[tuple[str, dict[str, Any], str, Any]] = [
        ("prompt_approval", {}, "approved", True),
        ("prompt_approval", {}, "approved", False),
        ("prompt_choice", options, "option", 0),
        ("prompt_choice", options, "option", 1),
    ]
    async with asker(tmp_path) as desk:
        for name, asked, field, value in answers:
            kind = name.removeprefix("prompt_")
            prompt = await desk.ask(name, **asked)
            before = (await desk.shown())[-1]
            assert (before["prompt_id"], before["status"]) == (prompt, "PROMPT_STATUS_OPEN")
            assert "answer" not in before[kind]
            done = await desk.answer(prompt, **{field: value})
            assert done["accepted"] is True
            assert done["prompt"]["status"] == "PROMPT_STATUS_ANSWERED"
            # No and the first option are answers as well: not left out as a default is.
            assert done["prompt"][kind]["answer"] == value
            assert done["prompt"]["message"] == "Really?"
            assert (await desk.shown())[-1] == done["prompt"]
            end = await desk.told(prompt)
            assert getattr(end, kind).answer == value
            assert end.status == types_pb2.PROMPT_STATUS_ANSWERED


async def test_a_dismissed_prompt_has_no_answer(tmp_path: Path) -> None:
    async with asker(tmp_path) as desk:
        prompt = await desk.ask()
        done = await desk.answer(prompt, dismissed=True)
        assert (done["accepted"], done["prompt"]["status"]) == (True, "PROMPT_STATUS_DISMISSED")
        assert "answer" not in done["prompt"]["approval"]
        assert (await desk.told(prompt)).status == types_pb2.PROMPT_STATUS_DISMISSED


async def test_whoever_is_too_late_is_told_how_it_ended(tmp_path: Path) -> None:
    async with asker(tmp_path) as desk:
        answered, over = await desk.ask(), await desk.ask(timeout=Duration(nanos=1_000_000))
        found = await asyncio.gather(*(desk.answer(answered, approved=n == 0) for n in range(6)))
        (first,) = [each["prompt"] for each in found if each.get("accepted")]
        late = [each for each in found if not each.get("accepted")]
        assert len(late) == 5
        assert all(each["prompt"] == first for each in late)
        ended = await desk.answer(over, approved=True)
        assert "accepted" not in ended  # false, which is left out
        assert ended["prompt"]["status"] == "PROMPT_STATUS_EXPIRED"
        await desk.me.post(f"/sessions/{desk.session}/stop")
        withdrawn = await desk.answer(answered, dismissed=True)
        assert withdrawn == {"prompt": first}


async def test_an_answer_that_is_sent_again_is_answered_as_first(tmp_path: Path) -> None:
    async with asker(tmp_path) as desk:
        prompt, once = await desk.ask(), request_id()
        first = await desk.answer(prompt, approved=False, request_id=once)
        assert first["accepted"] is True
        assert await desk.answer(prompt, approved=False, request_id=once) == first
        again = await desk.me.post(f"/prompts/{prompt}/answer", approved=True, request_id=once)
        problem(again, 409, "REQUEST_ID_REUSED")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"option": 0}, "option"),
    ({"file_id": "fil_none"}, "file_id"),
    ({"dismissed": False}, "answer"),
    ({}, "answer"),
    ({"approved": True, "request_id": "1"}, "request_id"),
    ({"approved": "yes"}, "approved"),
    ({"approved": None}, "approved"),
    ({"approved": True, "option": 0}, "option"),
    ({"option": 0, "approved": True}, "approved"),
    ({"approved": True, "dismissed": True}, "dismissed"),
    ({"option": -1}, "option"),
    ({"answer": True}, "answer"),
    ({"approved": True, "identity": "chat:eve"}, "identity"),
]


async def test_an_answer_of_another_kind_is_refused_by_its_field(tmp_path: Path) -> None:
    async with asker(tmp_path) as desk:
        prompt = await desk.ask()
        for given, field in WRONG:
            response = await desk.me.post(f"/prompts/{prompt}/answer", **given)
            shown = problem(response, 400, "INVALID_ARGUMENT")
            assert [error["field"] for error in shown["errors"]] == [field], given
        assert [each["status"] for each in await desk.shown()] == ["PROMPT_STATUS_OPEN"]


async def test_an_option_that_there_is_not_is_refused(tmp_path: Path) -> None:
    async with asker(tmp_path) as desk:
        prompt = await desk.ask("prompt_choice", options=["a", "b"])
        for option in (2, -1, 2**31, 0.5, True, "x"):
            response = await desk.me.post(f"/prompts/{prompt}/answer", option=option)
            shown = problem(response, 400, "INVALID_ARGUMENT")
            assert [error["field"] for error in shown["errors"]] == ["option"], option
        assert [each["status"] for each in await desk.shown()] == ["PROMPT_STATUS_OPEN"]


async def test_a_prompt_of_somebody_else_is_not_there(tmp_path: Path) -> None:
    async with asker(tmp_path) as desk, Browser(desk.running) as eve:
        prompt = await desk.ask()
        path = f"/prompts/{prompt}/answer"
        problem(await eve.post(path, approved=True), 401, "UNAUTHENTICATED")
        await eve.open()
        problem(await eve.post(path, approved=True), 404, "NOT_FOUND")
        for unknown in ("prm_none", "%00", "a" * 5_000, "..%2f..", "%ff"):
            problem(
                await desk.me.post(f"/prompts/{unknown}/answer", approved=True), 404, "NOT_FOUND"
            )
        assert [each["status"] for each in await desk.shown()] == ["PROMPT_STATUS_OPEN"]


async def test_event_streams_tell_of_prompts_by_offset_and_by_position(tmp_path: Path) -> None:
    async with (
        asker(tmp_path) as desk,
        desk.me.follow(desk.session) as session,
        desk.me.follow() as all_of_mine,
    ):
        prompt = await desk.ask(approve_label="Do it")
        done = await desk.answer(prompt, approved=True)
        for events in (session, all_of_mine):
            over = await events.sees("prompt_ended")
            asked = await events.sees("prompt_opened")
            assert asked["prompt_opened"]["prompt"]["approval"]["approve_label"] == "Do it"
            assert asked["prompt_opened"]["prompt"]["status"] == "PROMPT_STATUS_OPEN"
            assert over["prompt_ended"]["prompt"] == done["prompt"]
            assert (over["item_offset"], over["place"]) == (asked["offset"], asked["place"])
            assert over["invocation_id"] == desk.work.invocation_id
            items = (await desk.me.timeline(desk.session))["items"]
            (item,) = [each for each in items if "prompt" in each]
            assert item["prompt"] == done["prompt"]
            assert item["offset"] == asked["offset"]


async def test_a_snapshot_carries_what_is_open_wherever_a_reader_begins(tmp_path: Path) -> None:
    async with asker(tmp_path) as desk:
        prompts = [await desk.ask(message=text) for text in ("answered?", "first?", "second?")]
        await desk.answer(prompts[0], approved=True)
        page = await desk.me.timeline(desk.session)
        async with (
            desk.me.follow(desk.session, after=int(page["offset"])) as by_offset,
            desk.me.follow(after=int(page["position"])) as by_position,
            desk.me.follow(desk.session) as whole,
        ):
            for events in (by_offset, by_position, whole):
                found = (await events.live())["prompts"]
                assert [each["prompt"]["prompt_id"] for each in found] == prompts[1:]
                assert {each["prompt"]["status"] for each in found} == {"PROMPT_STATUS_OPEN"}
                assert {each["session_id"] for each in found} == {desk.session}
                assert {each["invocation_id"] for each in found} == {desk.work.invocation_id}
                assert all(0 < int(each["place"]) < int(each["offset"]) for each in found)
            assert by_offset.kinds() == by_position.kinds() == []
        async with Browser(desk.running) as eve:
            await eve.open()
            async with eve.follow() as events:
                assert "prompts" not in await events.live()
