"""Prompts and the lines of processes: what is asked again, told again, and by way of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from capsule_protocol.v1 import handler_service_pb2, types_pb2
from tests.integration.test_prompts import answer, ask, resolved, shown, told
from tests.support.eventually import eventually
from tests.support.postgres import postgres_server
from tests.support.sidecar import FAST, BareHandler, Person, request_id, running_sidecar
from tests.support.turns import turn, turn_on, work_of

_RELEASED = handler_service_pb2.OUTCOME_STATUS_RELEASED


async def test_a_later_attempt_that_asks_under_the_very_id_joins_and_is_told(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        once = request_id()
        prompt = await ask(desk, request_id=once)
        await desk.handler.finish(desk.work, _RELEASED)
        desk.work = await desk.handler.work(2)
        assert await ask(desk, request_id=once) == prompt
        await answer(desk.person, prompt)
        assert (await resolved(desk.handler, prompt)).approval.answer


async def test_a_process_that_has_forgotten_what_it_asked_joins_it_with_a_new_attempt(
    tmp_path: Path,
) -> None:
    async with turn(tmp_path) as desk:
        prompt = await ask(desk)
        async with BareHandler(desk.running, process_id=desk.handler.process_id) as back:
            await back.attach()  # its hello names no lease
            again = await work_of(back, desk.work.invocation_id)
            assert again.attempt == 2
            joined = replace(desk, handler=back, work=again)
            assert await ask(joined) == prompt
            await answer(desk.person, prompt)
            assert (await resolved(back, prompt)).approval.answer
            assert len(await shown(desk.person, desk.session)) == 1


async def test_acknowledgements_of_what_was_not_told_cost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with turn(tmp_path) as desk, Person(desk.running, "terminal:eve") as eve:
        assert desk.running.sidecar is not None
        journal = desk.running.sidecar.journal
        submitted = 0
        start = journal.start

        def counted(*args: object) -> None:
            nonlocal submitted
            submitted += 1
            start(*args)  # type: ignore[arg-type]  # passed on as they are

        monkeypatch.setattr(journal, "start", counted)
        frames = [
            handler_service_pb2.HandlerFrame(
                prompt_ack=handler_service_pb2.PromptAck(prompt_id=f"prm_{number}")
            )
            for number in range(10_000)
        ]
        await desk.handler.send(*frames)
        await desk.command("notify", text="behind them")
        await eve.open()
        assert submitted == 0


async def test_more_prompts_than_a_sweep_takes_expire_one_page_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule_sidecar.storage.leases.SWEEP_ROWS", 3)
    # With one page a sweep they would take ten seconds.
    timing = FAST | {"sweep_interval": 1.0}
    async with turn(tmp_path, timing=timing) as desk:
        prompts = [
            await ask(desk, f"{number}?", timeout=Duration(nanos=500_000_000))
            for number in range(30)
        ]

        def expired() -> int:
            return sum(bool(told(desk.handler, prompt)) for prompt in prompts)

        await eventually(lambda: expired() > 0, message="the first")
        await eventually(lambda: expired() == 30, timeout=5, message="all of them")


@pytest.mark.deadline(120)
async def test_an_answer_by_way_of_another_sidecar_is_told_and_its_place_is_taken_again(
    tmp_path: Path,
) -> None:
    with postgres_server({"fsync": "off"}) as url:
        storage = {"url": url}
        async with (
            running_sidecar(tmp_path / "one", storage=storage) as one,
            running_sidecar(tmp_path / "two", storage=storage) as two,
            turn_on(one) as desk,
            Person(two) as same,
        ):
            first, second = await ask(desk, "first?"), await ask(desk, "second?")
            assert one.sidecar is not None
            (process,) = one.sidecar._dispatcher.processes
            slots = one.sidecar._dispatcher._slots

            def free() -> int:
                return slots._holders[process.number].free

            waiting = free()
            assert (await answer(same, first)).accepted
            assert (await resolved(desk.handler, first)).status == types_pb2.PROMPT_STATUS_ANSWERED
            assert free() == waiting, "it waits with the other one"
            assert (await answer(same, second)).accepted
            await resolved(desk.handler, second)
            assert free() == waiting - 1
            await desk.finish()
            await eventually(lambda: free() == waiting, message="the place is free again")
            assert len(told(desk.handler, first)) == len(told(desk.handler, second)) == 1
