"""A deleted session leaves one app-wide event, and nothing else."""

from __future__ import annotations

import pytest
from sqlalchemy import delete

from capsule_protocol.v1 import events_pb2
from capsule_sidecar.model.errors import NotFound
from capsule_sidecar.model.types import Answer, CancelReason, FileQuestion, Lease
from capsule_sidecar.storage import files, log_reads, schema
from capsule_sidecar.storage.scopes import Scope
from tests.integration.storage import tasking
from tests.integration.storage.asking import answer, ask, upload
from tests.integration.storage.desk import Desk
from tests.integration.storage.store import EVERYTHING, Sidecar, Store

# A person's and an app's, not a session's.
_OTHERS = ("logins", "schedules")


async def _used(sidecar: Sidecar) -> tuple[str, Lease]:
    """Returns a session that has a row in every table, and the lease that runs in it.

    One of its prompts is open and one was answered, with a file.
    """
    session = await sidecar.open("a title")
    sent = await sidecar.say(session, "hello")
    lease = Lease(sent.ids[1], 1)
    await sidecar.reply(lease, "an answer")
    await sidecar.show(lease, b"{}", block_id="card")
    await sidecar.patch(lease, {"step": b"1"})
    prompt = await ask(sidecar, lease, "A file?", question=FileQuestion())
    await answer(sidecar, prompt, Answer(file_id=await upload(sidecar)))
    lease = await sidecar.given_back(lease)
    await sidecar.reply(lease, "another answer")
    await ask(sidecar, lease, "Really?")
    opened = await sidecar.stream(lease)
    await sidecar.checkpoint(opened.answer.ids[0], 0, 0, "half a sen")
    desk = Desk(sidecar, scope=Scope.SESSION, lease=lease)
    await desk.index("n")
    await desk.insert({"n": 1})
    await desk.set("k", 1)
    await tasking.show(sidecar, lease, await tasking.submit(sidecar, lease, in_session=True))
    await sidecar.say(session, "waits")
    return session, lease


async def test_a_deleted_session_leaves_no_row_but_its_event(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        kept, _ = await _used(sidecar)
        before = await sidecar.rows()
        for table in _OTHERS:
            del before[table]
        assert all(before.values()), before
        session, lease = await _used(sidecar)
        await sidecar.delete(session)
        # Its file's row leads to the object, and goes when that has gone.
        gone = schema.files.c.state == files.REMOVED
        await sidecar.do(lambda unit: unit.execute(delete(schema.files).where(gone)))
        after = await sidecar.rows()
        for table in _OTHERS:
            del after[table]
        # Request ids are remembered for their time: a retry must not act anew.
        assert after.pop("requests") > before.pop("requests")
        assert after == before | {"events": before["events"] + 1}
        assert (await sidecar.texts(kept))[-1] == "waits"
        event = events_pb2.Event.FromString(sidecar.told.appended[-1].data)
        assert event.HasField("session_deleted")
        assert (event.session_id, event.offset) == (session, 0)
        (deleted,) = await sidecar.read(
            log_reads.user_events_after, 1, sidecar.told.appended[-2].position, 10
        )
        assert deleted.data == sidecar.told.appended[-1].data
        for refused in (sidecar.say(session, "x"), sidecar.close(session)):
            with pytest.raises(NotFound):
                await refused
        for refused in (sidecar.reply(lease, "x"), sidecar.title(lease, "x")):
            with pytest.raises(NotFound):
                await refused
        with pytest.raises(NotFound):
            await sidecar.number(session)


async def test_deleting_takes_the_work_from_whoever_holds_it_and_skips_exit(store: Store) -> None:
    async with store.sidecar() as sidecar:
        found = await sidecar.attach(free=1, takes=EVERYTHING)
        session = await sidecar.open()
        other = await sidecar.open()
        (entered,) = sidecar.held
        await sidecar.delete(session)
        (notice,) = sidecar.told.notices
        assert (notice.invocation_id, notice.process, notice.cancel, notice.final) == (
            entered.invocation_id, found.process, CancelReason.SESSION_DELETED, True,
        )  # fmt: skip
        # Its place went to the next one in the queue, and nothing of the session is left there.
        assert len(sidecar.held) == 2
        assert sidecar.told.leased[-1].session.key == other
        await sidecar.finish(sidecar.held[-1])
        assert len(sidecar.held) == 2


async def test_a_deletion_and_what_came_before_it_in_one_group_leave_nothing(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        session = await sidecar.open()
        before = await sidecar.rows()
        said, deleted, late = (
            sidecar.say(session, "hello"), sidecar.delete(session), sidecar.say(session, "late"),
        )  # fmt: skip
        assert (await said).offset == 3
        await deleted
        with pytest.raises(NotFound):
            await late
        after = await sidecar.rows()
        assert (after["sessions"], after["invocations"], after["items"]) == (0, 0, 0)
        assert after["events"] == 1 < before["events"]


async def test_numbers_of_a_deleted_session_are_not_given_again(store: Store) -> None:
    async with store.sidecar() as sidecar:
        await sidecar.attach()
        first, lease = await _used(sidecar)
        number = await sidecar.number(first)
        row = await sidecar.invocation(lease.invocation_id)
        await sidecar.delete(first)
        # A group that fails makes nothing forget what was given.
        with pytest.raises(ZeroDivisionError):
            await sidecar.do(lambda _: 1 // 0)
        second, lease = await _used(sidecar)
        assert await sidecar.number(second) > number
        assert (await sidecar.invocation(lease.invocation_id))["id"] > row["id"]
