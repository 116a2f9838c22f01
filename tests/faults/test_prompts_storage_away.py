"""Asking and answering while the disk is full or the database locked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.faults.conftest import Report
from tests.faults.people import Patient
from tests.faults.troubles import Trouble, integrity
from tests.support.eventually import eventually
from tests.support.ports import steady_port
from tests.support.sidecar import (
    BareHandler,
    Person,
    Refusal,
    SidecarProcess,
    refusal_of,
    request_id,
)
from tests.support.turns import Desk, work_of
from tests.support.work import lease

_PROMPTS = 60
_LONG = "x" * 3_900
_TIMING = {
    # Nothing that a handler holds is lost to a beat that cannot be written.
    "CAPSULE_TIMING__LEASE_TERM": "120s",
    "CAPSULE_TIMING__FRESH_BEAT": "120s",
    "CAPSULE_TIMING__SWEEP_INTERVAL": "200ms",
    "CAPSULE_LIMITS__OPEN_PROMPTS": "5000",
}


async def _answer(person: Person, given: dict[str, Any]) -> Refusal | bool:
    """Answers a prompt; returns whether that ended it, or the refusal."""
    try:
        return bool((await person.call("AnswerPrompt", **given)).accepted)
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)


def _is_away(refusal: Refusal) -> bool:
    return (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")


def _told(handler: BareHandler) -> list[str]:
    return [
        frame.prompt_resolved.prompt.prompt_id
        for frame in handler.frames
        if frame.WhichOneof("frame") == "prompt_resolved"
    ]


@pytest.mark.deadline(120)
async def test_questions_and_answers_while_storage_is_away_are_refused_and_taken_afterwards(
    tmp_path: Path, trouble: Trouble, report: Report
) -> None:
    home = tmp_path / "home"
    async with (
        SidecarProcess(home, steady_port(), steady_port(), _TIMING) as sidecar,
        Patient(running := await sidecar.start(), "terminal:ada") as person,
        BareHandler(running) as handler,
    ):
        ada = person
        assert isinstance(ada, Patient)
        await handler.attach()
        session = await ada.open()
        sent = await ada.say(session, "hello")
        desk = Desk(running, ada, handler, session, await work_of(handler, sent.invocation_id))
        asked = [
            (await desk.command("prompt_approval", message=f"{n}?")).prompt for n in range(_PROMPTS)
        ]
        trouble.begin(sidecar)
        try:
            # What space is left is used up by questions; then nothing is taken any more.
            more: list[types_pb2.Prompt] = []
            refused: list[tuple[str, str]] = []
            while len(refused) < 3:
                text, request = f"{len(more)} {_LONG}", request_id()
                found = await desk.command("prompt_approval", message=text, request_id=request)
                if isinstance(found, Refusal):
                    assert _is_away(found), found
                    assert "nothing was written" in found.message
                    refused.append((text, request))
                else:
                    more.append(found.prompt)
            taken: list[str] = []
            again: list[dict[str, Any]] = []
            for prompt in asked:
                given = {
                    "prompt_id": prompt.prompt_id, "approved": True, "request_id": request_id(),
                }  # fmt: skip
                done = await _answer(ada, given)
                if isinstance(done, Refusal):
                    assert _is_away(done), done
                    again.append(given)
                else:
                    assert done
                    taken.append(prompt.prompt_id)
                if len(again) == 5:
                    break
            assert again
            # What was refused has not happened, and nobody is told that it has.
            await eventually(lambda: set(_told(handler)) == set(taken), message="who is told")
        finally:
            trouble.end()
        for given in again:
            # Its first answer was lost with nothing behind it: this one is the first.
            response: Any = await ada.surely("AnswerPrompt", **given)
            assert response.accepted
            taken.append(given["prompt_id"])
            assert (
                await _answer(ada, given | {"approved": False, "request_id": request_id()}) is False
            )
        for text, request in refused:
            found = await desk.command("prompt_approval", message=text, request_id=request)
            assert found.prompt.status == types_pb2.PROMPT_STATUS_OPEN, found
            more.append(found.prompt)
        await eventually(lambda: sorted(_told(handler)) == sorted(taken), message="all are told")
        before = await ada.log(session)
        await sidecar.kill()
        assert integrity(home) == "ok"
        await sidecar.start()
        assert await ada.log(session) == before
        assert [event.offset for event in before] == list(range(1, len(before) + 1))
        opened = [e.prompt_opened.prompt for e in before if e.HasField("prompt_opened")]
        assert opened == [*asked, *more]
        ended = [e.prompt_ended.prompt.prompt_id for e in before if e.HasField("prompt_ended")]
        assert ended == taken
        # It goes on: the lease and what was told outlive it as well.
        async with BareHandler(running, process_id=handler.process_id) as back:
            await back.attach(leases=[lease(desk.work)])
            await eventually(lambda: sorted(_told(back)) == sorted(taken), message="told again")
            for key in taken:
                ack = handler_service_pb2.PromptAck(prompt_id=key)
                await back.send(handler_service_pb2.HandlerFrame(prompt_ack=ack))
            await Desk(running, ada, back, session, desk.work).finish()
        ends = [e.prompt_ended.prompt for e in await ada.log(session) if e.HasField("prompt_ended")]
        statuses = {prompt.prompt_id: prompt.status for prompt in ends}
        assert len(ends) == len(statuses) == len(opened)
        left = {prompt.prompt_id for prompt in opened} - set(taken)
        assert {statuses[key] for key in left} == {types_pb2.PROMPT_STATUS_WITHDRAWN}
    report(
        f"{len(refused)} questions and {len(again)} answers refused, taken when sent again;"
        f" {len(opened)} prompts, {len(taken)} answered, each ended once"
    )
