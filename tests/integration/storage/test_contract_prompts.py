"""Prompts: opened, joined, ended once, told until it is acknowledged; and what waiting takes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from capsule_protocol.v1 import types_pb2
from capsule_sidecar.model.errors import (
    InvalidArgument,
    InvocationEnded,
    NotFound,
    RequestIdReused,
    Superseded,
)
from capsule_sidecar.model.types import (
    Answer,
    ChoiceQuestion,
    FileQuestion,
    InvocationStatus,
)
from capsule_sidecar.storage import prompts as rows
from tests.integration.storage.asking import (
    ANSWERED,
    EXPIRED,
    MINUTE_MS,
    OPEN,
    acknowledge,
    answer,
    ask,
    open_prompts,
    session_of_file,
    shown,
    states,
    statuses,
    told,
    turn,
    upload,
)
from tests.integration.storage.store import Store, offsets, request_key


async def test_a_prompt_is_an_item_that_its_end_changes_in_its_place(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        prompt = await ask(sidecar, lease, timeout_ms=5_000)
        assert prompt.expire_time.ToMilliseconds() - prompt.create_time.ToMilliseconds() == 5_000
        assert await shown(sidecar, session) == [prompt] == await open_prompts(sidecar)
        await sidecar.reply(lease, "behind it")
        store.clock.advance(1_000)
        end, accepted = await answer(sidecar, prompt)
        assert accepted
        assert end.approval.answer
        assert end.end_time.ToMilliseconds() >= prompt.create_time.ToMilliseconds() + 1_000
        asked, _, over = (await sidecar.log(session))[-3:]
        assert (asked.prompt_opened.prompt, over.prompt_ended.prompt) == (prompt, end)
        assert (over.place, over.item_offset) == (asked.place, asked.offset)
        assert over.invocation_id == asked.invocation_id == lease.invocation_id
        assert (await sidecar.kinds(session))[-3:] == [
            "prompt_opened", "message_added", "prompt_ended",
        ]  # fmt: skip
        items, _ = await sidecar.items(session)
        assert [item.WhichOneof("kind") for item in items][-2:] == ["prompt_ended", "message_added"]
        assert await open_prompts(sidecar) == []
        assert told(sidecar, prompt) == [(1, end)]


async def test_of_answers_in_one_group_the_first_counts(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        prompt = await ask(sidecar, lease)
        before = await sidecar.log(session)
        given = [Answer(approved=bool(n % 2)) for n in range(5)] + [Answer()]
        found = await asyncio.gather(*(answer(sidecar, prompt, each) for each in given))
        assert [accepted for _, accepted in found] == [True] + [False] * 5
        first = found[0][0]
        assert first.status == ANSWERED
        assert not first.approval.answer
        assert all(end == first for end, _ in found)
        assert len(await sidecar.log(session)) == len(before) + 1
        assert told(sidecar, prompt) == [(1, first)]


async def test_asked_and_answered_in_one_group(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        first = await ask(sidecar, lease, "first")
        ended, second = await asyncio.gather(answer(sidecar, first), ask(sidecar, lease, "second"))
        assert ended[1]
        assert await open_prompts(sidecar) == [second]
        assert await statuses(sidecar, session) == [ANSWERED, OPEN]
        events = await sidecar.log(session)
        assert offsets(events) == list(range(1, len(events) + 1))
        assert (await sidecar.invocation(lease.invocation_id))["prompts"] == 1


async def test_an_answer_that_is_sent_again_is_answered_as_first(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        prompt, key = await ask(sidecar, lease), request_key()
        first = await answer(sidecar, prompt, key=key)
        assert first == await answer(sidecar, prompt, key=key)
        # In one group with what fails for it, too.
        again, said = await asyncio.gather(
            answer(sidecar, prompt, key=key), sidecar.say(session, "beside it")
        )
        assert again == first
        assert said.ids
        with pytest.raises(RequestIdReused):
            await answer(sidecar, prompt, Answer(), key=key)
        await sidecar.finish(lease)
        assert await answer(sidecar, prompt, key=key) == first
    async with store.sidecar() as sidecar:
        assert await answer(sidecar, prompt, key=key) == first
        assert told(sidecar, prompt) == []


async def test_a_question_that_is_sent_again_is_the_same_prompt(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        key = request_key()
        prompt = await ask(sidecar, lease, key=key)
        assert await ask(sidecar, lease, key=key) == prompt
        assert (await sidecar.invocation(lease.invocation_id))["prompts"] == 1
        with pytest.raises(RequestIdReused):
            await ask(sidecar, lease, "Something else?", key=key)
        end, _ = await answer(sidecar, prompt)
        assert await ask(sidecar, lease, key=key) == end
        await sidecar.finish(lease)
        # Before attempt and end are looked at.
        assert await ask(sidecar, lease, key=key) == end
        with pytest.raises(InvocationEnded):
            await ask(sidecar, lease)
        assert len(await shown(sidecar, session)) == 1


@pytest.mark.parametrize("given", [Answer(option=2), Answer(option=-1), Answer(approved=True)])
async def test_an_answer_that_does_not_fit_changes_nothing(store: Store, given: Answer) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        prompt = await ask(sidecar, lease, question=ChoiceQuestion(("a", "b")))
        before = await sidecar.log(session)
        with pytest.raises(InvalidArgument):
            await answer(sidecar, prompt, given)
        assert await sidecar.log(session) == before
        end, accepted = await answer(sidecar, prompt, Answer(option=1))
        assert (accepted, end.choice.answer) == (True, 1)


async def test_a_file_that_answers_is_the_sessions_from_then_on(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await turn(sidecar)
        prompt = await ask(sidecar, lease, question=FileQuestion(".txt,image/*"))
        with pytest.raises(NotFound):
            await answer(sidecar, prompt, Answer(file_id="fil_none"))
        other = await upload(sidecar, "a.pdf")
        with pytest.raises(InvalidArgument):
            await answer(sidecar, prompt, Answer(file_id=other))
        key = await upload(sidecar)
        end, accepted = await answer(sidecar, prompt, Answer(file_id=key))
        assert accepted
        assert (end.file.answer.file_id, end.file.answer.name) == (key, "a.txt")
        assert [bool(await session_of_file(sidecar, name)) for name in (key, other)] == [
            True,
            False,
        ]


async def test_only_its_person_may_answer(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await turn(sidecar)
        prompt = await ask(sidecar, lease)
        bob = replace(sidecar.ada, identity="web:bob")
        other = await sidecar.of_app("other")
        await sidecar.open(person=bob)
        await other.open()
        for person in (bob, other.ada):
            with pytest.raises(NotFound):
                await answer(sidecar, prompt, person=person)
        assert await open_prompts(sidecar) == [prompt]


# -- its time -------------------------------------------------------------------------------------


async def test_the_sweep_ends_what_nobody_answered_in_time_and_nothing_else(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        times = (30_000, 10_000, 20_000)
        prompts = [await ask(sidecar, lease, f"{n}", timeout_ms=n) for n in times]
        kept = await ask(sidecar, lease)
        store.clock.advance(5_000)
        await sidecar.sweep()
        assert len(await open_prompts(sidecar)) == 4
        store.clock.advance(26_000)
        await sidecar.sweep()
        assert await open_prompts(sidecar) == [kept]
        # In the order that their times were over.
        ended = [
            e.prompt_ended.prompt for e in await sidecar.log(session) if e.HasField("prompt_ended")
        ]
        assert [prompt.message for prompt in ended] == ["10000", "20000", "30000"]
        assert {prompt.status for prompt in ended} == {EXPIRED}
        for prompt in prompts:
            end, accepted = await answer(sidecar, prompt)
            assert (accepted, end.status) == (False, EXPIRED)
            assert told(sidecar, prompt) == [(1, end)]
        await sidecar.sweep()
        assert (await sidecar.invocation(lease.invocation_id))["prompts"] == 1


async def test_an_answer_behind_the_time_is_late_though_nothing_was_swept(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await turn(sidecar)
        prompt, key = await ask(sidecar, lease, timeout_ms=1_000), request_key()
        store.clock.advance(1_000)
        end, accepted = await answer(sidecar, prompt, key=key)
        assert (accepted, end.status) == (False, EXPIRED)
        assert not end.approval.HasField("answer")
        assert told(sidecar, prompt) == [(1, end)]
        assert await answer(sidecar, prompt, key=key) == (end, False)
        await sidecar.sweep()
        assert told(sidecar, prompt) == [(1, end)]


async def test_a_late_sweep_ends_what_is_over_and_whoever_comes_back_is_told(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await turn(sidecar)
        over = await ask(sidecar, lease, "over?", timeout_ms=5_000)
        kept = await ask(sidecar, lease, "kept?", timeout_ms=10 * MINUTE_MS)
    store.clock.advance(MINUTE_MS)
    async with store.sidecar() as sidecar:
        await sidecar.sweep()
        assert told(sidecar, over)[0][0] == 1  # nobody is attached who would hear it
        found = await sidecar.attach(claims=(lease,))
        assert found.kept == [lease]
        (ended,) = found.resolved
        asker, encoded = ended.lease, ended.prompt
        end = types_pb2.Prompt.FromString(encoded)
        assert (asker, end.prompt_id, end.status) == (lease, over.prompt_id, EXPIRED)
        assert found.held == 0
        assert await open_prompts(sidecar) == [kept]
        assert (await answer(sidecar, kept))[1]
        assert len(told(sidecar, kept)) == 1


# -- joined, told, acknowledged -------------------------------------------------------------------


async def test_a_later_attempt_joins_by_what_is_asked_and_its_ordinal(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await turn(sidecar)
        first = [await ask(sidecar, lease, text) for text in ("a", "b", "a")]
        before = await sidecar.log(session)
        store.clock.advance(1_000)
        again = await sidecar.given_back(lease)
        assert await open_prompts(sidecar) == first
        # Its first deadline stays; another answer kind, label or time is another prompt.
        assert [await ask(sidecar, again, text) for text in ("b", "a", "a")] == [
            first[1], first[0], first[2],
        ]  # fmt: skip
        assert await sidecar.log(session) == before
        assert {attempt for _, attempt in (await states(sidecar)).values()} == {2}
        more = [
            await ask(sidecar, again, "a"),
            await ask(sidecar, again, "b", timeout_ms=MINUTE_MS + 1),
            await ask(sidecar, again, "b", question=ChoiceQuestion(("Yes", "No"))),
        ]
        assert await open_prompts(sidecar) == [*first, *more]
        assert (await sidecar.invocation(again.invocation_id))["prompts"] == 6
        with pytest.raises(Superseded):
            await ask(sidecar, lease, "a")
        third = await sidecar.given_back(again)
        assert [await ask(sidecar, third, "a") for _ in range(3)] == [first[0], first[2], more[0]]


async def test_a_later_attempt_is_told_the_recorded_end_at_once_and_only_so(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await turn(sidecar)
        answered = await ask(sidecar, lease, "answered")
        between = await ask(sidecar, lease, "answered between the attempts")
        over = await ask(sidecar, lease, "over", timeout_ms=1_000)
        first, _ = await answer(sidecar, answered)
        again = await sidecar.taken_over()  # the sweeps in it end the third
        second, _ = await answer(sidecar, between)
        assert told(sidecar, between) == []
        # Nor on attaching: it has not asked for any of them.
        assert (await sidecar.attach("p2", claims=(again,))).resolved == []
        assert [await ask(sidecar, again, p.message) for p in (answered, between)] == [
            first,
            second,
        ]
        end = await ask(sidecar, again, "over", timeout_ms=1_000)
        assert end.prompt_id == over.prompt_id
        assert end.status == EXPIRED
        assert {state for state, _ in (await states(sidecar)).values()} == {rows.SETTLED}
        assert (await sidecar.invocation(lease.invocation_id))["prompts"] == 0
        assert (await sidecar.attach("p2", claims=(again,))).resolved == []


async def test_an_end_is_told_on_every_attach_until_it_is_acknowledged(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await turn(sidecar)
        prompt, other = await ask(sidecar, lease, "a"), await ask(sidecar, lease, "b")
        end, _ = await answer(sidecar, prompt)
        assert {key: state for key, (state, _) in (await states(sidecar)).items()} == {
            prompt.prompt_id: rows.ENDED, other.prompt_id: rows.OPEN,
        }  # fmt: skip
        for _ in range(2):
            found = await sidecar.attach(claims=(lease,))
            assert [types_pb2.Prompt.FromString(told.prompt) for told in found.resolved] == [end]
            assert found.held == 0  # it waits with the other one
        await acknowledge(sidecar, other)  # it has not ended: there is nothing to take
        await acknowledge(sidecar, types_pb2.Prompt(prompt_id="prm_none"))
        assert len((await sidecar.attach(claims=(lease,))).resolved) == 1
        await acknowledge(sidecar, prompt)
        await acknowledge(sidecar, prompt)
        assert (await sidecar.attach(claims=(lease,))).resolved == []
        assert (await answer(sidecar, other))[1]


async def test_what_is_to_be_told_outlives_the_sidecar(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await turn(sidecar)
        prompt, other = await ask(sidecar, lease, "a"), await ask(sidecar, lease, "b")
        end, _ = await answer(sidecar, prompt)
    async with store.sidecar() as sidecar:
        assert await open_prompts(sidecar) == [other]
        found = await sidecar.attach(claims=(lease,))
        assert [types_pb2.Prompt.FromString(told.prompt) for told in found.resolved] == [end]
        assert (await answer(sidecar, other))[1]
        assert await sidecar.finish(lease) == InvocationStatus.COMPLETED
        assert (await sidecar.attach(claims=(lease,))).resolved == []
