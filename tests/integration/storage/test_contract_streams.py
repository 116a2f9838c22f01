"""Streams of text: checkpoints that fold to the text, completion at the place of the opening."""

from __future__ import annotations

import pytest

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.errors import StreamClosed
from capsule_sidecar.model.types import Lease, OutcomeStatus
from capsule_sidecar.storage import unfinished
from tests.integration.storage.store import Sidecar, Store


async def _stream(sidecar: Sidecar) -> tuple[str, Lease, str]:
    """Returns a session, the lease of a turn that runs in it, and its open stream."""
    await sidecar.attach()
    session = await sidecar.open()
    sent = await sidecar.say(session, "hello")
    lease = Lease(sent.ids[1], 1)
    opened = await sidecar.stream(lease)
    return session, lease, opened.answer.ids[0]


async def test_a_completed_stream_keeps_the_place_of_its_opening(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, stream = await _stream(sidecar)
        await sidecar.reply(lease, "opened later, complete earlier")
        closed = await sidecar.complete(lease, stream, "the streamed answer")
        assert await sidecar.texts(session) == [
            "hello", "the streamed answer", "opened later, complete earlier",
        ]  # fmt: skip
        event = (await sidecar.log(session))[-1]
        assert event.offset == closed.answer.offset
        assert event.message_added.stream_id == stream
        assert not event.message_added.message.interrupted
        assert [e.closes for e in sidecar.told.appended if e.closes] == [stream]


async def test_checkpoints_fold_to_the_text(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, stream = await _stream(sidecar)
        await sidecar.checkpoint(stream, 0, 0, "Once upon")
        await sidecar.checkpoint(stream, 1, 9, " a time")
        await sidecar.complete(lease, stream)
        assert (await sidecar.texts(session))[-1] == "Once upon a time"


async def test_a_checkpoint_at_an_earlier_place_replaces_what_was_behind_it(
    store: Store,
) -> None:
    async with store.sidecar() as sidecar:
        session, lease, stream = await _stream(sidecar)
        await sidecar.checkpoint(stream, 0, 0, "Once upon")
        await sidecar.checkpoint(stream, 1, 9, " a time")
        await sidecar.checkpoint(stream, 2, 5, "more", revision=1)
        (kept,) = await sidecar.read(unfinished.open_texts)
        assert (kept.text, kept.revision, kept.chunks) == ("Once more", 1, 3)
        await sidecar.checkpoint(stream, 3, 0, "", revision=2)
        (kept,) = await sidecar.read(unfinished.open_texts)
        assert (kept.text, kept.revision) == ("", 2)
        await sidecar.checkpoint(stream, 4, 0, "Never mind", revision=2)
        await sidecar.complete(lease, stream)
        assert (await sidecar.texts(session))[-1] == "Never mind"


async def test_places_are_code_points_and_any_text_survives(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, stream = await _stream(sidecar)
        await sidecar.checkpoint(stream, 0, 0, "a\u0000b \U0001f600 e\u0301")
        await sidecar.checkpoint(stream, 1, 5, "\U0001f680!", revision=1)
        await sidecar.complete(lease, stream)
        assert (await sidecar.texts(session))[-1] == "a\u0000b \U0001f600\U0001f680!"


async def test_open_streams_outlive_the_sidecar_with_their_text(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, stream = await _stream(sidecar)
        await sidecar.checkpoint(stream, 0, 0, "half a sen")
    async with store.sidecar() as sidecar:
        (kept,) = await sidecar.read(unfinished.open_texts)
        assert (kept.stream_id, kept.session_id, kept.text) == (stream, session, "half a sen")
        assert (kept.invocation_id, kept.attempt) == (lease.invocation_id, 1)
        await sidecar.checkpoint(stream, kept.chunks, 10, "tence")
        await sidecar.complete(lease, stream)
        assert (await sidecar.texts(session))[-1] == "half a sentence"


async def test_a_completed_stream_leaves_no_checkpoint(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, stream = await _stream(sidecar)
        await sidecar.checkpoint(stream, 0, 0, "text")
        checkpoint, closed = sidecar.checkpoint(stream, 1, 4, "s"), sidecar.complete(lease, stream)
        assert await checkpoint
        assert (await closed).event is not None
        rows = await sidecar.rows()
        assert (rows["streams"], rows["stream_chunks"]) == (0, 0)
        assert not await sidecar.checkpoint(stream, 2, 5, "too late")
        assert (await sidecar.rows())["stream_chunks"] == 0


async def test_a_stream_opened_filled_and_closed_in_one_group_is_whole(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, _ = await _stream(sidecar)
        stream = "5a27ea9c-0000-7000-8000-000000000001"
        opened = sidecar.stream(lease, stream_id=stream)
        kept = sidecar.checkpoint(stream, 0, 0, "at once")
        closed = sidecar.complete(lease, stream, "at once")
        assert (await opened).answer.ids[0] == stream
        assert await kept
        assert (await closed).event is not None
        assert (await sidecar.texts(session))[-1] == "at once"
        assert (await sidecar.rows())["stream_chunks"] == 0


async def test_a_stream_opened_again_by_its_id_is_where_it_is(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, lease, _ = await _stream(sidecar)
        stream = "5a27ea9c-0000-7000-8000-000000000001"
        opened = await sidecar.stream(lease, stream_id=stream)
        again = await sidecar.stream(lease, stream_id=stream)
        assert (again.answer, again.open) == (opened.answer, True)
        closed = await sidecar.complete(lease, stream, "complete")
        again = await sidecar.stream(lease, stream_id=stream)
        assert not again.open
        assert again.event is not None
        event = events_pb2.Event.FromString(again.event)
        assert event.offset == closed.answer.offset
        assert event.message_added.message.text == "complete"


async def test_a_closed_stream_takes_no_second_end(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, stream = await _stream(sidecar)
        await sidecar.complete(lease, stream, "once")
        with pytest.raises(StreamClosed):
            await sidecar.complete(lease, stream, "twice")
        assert await sidecar.texts(session) == ["hello", "once"]


async def test_a_stream_is_closed_by_nobody_elses_turn(store: Store) -> None:
    async with store.sidecar() as sidecar:
        _, _, stream = await _stream(sidecar)
        other = await sidecar.open()
        sent = await sidecar.say(other, "hello")
        with pytest.raises(StreamClosed):
            await sidecar.complete(Lease(sent.ids[1], 1), stream, "not mine")


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "as checkpointed"])
async def test_a_stream_still_open_when_its_turn_ends_is_completed_as_interrupted(
    store: Store, *, in_memory: bool
) -> None:
    async with store.sidecar() as sidecar:
        session, lease, stream = await _stream(sidecar)
        await sidecar.checkpoint(stream, 0, 0, "half a sen")
        texts = {stream: "half a sentence"} if in_memory else {}
        await sidecar.finish(lease, OutcomeStatus.FAILED, texts=texts)
        events = await sidecar.log(session)
        added = events[-2].message_added
        assert added.message.interrupted
        assert added.message.text == ("half a sentence" if in_memory else "half a sen")
        assert events[-1].HasField("invocation_ended")
        assert (await sidecar.rows())["streams"] == 0


async def test_an_interrupted_stream_without_text_is_withdrawn(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, stream = await _stream(sidecar)
        closed = await sidecar.complete(lease, stream, "", interrupted=True)
        assert closed.event is None
        assert (await sidecar.kinds(session))[-1] == "stream_withdrawn"
        items, _ = await sidecar.items(session)
        assert [item.WhichOneof("kind") for item in items] == ["message_added"]


async def test_several_streams_are_open_at_once(store: Store) -> None:
    async with store.sidecar() as sidecar:
        session, lease, first = await _stream(sidecar)
        second = (await sidecar.stream(lease)).answer.ids[0]
        await sidecar.checkpoint(first, 0, 0, "one")
        await sidecar.checkpoint(second, 0, 0, "two")
        items, _ = await sidecar.items(session)
        assert [i.stream_opened.stream_id for i in items if i.HasField("stream_opened")] == [
            first, second,
        ]  # fmt: skip
        await sidecar.finish(lease)
        assert await sidecar.texts(session) == ["hello", "one", "two"]
