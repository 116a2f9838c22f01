"""Prompts over kills of the handler, of the sidecar and of both, in each state of waiting."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import events_pb2, handler_service_pb2, types_pb2
from tests.faults.answerers import Answering, Waiting
from tests.faults.checker import check
from tests.faults.conftest import Report
from tests.faults.people import Patient
from tests.faults.processes import Handlers, Proxy
from tests.support.eventually import eventually
from tests.support.ports import steady_port
from tests.support.proxy import FaultProxy
from tests.support.sidecar import BareHandler, Person, Running, SidecarProcess, request_id
from tests.support.turns import Desk, work_of
from tests.support.work import lease, passed

_TIMING = {
    "CAPSULE_TIMING__FRESH_BEAT": "3s",
    "CAPSULE_TIMING__BEAT_INTERVAL": "1s",
    "CAPSULE_TIMING__SWEEP_INTERVAL": "500ms",
    "CAPSULE_TIMING__STOP_GRACE": "2s",
    "CAPSULE_TIMING__DRAIN_GRACE": "1s",
    "CAPSULE_TIMING__MAX_ATTEMPTS": "20",
    "CAPSULE_LIMITS__WAITING_MESSAGES": "2",
}
_VICTIMS = ["handler", "sidecar", "handler and sidecar"]
_ANSWERED, _EXPIRED = types_pb2.PROMPT_STATUS_ANSWERED, types_pb2.PROMPT_STATUS_EXPIRED
_WITHDRAWN = types_pb2.PROMPT_STATUS_WITHDRAWN


@dataclass
class Short(Waiting):
    """One whose prompt is soon over."""

    async def _talk(self) -> None:
        self.session_id = await self._open()
        await self.ask(f"{self.name}-00000 reply ask:4 reply")


@asynccontextmanager
async def _sidecar(
    tmp_path: Path, lease_term: str = "6s"
) -> AsyncIterator[tuple[SidecarProcess, Running]]:
    timing = _TIMING | {"CAPSULE_TIMING__LEASE_TERM": lease_term}
    async with SidecarProcess(tmp_path / "home", steady_port(), steady_port(), timing) as sidecar:
        yield sidecar, await sidecar.start()


async def _ends(person: Patient, session: str) -> list[events_pb2.Event]:
    return [e for e in await person.log(session) if e.WhichOneof("kind") == "prompt_ended"]


# -- each state of waiting, for each who is killed ------------------------------------------------


@pytest.mark.deadline(120)
@pytest.mark.parametrize("victims", _VICTIMS)
async def test_each_state_of_waiting_outlives_a_kill(
    tmp_path: Path, report: Report, victims: str, seed: str
) -> None:
    """At the kill, of four prompts one is open, one is open and was joined by a later attempt, one
    is answered with nobody there to be told, and one is over before anybody is back."""
    # A process that is not killed keeps its work; that of another is taken over soon.
    term = "15s" if victims == "sidecar" else "5s"
    async with AsyncExitStack() as stack:
        sidecar, running = await stack.enter_async_context(_sidecar(tmp_path, term))
        handlers = await stack.enter_async_context(Handlers(running, tmp_path))
        proxy = await stack.enter_async_context(Proxy(running.address))

        async def waiting(kind: type[Waiting], name: str) -> Waiting:
            talk = await stack.enter_async_context(kind(running, name, seed))
            await talk.asked_back()
            return talk

        first = await handlers.start()
        await first.attached()
        joined = await waiting(Waiting, "joined")
        prompt = await joined.asked_back()
        await first.kill()
        second = await handlers.start(proxy.address)
        await handlers.noted("begun", attempt=2, text="joined-00000")
        # It asks again behind its first reply.
        await handlers.noted("message", attempt=2, session=joined.session_id)
        opened, answered = await waiting(Waiting, "open"), await waiting(Waiting, "answered")
        over = await waiting(Short, "over")
        talks = [joined, opened, answered, over]

        proxy.refusing = True
        assert await eventually(proxy.cut, message="there is a line to cut")
        done = await answered.answers_at_last(approved=False)
        assert done.accepted
        began = time.monotonic()
        if "handler" in victims:
            await second.kill()
        if "sidecar" in victims:
            await sidecar.kill()
        await passed(4.5 - (time.monotonic() - began))  # the short one's time
        if "sidecar" in victims:
            await sidecar.start()
        back = time.monotonic()
        proxy.refusing = False
        if "handler" in victims:
            await (await handlers.start()).attached()
        # First of all who it was that the answer was for.
        await handlers.noted(
            "told", timeout=40, session=answered.session_id, text="answered-00000/1? no"
        )
        took = time.monotonic() - back
        assert await joined.asked_back() == prompt
        for talk in (joined, opened):
            assert (await talk.answers_at_last()).accepted
        for talk in talks:
            await talk.finish()
        late = await over.answer(
            (await _ends(over.person, over.session_id))[0].prompt_ended.prompt,
            {"approved": True},
            request_id(),
        )
        assert (late.accepted, late.prompt.status) == (False, _EXPIRED)
        over.answers.append(late)
        figures = await check(talks, handlers.notes())
        assert not handlers.surprises()
        told = {
            n["session"]: n["text"].split()[-1] for n in handlers.notes() if n["what"] == "told"
        }
        assert [told[talk.session_id] for talk in talks] == ["yes", "yes", "no", "nothing"]
        attempts = {talk.name: await _attempts(talk) for talk in talks}
    report(f"{victims} killed: told after {took:.1f} s, attempts {attempts}; {figures}")
    assert (figures.prompts, figures.answered, figures.expired) == (4, 3, 1)
    kept = 1 if victims == "sidecar" else 2
    assert attempts == {"joined": kept + 1, "open": kept, "answered": kept, "over": kept}


async def _attempts(talk: Waiting) -> int:
    log = await talk.person.log(talk.session_id)
    (end,) = [e.invocation_ended for e in log if e.WhichOneof("kind") == "invocation_ended"][1:]
    return end.attempts


@pytest.mark.deadline(120)
@pytest.mark.parametrize("victims", _VICTIMS)
async def test_what_was_told_and_not_acknowledged_is_told_again_after_a_kill(
    tmp_path: Path, report: Report, victims: str
) -> None:
    async with AsyncExitStack() as stack:
        sidecar, running = await stack.enter_async_context(_sidecar(tmp_path))
        ada = Patient(running, "terminal:ada")
        await stack.enter_async_context(ada)
        handler = await stack.enter_async_context(BareHandler(running))
        await handler.attach()
        desk = await _desk(running, ada, handler)
        prompt = (await desk.command("prompt_approval", message="Really?")).prompt
        done: Any = await ada.surely("AnswerPrompt", prompt_id=prompt.prompt_id, approved=True)
        told = (await handler.gets("prompt_resolved")).prompt_resolved.prompt
        assert told == done.prompt
        if "handler" in victims:
            await handler.drop()
        if "sidecar" in victims:
            await sidecar.kill()
            await sidecar.start()
        if "handler" in victims:  # a new process: the next attempt, which asks again
            back = await stack.enter_async_context(BareHandler(running))
            await back.attach()
            work = await work_of(back, desk.work.invocation_id)
            again = Desk(running, ada, back, desk.session, work)
            assert (await again.command("prompt_approval", message="Really?")).prompt == done.prompt
            assert work.attempt == 2
        else:  # the same process with its lease
            back = await stack.enter_async_context(
                BareHandler(running, process_id=handler.process_id)
            )
            await back.attach(leases=[lease(desk.work)])
            again = Desk(running, ada, back, desk.session, desk.work)
            assert (await back.gets("prompt_resolved")).prompt_resolved.prompt == done.prompt
            ack = handler_service_pb2.PromptAck(prompt_id=prompt.prompt_id)
            await back.send(handler_service_pb2.HandlerFrame(prompt_ack=ack))
        await again.command("notify", text="behind it")
        # Settled: nobody is told once more.
        await sidecar.kill()
        await sidecar.start()
        last = await stack.enter_async_context(BareHandler(running, process_id=back.process_id))
        await last.attach(leases=[lease(again.work)])
        final = Desk(running, ada, last, desk.session, again.work)
        await final.command("notify", text="behind what is told on attaching")
        assert "prompt_resolved" not in [frame.WhichOneof("frame") for frame in last.frames]
        await final.finish()
        assert len(await _ends(ada, desk.session)) == 1
    report(f"{victims} killed between the telling and its acknowledgement: told again, once")


async def _desk(running: Running, person: Person, handler: BareHandler) -> Desk:
    session = await person.open()
    sent = await person.say(session, "hello")
    return Desk(running, person, handler, session, await work_of(handler, sent.invocation_id))


async def test_an_answer_whose_acknowledgement_was_cut_is_sent_again_and_the_same(
    tmp_path: Path, report: Report
) -> None:
    rounds, cut, accepted = 12, 0, 0
    async with AsyncExitStack() as stack:
        _, running = await stack.enter_async_context(_sidecar(tmp_path))
        host, _, port = running.address.rpartition(":")
        proxy = await stack.enter_async_context(FaultProxy(host, int(port)))
        far = Running(proxy.address, running.home, running.token)
        ada = Patient(running, "terminal:ada")
        await stack.enter_async_context(ada)
        handler = await stack.enter_async_context(BareHandler(running))
        await handler.attach()
        desk = await _desk(running, ada, handler)
        for number in range(rounds):
            prompt = (await desk.command("prompt_approval", message=f"{number}?")).prompt
            given = {
                "prompt_id": prompt.prompt_id, "approved": bool(number % 2),
                "request_id": request_id(),
            }  # fmt: skip
            async with Person(far, "terminal:ada") as away:
                # The line is up before anything is cut from it.
                await away.call("GetTimeline", session_id=desk.session, page_size=1)
                # At once, in the middle of the answer, or at its last byte.
                proxy.truncate(1 + number * 20)
                first = await _answer_unless_cut(away, given)
                cut += first is None
                await proxy.restore()
                proxy.truncate(1 << 40)
            again: Any = await ada.surely("AnswerPrompt", **given)
            # The commit was before the cut, always: what was cut is what was said of it.
            assert again.accepted
            assert first in (None, again)
            assert again.prompt.approval.answer == given["approved"]
            accepted += again.accepted
            other: Any = await ada.surely(
                "AnswerPrompt", **given | {"request_id": request_id(), "approved": not number % 2}
            )
            assert (other.accepted, other.prompt) == (False, again.prompt)
        ends = await _ends(ada, desk.session)
        assert len(ends) == accepted == rounds
        frames = [f for f in handler.frames if f.WhichOneof("frame") == "prompt_resolved"]
        assert [f.prompt_resolved.prompt for f in frames] == [e.prompt_ended.prompt for e in ends]
    report(f"{cut} of {rounds} answers cut on the way back; each sent again and answered the same")
    assert cut > rounds // 2


async def _answer_unless_cut(person: Person, given: dict[str, Any]) -> Any:
    """Answers a prompt once; returns what that was answered, None where the line was cut."""
    try:
        return await person.call("AnswerPrompt", **given)
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
            raise
    return None


@pytest.mark.deadline(180)
async def test_a_stop_that_was_sent_while_the_sidecar_was_away_withdraws(
    tmp_path: Path, report: Report, seed: str
) -> None:
    async with AsyncExitStack() as stack:
        sidecar, running = await stack.enter_async_context(_sidecar(tmp_path))
        handlers = await stack.enter_async_context(Handlers(running, tmp_path))
        process = await handlers.start()
        await process.attached()
        talks = [
            await stack.enter_async_context(Waiting(running, f"w{number}", seed))
            for number in range(3)
        ]
        invocations = []
        for talk in talks:
            await talk.asked_back()
            log = await talk.person.log(talk.session_id)
            invocations.append(log[-1].invocation_id)
        await sidecar.kill()
        stops = [
            asyncio.create_task(
                talk.person.surely(
                    "StopInvocation", session_id=talk.session_id, invocation_id=invocation
                )
            )
            for talk, invocation in zip(talks, invocations, strict=True)
        ]
        retries = [talk.person.retries for talk in talks]
        await eventually(
            lambda: all(t.person.retries > r for t, r in zip(talks, retries, strict=True)),
            message="each is tried in vain",
        )
        await sidecar.start()
        await asyncio.gather(*stops)
        for talk in talks:
            await handlers.noted("cancelled", session=talk.session_id)
            await talk.finish()
            log = await talk.person.log(talk.session_id)
            (end,) = [e.prompt_ended.prompt for e in log if e.HasField("prompt_ended")]
            assert end.status == _WITHDRAWN
            over = log[-1].invocation_ended
            assert over.status == types_pb2.INVOCATION_STATUS_STOPPED
            late = await talk.answer(end, {"approved": True}, request_id())
            assert (late.accepted, late.prompt) == (False, end)
        tries = sum(talk.person.retries for talk in talks)
        assert "told" not in [note["what"] for note in handlers.notes()]
    report(f"{len(talks)} stops, {tries} tries in vain: withdrawn, nobody told of an answer")


# -- under load -------------------------------------------------------------------------------


@pytest.mark.deadline(280)
async def test_every_prompt_ends_once_while_handlers_and_sidecar_are_killed(
    tmp_path: Path, report: Report, seed: str
) -> None:
    rounds, people, kills = 12, 10, {"handler": 0, "sidecar": 0}
    choice = random.Random(seed)
    began = time.monotonic()
    wishes = ("ask", "ask", "choose", "ask:2", "reply", "block")
    async with AsyncExitStack() as stack:
        sidecar, running = await stack.enter_async_context(_sidecar(tmp_path))
        handlers = await stack.enter_async_context(Handlers(running, tmp_path))
        alive = [await handlers.start() for _ in range(2)]
        for process in alive:
            await process.attached()
        talks = [
            await stack.enter_async_context(
                Answering(running, f"p{n}", seed, wishes=wishes, thinks=0.8, silent=10)
            )
            for n in range(people)
        ]
        # Who leaves everything alone: whatever chance does to the others, some prompts expire.
        ignoring = await stack.enter_async_context(
            Answering(running, "ignoring", seed, wishes=("ask:2",), silent=100)
        )
        for _ in range(rounds):
            await asyncio.sleep(choice.uniform(0.3, 1.5))  # the random point
            victims = choice.choice(_VICTIMS)
            if "handler" in victims:
                await alive.pop(0).kill()
                kills["handler"] += 1
            if "sidecar" in victims:
                await sidecar.kill()
                await sidecar.start()
                kills["sidecar"] += 1
            if "handler" in victims:
                alive.append(await handlers.start())
        # What nobody answers any more would be waited for until its time is over.
        for talk in talks:
            talk.forgives()
        talks.append(ignoring)
        for talk in talks:
            await talk.finish()
        assert not handlers.surprises()
        figures = await check(talks, handlers.notes())
        retries = sum(talk.person.retries for talk in talks)
    took = time.monotonic() - began
    report(f"{kills} killed, {retries} retries, {took:.0f} s; {figures}")
    assert figures.acknowledged_answers > rounds
    assert figures.delivered_again > 0
    assert figures.expired > 0
