"""A handler that is delivered again runs from its start, and what it repeats is not doubled."""

from __future__ import annotations

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.types import Lease
from tests.integration.storage.store import Sidecar, Store, request_key


async def _turn(sidecar: Sidecar) -> tuple[str, Lease]:
    await sidecar.attach()
    session = await sidecar.open()
    sent = await sidecar.say(session, "hello")
    return session, Lease(sent.ids[1], 1)


async def test_equal_replies_are_matched_by_their_ordinal(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        first = [await sidecar.reply(lease, text) for text in "aab"]
        again = await sidecar.given_back(lease)
        assert [await sidecar.reply(again, text) for text in "aa"] == first[:2]
        new = await sidecar.reply(again, "a")
        assert new not in first
        assert await sidecar.reply(again, "b") == first[2]
        assert await sidecar.texts(session) == ["hello", "a", "a", "b", "a"]


async def test_a_keyed_reply_is_matched_by_its_key_whatever_its_text(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        first = await sidecar.reply(lease, "it is 12:00", match="time")
        again = await sidecar.given_back(lease)
        assert await sidecar.reply(again, "it is 12:01", match="time") == first
        await sidecar.reply(again, "it is 12:00", match="other")
        assert await sidecar.texts(session) == ["hello", "it is 12:00", "it is 12:00"]


async def test_a_block_without_id_is_matched(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        first = await sidecar.show(lease, b'{"n":1}')
        again = await sidecar.given_back(lease)
        assert await sidecar.show(again, b'{"n":1}') == first
        assert await sidecar.show(again, b'{"n":2}') != first
        assert (await sidecar.kinds(session)).count("block_shown") == 2


async def test_a_block_with_an_id_is_changed_in_place(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.show(lease, b'{"n":1}', block_id="card")
        await sidecar.reply(lease, "below it")
        again = await sidecar.given_back(lease)
        await sidecar.show(again, b'{"n":2}', block_id="card")
        items, _ = await sidecar.items(session)
        assert [item.WhichOneof("kind") for item in items] == [
            "message_added", "block_shown", "message_added",
        ]  # fmt: skip
        assert items[1].block_shown.block.payload_json == b'{"n":2}'


async def test_a_stream_completed_by_an_earlier_attempt_is_answered_with_its_message(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        keyed, plain = await sidecar.stream(lease, match="answer"), await sidecar.stream(lease)
        await sidecar.complete(lease, keyed.answer.ids[0], "by its key")
        await sidecar.complete(lease, plain.answer.ids[0], "by its ordinal")
        again = await sidecar.given_back(lease)
        for match, stream, text in (
            ("", plain, "by its ordinal"),
            ("answer", keyed, "by its key"),
        ):
            found = await sidecar.stream(again, match=match)
            assert not found.open
            assert found.answer.ids == stream.answer.ids
            assert found.event is not None
            event = events_pb2.Event.FromString(found.event)
            assert event.message_added.message.text == text
        assert (await sidecar.stream(again)).open
        assert await sidecar.texts(session) == ["hello", "by its key", "by its ordinal"]


async def test_streams_are_matched_in_the_order_they_were_opened_in(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease = await _turn(sidecar)
        first, second = await sidecar.stream(lease), await sidecar.stream(lease)
        await sidecar.complete(lease, second.answer.ids[0], "closed first")
        await sidecar.complete(lease, first.answer.ids[0], "closed last")
        again = await sidecar.given_back(lease)
        found = [await sidecar.stream(again), await sidecar.stream(again)]
        assert [entry.answer.ids for entry in found] == [first.answer.ids, second.answer.ids]


async def test_an_unfinished_stream_is_withdrawn_by_the_next_attempts_first_event(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        opened = await sidecar.stream(lease)
        await sidecar.checkpoint(opened.answer.ids[0], 0, 0, "half a sen")
        replied = await sidecar.reply(lease, "beside it")
        again = await sidecar.given_back(lease)
        # What it repeats appends nothing, so it withdraws nothing.
        assert await sidecar.reply(again, "beside it") == replied
        assert "stream_withdrawn" not in await sidecar.kinds(session)
        await sidecar.title(again, "now")
        assert (await sidecar.kinds(session))[-2:] == ["stream_withdrawn", "session_updated"]
        assert (await sidecar.rows())["streams"] == 0
        assert (await sidecar.rows())["stream_chunks"] == 0
        items, _ = await sidecar.items(session)
        assert [item.WhichOneof("kind") for item in items] == ["message_added", "message_added"]


async def test_an_outcome_alone_withdraws_nothing(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        opened = await sidecar.stream(lease)
        await sidecar.checkpoint(opened.answer.ids[0], 0, 0, "half a sen")
        again = await sidecar.given_back(lease)
        await sidecar.finish(again)
        assert "stream_withdrawn" not in await sidecar.kinds(session)
        assert await sidecar.texts(session) == ["hello", "half a sen"]


async def test_an_interrupted_stream_is_not_matched(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        opened = await sidecar.stream(lease)
        await sidecar.complete(lease, opened.answer.ids[0], "half", interrupted=True)
        again = await sidecar.given_back(lease)
        found = await sidecar.stream(again)
        assert found.open
        await sidecar.complete(again, found.answer.ids[0], "whole")
        assert await sidecar.texts(session) == ["hello", "half", "whole"]


async def test_a_third_attempt_is_matched_with_what_both_before_it_committed(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        one = await sidecar.reply(lease, "a")
        second = await sidecar.given_back(lease)
        assert await sidecar.reply(second, "a") == one
        two = await sidecar.reply(second, "b")
        third = await sidecar.given_back(second)
        assert [await sidecar.reply(third, text) for text in "ab"] == [one, two]
        await sidecar.reply(third, "c")
        assert await sidecar.texts(session) == ["hello", "a", "b", "c"]


async def test_attempts_are_matched_after_a_restart_in_the_middle_of_one(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        first = [await sidecar.reply(lease, "a") for _ in range(3)]
        again = await sidecar.given_back(lease)
        key = request_key()
        assert await sidecar.reply(again, "a", key=key) == first[0]
    async with store.sidecar() as sidecar:
        await sidecar.attach(claims=(again,))
        # Sent again by its id it is no new wish; the next ones are.
        assert await sidecar.reply(again, "a", key=key) == first[0]
        assert [await sidecar.reply(again, "a") for _ in range(2)] == first[1:]
        assert await sidecar.reply(again, "a") not in first
        assert await sidecar.texts(session) == ["hello", "a", "a", "a", "a"]


async def test_another_turns_equal_reply_is_its_own(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease = await _turn(sidecar)
        await sidecar.reply(lease, "yes")
        await sidecar.finish(lease)
        await sidecar.say(session, "and?")
        again = await sidecar.given_back(sidecar.held[-1])
        await sidecar.reply(again, "yes")
        assert await sidecar.texts(session) == ["hello", "yes", "and?", "yes"]
