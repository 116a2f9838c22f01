"""Prompts: asked, waited with, joined again, answered once, withdrawn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import (
    channel_service_pb2,
    events_pb2,
    handler_service_pb2,
    session_service_pb2,
    types_pb2,
)
from tests.support.eventually import eventually
from tests.support.sidecar import (
    FAST,
    PATIENT,
    BareHandler,
    Person,
    SidecarProcess,
    refused,
    request_id,
    running_sidecar,
)
from tests.support.turns import Desk, turn, work_of
from tests.support.work import ended, lease

_OPEN, _ANSWERED = types_pb2.PROMPT_STATUS_OPEN, types_pb2.PROMPT_STATUS_ANSWERED
_DISMISSED, _EXPIRED = types_pb2.PROMPT_STATUS_DISMISSED, types_pb2.PROMPT_STATUS_EXPIRED
_WITHDRAWN = types_pb2.PROMPT_STATUS_WITHDRAWN
_RELEASED = handler_service_pb2.OUTCOME_STATUS_RELEASED


async def ask(desk: Desk, message: str = "Really?", **fields: Any) -> types_pb2.Prompt:
    """Asks for an approval by a command; returns the prompt."""
    answer = await desk.command("prompt_approval", message=message, **fields)
    assert isinstance(answer, session_service_pb2.PromptApprovalResponse), answer
    return answer.prompt


async def answer(
    person: Person, prompt: types_pb2.Prompt, **fields: Any
) -> channel_service_pb2.AnswerPromptResponse:
    """Answers a prompt as a person does; approves it unless told otherwise."""
    given = fields or {"approved": True}
    response: channel_service_pb2.AnswerPromptResponse = await person.call(
        "AnswerPrompt", prompt_id=prompt.prompt_id, **given
    )
    return response


def told(handler: BareHandler, prompt: types_pb2.Prompt) -> list[types_pb2.Prompt]:
    """Returns the ends of a prompt that a handler was told of."""
    return [
        frame.prompt_resolved.prompt
        for frame in handler.frames
        if frame.prompt_resolved.prompt.prompt_id == prompt.prompt_id
    ]


async def resolved(handler: BareHandler, prompt: types_pb2.Prompt) -> types_pb2.Prompt:
    """Waits until a handler is told how a prompt ended."""
    found = await eventually(lambda: told(handler, prompt), timeout=15, message="its end")
    return found[-1]


async def shown(person: Person, session: str) -> list[types_pb2.Prompt]:
    """Returns the prompts of a timeline."""
    items = await person.timeline(session)
    return [item.prompt for item in items if item.WhichOneof("item") == "prompt"]


async def test_an_approval_is_asked_answered_and_told(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        prompt = await ask(desk, approve_label="Do it")
        assert (prompt.status, prompt.message) == (_OPEN, "Really?")
        assert (prompt.approval.approve_label, prompt.approval.reject_label) == ("Do it", "Reject")
        asked = await follow.sees("prompt_opened")
        assert asked.prompt_opened.prompt == prompt
        assert asked.invocation_id == desk.work.invocation_id

        done = await answer(desk.person, prompt, approved=False)
        assert done.accepted
        assert done.prompt.status == _ANSWERED
        assert done.prompt.approval.answer is False
        assert done.prompt.HasField("end_time")
        assert await resolved(desk.handler, prompt) == done.prompt
        over = await follow.sees("prompt_ended")
        assert over.prompt_ended.prompt == done.prompt
        assert (over.place, over.item_offset) == (asked.place, asked.offset)
        assert await shown(desk.person, desk.session) == [done.prompt]
        await desk.finish()


async def test_a_choice_is_answered_by_an_options_index(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = (await desk.command("prompt_choice", message="Which?", options=["a", "b"])).prompt
        assert list(prompt.choice.options) == ["a", "b"]
        done = await answer(desk.person, prompt, option=1)
        assert done.prompt.choice.answer == 1
        assert (await resolved(desk.handler, prompt)).choice.answer == 1


async def test_the_first_answer_counts_and_later_ones_are_told_it(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        answers = await asyncio.gather(
            *(answer(desk.person, prompt, approved=bool(n % 2)) for n in range(8))
        )
        assert sum(found.accepted for found in answers) == 1
        (first,) = [found.prompt for found in answers if found.accepted]
        assert all(found.prompt == first for found in answers)
        assert await resolved(desk.handler, prompt) == first
        assert await shown(desk.person, desk.session) == [first]


async def test_an_answer_that_is_sent_again_is_the_same_answer(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        once = request_id()
        first = await answer(desk.person, prompt, approved=True, request_id=once)
        assert await answer(desk.person, prompt, approved=True, request_id=once) == first
        assert first.accepted
        with refused(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
            await answer(desk.person, prompt, approved=False, request_id=once)


async def test_a_dismissed_prompt_says_so(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        done = await answer(desk.person, prompt, dismissed=True)
        assert (done.accepted, done.prompt.status) == (True, _DISMISSED)
        assert not done.prompt.approval.HasField("answer")
        assert (await resolved(desk.handler, prompt)).status == _DISMISSED


async def test_a_prompt_that_nobody_answers_expires(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk, timeout=Duration(nanos=200_000_000))
        assert (await resolved(desk.handler, prompt)).status == _EXPIRED
        late = await answer(desk.person, prompt)
        assert (late.accepted, late.prompt.status) == (False, _EXPIRED)


async def test_an_answer_behind_the_time_is_too_late_before_the_sweep(tmp_path: Path) -> None:
    async with turn(tmp_path, timing=FAST | {"sweep_interval": 1.0}) as desk:
        prompt = await ask(desk, timeout=Duration(nanos=1_000_000))
        late = await answer(desk.person, prompt)
        assert (late.accepted, late.prompt.status) == (False, _EXPIRED)
        assert (await resolved(desk.handler, prompt)).status == _EXPIRED


async def test_stop_withdraws_and_asks_no_more(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        prompt = await ask(desk)
        await desk.person.call(
            "StopInvocation", session_id=desk.session, invocation_id=desk.work.invocation_id
        )
        await desk.handler.gets("cancel")
        over = await follow.sees("prompt_ended")
        assert over.prompt_ended.prompt.status == _WITHDRAWN
        refusal = await desk.command("prompt_approval", message="Again?")
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STOPPED")
        late = await answer(desk.person, prompt)
        assert (late.accepted, late.prompt.status) == (False, _WITHDRAWN)
        assert told(desk.handler, prompt) == []
        await desk.command("reply", text="as you wish")
        await desk.finish()


async def test_the_end_of_the_turn_withdraws_what_is_open(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk, await desk.person.follow(desk.session) as follow:
        await ask(desk)
        await desk.finish()
        await ended(follow, desk.work.invocation_id)
        assert follow.kinds()[-2:] == ["prompt_ended", "invocation_ended"]
        assert follow.events[-2].prompt_ended.prompt.status == _WITHDRAWN


async def test_a_later_attempt_joins_the_open_prompt_with_its_first_deadline(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        await desk.handler.finish(desk.work, _RELEASED)
        desk.work = await desk.handler.work(2)
        assert await ask(desk) == prompt
        assert (await ask(desk, "Another?")).prompt_id != prompt.prompt_id
        await answer(desk.person, prompt)
        assert (await resolved(desk.handler, prompt)).approval.answer
        assert len(await shown(desk.person, desk.session)) == 2


async def test_a_later_attempt_is_told_the_recorded_end_at_once(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        await desk.handler.drop()  # away when it is answered
        done = await answer(desk.person, prompt)
        async with BareHandler(desk.running) as other:
            await other.attach()
            again = await work_of(other, desk.work.invocation_id)
            assert again.attempt == 2
            joined = Desk(desk.running, desk.person, other, desk.session, again)
            assert await ask(joined) == done.prompt
            assert told(other, prompt) == []
            await joined.finish()


async def test_prompts_that_are_not_joined_again_are_withdrawn_at_the_end(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        await ask(desk, "only the first attempt asks")
        await desk.handler.finish(desk.work, _RELEASED)
        desk.work = await desk.handler.work(2)
        assert [found.status for found in await shown(desk.person, desk.session)] == [_OPEN]
        await desk.handler.finish(desk.work)

        async def withdrawn() -> bool:
            return [p.status for p in await shown(desk.person, desk.session)] == [_WITHDRAWN]

        await eventually(withdrawn, timeout=15)


async def test_the_end_is_told_again_on_every_attach_until_it_is_acknowledged(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path, timing=PATIENT) as desk:
        prompt = await ask(desk)
        await answer(desk.person, prompt)
        await resolved(desk.handler, prompt)
        for _ in range(2):
            await desk.handler.drop()
            desk.handler.frames.clear()
            await desk.handler.attach(leases=[lease(desk.work)])
            assert (await resolved(desk.handler, prompt)).status == _ANSWERED
        ack = handler_service_pb2.PromptAck(prompt_id=prompt.prompt_id)
        unknown = handler_service_pb2.PromptAck(prompt_id="prm_none")
        await desk.handler.send(
            handler_service_pb2.HandlerFrame(prompt_ack=unknown),
            handler_service_pb2.HandlerFrame(prompt_ack=ack),
        )
        await desk.command("notify", text="behind the acknowledgement")
        await desk.handler.drop()
        desk.handler.frames.clear()
        await desk.handler.attach(leases=[lease(desk.work)])
        await desk.command("notify", text="behind what is told on attaching")
        assert told(desk.handler, prompt) == []
        await desk.finish()


async def test_what_waits_takes_no_place_of_its_process(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path) as running, Person(running) as ada:
        async with BareHandler(running) as handler:
            await handler.attach(concurrency=1)
            prompts = []
            for number in range(3):
                session = await ada.open()
                sent = await ada.say(session, f"{number}")
                work = await work_of(handler, sent.invocation_id)
                desk = Desk(running, ada, handler, session, work)
                prompts.append((desk, await ask(desk, f"{number}?")))
            # Answered, all of them go on; nothing more is given until they have ended.
            for _, prompt in prompts:
                await answer(ada, prompt)
            session = await ada.open()
            sent = await ada.say(session, "one more")
            for desk, _ in prompts:
                await desk.command("reply", text="on it")
                assert all(
                    frame.invocation.invocation_id != sent.invocation_id for frame in handler.frames
                )
                await desk.finish()
            await work_of(handler, sent.invocation_id)


async def test_waiting_does_not_count_towards_the_deadline(tmp_path: Path) -> None:
    timing = FAST | {"turn_deadline": 2.5}
    async with turn(tmp_path, timing=timing) as desk:
        long = await ask(desk, "long?", timeout=Duration(seconds=30))
        short = await ask(desk, "short?", timeout=Duration(seconds=4))
        # The short one outlives the deadline; nothing is cancelled while either is open.
        assert (await resolved(desk.handler, short)).status == _EXPIRED
        assert not [f for f in desk.handler.frames if f.WhichOneof("frame") == "cancel"]
        await answer(desk.person, long)
        cancel = (await desk.handler.gets("cancel")).cancel  # and then the rest of it runs
        assert cancel.reason == handler_service_pb2.CANCEL_REASON_DEADLINE


async def test_a_pending_prompt_blocks_only_its_own_lane(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        behind = await desk.person.say(desk.session, "behind it")
        other = await desk.person.open()
        sent = await desk.person.say(other, "beside it")
        await work_of(desk.handler, sent.invocation_id)
        assert all(f.invocation.invocation_id != behind.invocation_id for f in desk.handler.frames)
        await answer(desk.person, prompt)
        await desk.finish()
        await work_of(desk.handler, behind.invocation_id)


async def test_a_snapshot_carries_open_prompts_wherever_the_follower_begins(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        first, second = await ask(desk, "first?"), await ask(desk, "second?")
        await answer(desk.person, second)
        page = await desk.person.call("GetTimeline", session_id=desk.session)
        async with await desk.person.follow(desk.session, page.offset) as follow:
            snapshot = await follow.live()
        (found,) = snapshot.prompts
        assert found.prompt == first
        assert (found.session_id, found.invocation_id) == (desk.session, desk.work.invocation_id)
        assert 0 < found.place < found.offset


@pytest.mark.deadline(120)
async def test_prompts_survive_a_kill_of_the_sidecar(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path / "home") as process:
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "60"  # it starts again meanwhile
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            sent = await ada.say(session, "hello")
            work = await work_of(handler, sent.invocation_id)
            desk = Desk(running, ada, handler, session, work)
            open_one, answered = await ask(desk, "open?"), await ask(desk, "answered?")
            await answer(ada, answered)
            await process.kill()
            running = await process.start()
            async with BareHandler(running, process_id=handler.process_id) as back:
                await back.attach(leases=[lease(work)])
                assert (await resolved(back, answered)).approval.answer
                async with await ada.follow(session) as follow:
                    assert [p.prompt for p in (await follow.live()).prompts] == [open_one]
                done = await answer(ada, open_one)
                assert done.accepted
                assert (await resolved(back, open_one)).status == _ANSWERED
                await replace(desk, handler=back).finish()


async def test_a_command_sent_again_answers_the_same_prompt(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        once = request_id()
        first = await ask(desk, request_id=once)
        assert await ask(desk, request_id=once) == first
        done = await answer(desk.person, first)
        assert await ask(desk, request_id=once) == done.prompt


async def test_only_its_person_answers_a_prompt(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        async with Person(desk.running, "terminal:eve") as eve:
            with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                await answer(eve, prompt)
            await eve.open()  # known now, and still not its person
            with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
                await answer(eve, prompt)
        with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
            await answer(desk.person, types_pb2.Prompt(prompt_id="prm_none"))
        assert [found.status for found in await shown(desk.person, desk.session)] == [_OPEN]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"option": 0}, "option"),
        ({"file_id": "fil_none"}, "file_id"),
        ({"dismissed": False}, "answer"),
        ({"approved": True, "request_id": "no"}, "request_id"),
    ],
)
async def test_an_answer_of_another_kind_is_refused_and_changes_nothing(
    tmp_path: Path, given: dict[str, Any], field: str
) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as refusal:
            await answer(
                desk.person,
                prompt,
                **({"approved": True} | given if field == "request_id" else given),
            )
        assert refusal.fields == [field]
        assert [found.status for found in await shown(desk.person, desk.session)] == [_OPEN]


async def test_an_option_that_there_is_not_is_refused(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = (await desk.command("prompt_choice", message="Which?", options=["a"])).prompt
        for option in (1, -1):
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT") as refusal:
                await answer(desk.person, prompt, option=option)
            assert refusal.fields == ["option"]


@pytest.mark.parametrize("form", ["unary", "command"])
@pytest.mark.parametrize(
    ("name", "fields", "field"),
    [
        ("prompt_approval", {"message": " "}, "message"),
        ("prompt_approval", {"message": "x" * 4_001}, "message"),
        ("prompt_approval", {"message": "?", "approve_label": "x" * 81}, "approve_label"),
        ("prompt_approval", {"message": "?", "timeout": Duration(seconds=-1)}, "timeout"),
        ("prompt_approval", {"message": "?", "timeout": Duration(seconds=31 * 86_400)}, "timeout"),
        ("prompt_choice", {"message": "?"}, "options"),
        ("prompt_choice", {"message": "?", "options": ["a", "a"]}, "options[1]"),
        ("prompt_choice", {"message": "?", "options": ["a", " "]}, "options[1]"),
        ("prompt_choice", {"message": "?", "options": [str(n) for n in range(101)]}, "options"),
        ("prompt_file", {"message": "?", "accept": "pdf"}, "accept"),
        ("prompt_file", {"message": "?", "accept": "." + "x" * 1_000}, "accept"),
    ],
)
async def test_a_malformed_prompt_is_refused_by_its_field(
    tmp_path: Path, form: str, name: str, fields: dict[str, Any], field: str
) -> None:
    async with turn(tmp_path) as desk:
        refusal = await desk.answer(form, name, **fields)
        assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
        assert await shown(desk.person, desk.session) == []


async def test_an_invocation_has_so_many_open_prompts_and_no_more(tmp_path: Path) -> None:
    async with turn(tmp_path, limits={"open_prompts": 2}) as desk:
        first = await ask(desk, "1?")
        await ask(desk, "2?")
        refusal = await desk.command("prompt_approval", message="3?")
        assert refusal.reason == "LIMIT_EXCEEDED"
        assert refusal.metadata == {"limit": "open_prompts", "maximum": "2"}
        await answer(desk.person, first)
        await ask(desk, "3?")


async def test_deleting_the_session_takes_its_prompts_with_it(tmp_path: Path) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        await desk.person.call("DeleteSession", session_id=desk.session)
        cancel = (await desk.handler.gets("cancel")).cancel
        assert cancel.reason == handler_service_pb2.CANCEL_REASON_SESSION_DELETED
        with refused(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"):
            await answer(desk.person, prompt)
        call = desk.person.stub.FollowChannel(
            channel_service_pb2.FollowChannelRequest(identity=desk.person.identity),
            metadata=desk.person.metadata,
        )
        async for batch in call:
            frames: list[events_pb2.FollowFrame] = list(batch.frames)
            last = [f.snapshot for f in frames if f.WhichOneof("frame") == "snapshot"]
            if last:
                assert not last[-1].prompts
                break
        call.cancel()


async def test_the_sidecar_does_not_wait_for_people_when_it_is_told_to_stop(
    tmp_path: Path,
) -> None:
    async with SidecarProcess(
        tmp_path / "home", environment={"CAPSULE_TIMING__DRAIN_GRACE": "25"}
    ) as process:
        running = await process.start()
        async with Person(running) as ada, BareHandler(running) as handler:
            await handler.attach()
            session = await ada.open()
            sent = await ada.say(session, "hello")
            work = await work_of(handler, sent.invocation_id)
            await ask(Desk(running, ada, handler, session, work))
            async with asyncio.timeout(15):
                assert await process.end() == 0
