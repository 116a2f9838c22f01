"""Places of requests: lent in order, exactly, and never lost; and which endpoint a path is of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_sidecar.config import Limits, Timing
from capsule_sidecar.model.errors import (
    DeadlineExceeded,
    HandlerLost,
    LimitExceeded,
    NoHandler,
    ShuttingDown,
    TooManyWaiting,
    Unauthenticated,
)
from capsule_sidecar.model.types import (
    DataPatch,
    Declarations,
    InvocationKind,
    Lease,
    Outcome,
    OutcomeStatus,
)
from capsule_sidecar.model.web_calls import Endpoint, WebRequest, WebResponse, find
from capsule_sidecar.runtime.web_calls import WebCall, WebCalls
from capsule_sidecar.storage.slots import Slots
from tests.support.eventually import eventually

APP = 1
DATA = Declarations(message=True, data={"x": False, "y": False, "mine": True})


class Line:
    """What a process is told."""

    def __init__(self) -> None:
        self.asked: list[pb.Invocation] = []
        self.cancelled: list[str] = []
        self.outbox = self

    def put(self, frame: bytes, *, always: bool) -> bool:
        for sent in pb.AttachResponse.FromString(frame).frames:
            self.asked.append(sent.invocation)
        return True

    def cancel(self, lease: Lease, reason: int) -> None:
        self.cancelled.append(lease.invocation_id)


class Stage:
    """Places, calls, and processes that answer when they are told to."""

    def __init__(self, **timing: Any) -> None:
        self.slots = Slots(fresh=60)
        self.processes: dict[int, Any] = {}
        self.calls = WebCalls(
            self.slots, self.processes.get, lambda app, _: self.calls.wake(app),
            Limits(), Timing(**timing),
        )  # fmt: skip

    def enter(self, number: int, places: int, declared: Declarations = DATA) -> Any:
        hello = SimpleNamespace(declarations=declared)
        process: Any = SimpleNamespace(number=number, hello=hello, line=Line(), running=set())
        self.slots.attach(number, APP, declared, places, hello)
        self.processes[number] = process
        self.calls.wake(APP)
        return process

    def leave(self, process: Any) -> None:
        del self.processes[process.number]
        self.slots.detach(process.number, process.hello)
        self.calls.lost(process.number)
        self.calls.wake(APP)

    def ask(self, name: str = "x", body: bytes = b"") -> asyncio.Task[WebResponse]:
        request = WebRequest("GET", f"/{name}", (), (), body)
        call = WebCall(APP, InvocationKind.DATA, name, request)
        return asyncio.create_task(self.calls.ask(call))

    def end(self, invocation: pb.Invocation, status: int = 1, app: int = APP) -> bool:
        lease = Lease(invocation.invocation_id, 1)
        response = WebResponse(200, (), invocation.data.name.encode())
        outcome = Outcome(
            lease, OutcomeStatus(status), DataPatch({}, ()), "", "", response=response
        )
        return self.calls.outcome(app, outcome)

    def free(self, number: int) -> int:
        return self.slots.look(number)[1]


def asked_more(process: Any, count: int) -> bool:
    return len(process.line.asked) > count


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_waits_longest_goes_first_and_no_place_is_lost() -> None:
    stage = Stage()
    process = stage.enter(7, places=2)
    asked = [stage.ask("xy"[n % 2]) for n in range(9)]
    await settled()
    assert (len(process.line.asked), stage.calls.waiting) == (2, 7)
    for n in range(9):
        assert stage.end(process.line.asked[n])
        await settled()
    assert [i.data.name for i in process.line.asked] == ["xy"[n % 2] for n in range(9)]
    assert [(await task).body for task in asked] == [b"xy"[n % 2 :][:1] for n in range(9)]
    assert (stage.free(7), stage.calls.total, stage.calls.waiting) == (2, 0, 0)
    assert not process.running


async def test_all_who_wait_are_woken_by_a_process_that_comes() -> None:
    stage = Stage()
    first = stage.enter(7, places=1)
    asked = [stage.ask() for _ in range(6)]
    await settled()
    second = stage.enter(8, places=5)
    await settled()
    assert (len(first.line.asked), len(second.line.asked)) == (1, 5)
    for invocation in first.line.asked + second.line.asked:
        stage.end(invocation)
    await asyncio.gather(*asked)


async def test_all_who_wait_are_told_when_the_last_process_goes() -> None:
    stage = Stage()
    process = stage.enter(7, places=1)
    asked = [stage.ask() for _ in range(4)]
    await settled()
    stage.leave(process)
    kinds = [type(e) for e in await asyncio.gather(*asked, return_exceptions=True)]
    assert kinds == [HandlerLost, NoHandler, NoHandler, NoHandler]


async def test_a_place_that_was_given_to_somebody_who_has_just_gone_goes_on() -> None:
    stage = Stage()
    process = stage.enter(7, places=1)
    first, gone, third = stage.ask(), stage.ask(), stage.ask()
    await settled()
    stage.end(process.line.asked[0])  # the place is the second's now, who is gone before it runs
    gone.cancel()
    await settled()
    assert gone.cancelled()
    assert len(process.line.asked) == 2
    stage.end(process.line.asked[1])
    await asyncio.gather(first, third)
    assert stage.free(7) == 1


async def test_a_place_of_a_process_that_has_just_gone_is_no_place() -> None:
    stage = Stage(request_deadline=5.0)
    process = stage.enter(7, places=1)
    first, second = stage.ask(), stage.ask()
    await settled()
    stage.end(process.line.asked[0])  # the place is the second's now, which has not run yet
    stage.leave(process)
    await first
    with pytest.raises(NoHandler):
        await second
    assert len(process.line.asked) == 1


async def test_a_process_that_attaches_twice_at_once_keeps_its_count() -> None:
    stage = Stage()
    old = stage.enter(7, places=3)
    asked = stage.ask()
    await settled()
    # The writer has entered the second, the loop has not yet.
    hello = SimpleNamespace(declarations=DATA)
    stage.slots.attach(7, APP, DATA, 3, hello)
    waits = stage.ask()
    await settled()
    assert len(old.line.asked) == 1
    new: Any = SimpleNamespace(number=7, hello=hello, line=Line(), running=set())
    stage.calls.lost(7)
    stage.processes[7] = new
    stage.calls.wake(APP)
    await settled()
    with pytest.raises(HandlerLost):
        await asked
    assert not stage.end(old.line.asked[0])
    stage.end(new.line.asked[0])
    await waits
    assert stage.free(7) == 3


async def test_a_deadline_counts_the_wait_for_a_place() -> None:
    stage = Stage(request_deadline=0.2, stop_grace=0.1)
    process = stage.enter(7, places=1)
    asked = [stage.ask() for _ in range(3)]
    kinds = [type(e) for e in await asyncio.gather(*asked, return_exceptions=True)]
    assert kinds == [DeadlineExceeded] * 3
    assert process.line.cancelled == [process.line.asked[0].invocation_id]
    assert stage.calls.waiting == 0
    await eventually(lambda: stage.free(7) == 1)  # it does not answer: its grace is over
    assert stage.calls.total == 0


async def test_what_a_handler_is_told_of_its_deadline_is_what_is_left() -> None:
    stage = Stage(request_deadline=60.0)
    process = stage.enter(7, places=1)
    first = stage.ask()
    await settled()
    second = stage.ask()
    await asyncio.sleep(0.05)
    stage.end(process.line.asked[0])
    await settled()
    left = process.line.asked[1].deadline
    assert 30.0 < left.seconds + left.nanos / 1e9 <= 59.95
    stage.end(process.line.asked[1])
    await asyncio.gather(first, second)


async def test_what_is_given_back_unbegun_goes_to_another_and_what_was_begun_does_not() -> None:
    stage = Stage()
    leaving = stage.enter(7, places=2)
    asked = stage.ask()
    await settled()
    other = stage.enter(8, places=1)
    stage.slots.drain(7)
    stage.end(leaving.line.asked[0], OutcomeStatus.RELEASED)
    await settled()
    stage.end(other.line.asked[0], OutcomeStatus.CANCELLED)
    with pytest.raises(HandlerLost):
        await asked
    assert (stage.slots.look(8)[1], len(leaving.line.asked)) == (1, 1)


async def test_a_process_that_only_gives_back_is_not_asked_for_ever() -> None:
    stage = Stage()
    process = stage.enter(7, places=1)
    asked = stage.ask()
    for n in range(5):
        await eventually(partial(asked_more, process, n))
        stage.end(process.line.asked[n], OutcomeStatus.RELEASED)
    with pytest.raises(HandlerLost):
        await asked


async def test_another_apps_outcome_ends_nothing() -> None:
    stage = Stage()
    process = stage.enter(7, places=1)
    asked = stage.ask()
    await settled()
    assert not stage.end(process.line.asked[0], app=APP + 1)
    assert not asked.done()
    assert stage.end(process.line.asked[0])
    await asked


async def test_who_is_asked_in_the_end_decides_whether_somebody_must_be_signed_in() -> None:
    stage = Stage()
    process = stage.enter(7, places=1)
    first, waits = stage.ask(), stage.ask()
    await settled()
    stage.enter(8, places=4, declared=Declarations(data={"x": True}))
    with pytest.raises(Unauthenticated):
        await waits
    assert stage.free(8) == 4
    stage.end(process.line.asked[0])
    await first


async def test_only_so_many_wait() -> None:
    stage = Stage()
    stage.enter(7, places=1)
    asked = [stage.ask() for _ in range(1_001)]
    await settled()
    with pytest.raises(TooManyWaiting):
        await stage.ask()
    stage.calls.close()
    kinds = [type(e) for e in await asyncio.gather(*asked[1:], return_exceptions=True)]
    assert set(kinds) == {ShuttingDown}
    with pytest.raises(ShuttingDown):
        await stage.ask()
    asked[0].cancel()


async def test_a_request_that_no_message_holds_is_refused_and_costs_no_place() -> None:
    stage = Stage()
    stage.enter(7, places=1)
    with pytest.raises(LimitExceeded):
        await stage.ask(body=b"x" * Limits().max_message_bytes)
    assert stage.free(7) == 1


async def test_queued_work_that_looks_for_places_takes_none_from_requests() -> None:
    """Once all free places were taken for a look: a request found none of an idle process."""
    stage = Stage()
    process = stage.enter(7, places=1)
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            _, free = stage.slots.look(7)
            if free and stage.slots.take_of(7):
                stage.slots.give(7)

    writer = threading.Thread(target=look)
    writer.start()
    try:
        for n in range(300):
            asked = stage.ask()
            await settled()

            def given(count: int = n) -> bool:
                stage.calls.wake(APP)
                return len(process.line.asked) > count

            await eventually(given)
            stage.end(process.line.asked[n])
            await asked
    finally:
        end.set()
        writer.join()
    assert stage.free(7) == 1


def test_a_place_of_a_process_that_was_entered_anew_is_not_given_back_twice() -> None:
    slots = Slots(fresh=60)
    first, second = object(), object()
    slots.attach(7, APP, DATA, 1, first)
    assert slots.lend(APP, InvocationKind.DATA, "x") == (7, first)
    slots.attach(7, APP, DATA, 1, second)
    slots.give_back(7, first)
    assert slots.look(7)[1] == 1
    assert slots.lend(APP, InvocationKind.DATA, "x") == (7, second)
    assert slots.lend(APP, InvocationKind.DATA, "x") is None
    slots.give_back(7, second)
    assert slots.look(7)[1] == 1


def test_where_both_wait_work_and_requests_take_turns() -> None:
    slots = Slots(fresh=60)
    slots.attach(7, APP, DATA, 1, object())
    assert not slots.yields(7)
    slots.ask(APP, waiting=True)
    assert [slots.yields(7) for _ in range(4)] == [True, False, True, False]
    slots.ask(APP, waiting=False)
    assert not slots.yields(7)


# -- which endpoint --------------------------------------------------------------------------------

PARTS = st.sampled_from(["a", "b", "{x}", "{y}"])


def paths() -> st.SearchStrategy[str]:
    def unique(parts: list[str]) -> bool:
        names = [part for part in parts if part.startswith("{")]
        return len(set(names)) == len(names)

    return st.lists(PARTS, min_size=1, max_size=3).filter(unique).map(lambda p: "/" + "/".join(p))


def fits(path: str, segments: tuple[str, ...]) -> Iterator[bool]:
    own = path.split("/")[1:]
    yield len(own) == len(segments)
    for mine, its in zip(own, segments, strict=False):
        yield mine == its or (mine.startswith("{") and its != "")


@given(
    st.lists(st.tuples(st.sampled_from(["GET", "POST", "HEAD"]), paths()), max_size=6, unique=True),
    st.sampled_from(["GET", "POST", "HEAD"]),
    st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=3).map(tuple),
)
def test_the_most_written_out_of_what_fits_is_found(
    declared: list[tuple[str, str]], method: str, segments: tuple[str, ...]
) -> None:
    endpoints = [Endpoint(*each) for each in declared]
    found, taken, methods = find(endpoints, method, segments)
    fitting = [e for e in endpoints if all(fits(e.path, segments))]
    assert methods == {e.method for e in fitting} or found is not None
    mine = [e for e in fitting if e.method == method]
    if not mine and method == "HEAD":
        mine = [e for e in fitting if e.method == "GET"]
    assert (found is None) == (not mine)
    if found is None:
        return
    assert found in mine
    named = [part.startswith("{") for part in found.segments]
    assert named == min([p.startswith("{") for p in e.segments] for e in mine)
    names = (p[1:-1] for p in found.segments if p.startswith("{"))
    assert taken.keys() == set(names)
