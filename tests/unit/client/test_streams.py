"""Reply streams: text in its order, once, through any loss; against a sidecar on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace as Thing
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import handler_service_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeSidecar, FakeStream, status

Body = Callable[[capsule.Session], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(sidecar: FakeSidecar, body: Body, **options: Any) -> AsyncIterator[None]:
    """Attaches an app whose turns do `body`."""
    app = capsule.App("demo", address=sidecar.address, token=TOKEN, **options)

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        await body(session)

    async with app.attached():
        yield


async def turn(sidecar: FakeSidecar, body: Body, **options: Any) -> pb.Outcome:
    """Runs one turn that does `body` and returns its outcome."""
    async with serving(sidecar, body, **options):
        return await sidecar.outcome(sidecar.invoke())


def only(sidecar: FakeSidecar) -> FakeStream:
    (stream,) = sidecar.streams.values()
    return stream


def ticks(interval: float) -> float:
    """How often streams were given time to send, since the loop's clock began."""
    return asyncio.get_running_loop().time() // interval


async def test_deltas_are_never_interpreted() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                for delta in ("ha", "ha", "1", "10", "", "\n", "😀"):
                    await out.write(delta)
                assert out.text == "haha110\n😀"
            assert out.text == "haha110\n😀"

        outcome = await turn(sidecar, body)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        stream = only(sidecar)
        assert stream.text == "haha110\n😀"
        assert not stream.interrupted
        (close,) = sidecar.line.commands("close_stream")
        assert close.close_stream.length == 9
        assert close.close_stream.sha256 == hashlib.sha256(stream.text.encode()).digest()


async def test_the_first_delta_goes_at_once_and_later_ones_together() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("first")
                await eventually(lambda: sidecar.streams and only(sidecar).text == "first")
                assert len(only(sidecar).appends) == 1
                begun = ticks(1)
                for n in range(100):
                    await out.write(f"{n},")
                    await asyncio.sleep(0)
                await eventually(lambda: only(sidecar).text.endswith("99,"))
                # One where no tick falls between the writes.
                assert 1 <= len(only(sidecar).appends) - 1 <= ticks(1) - begun

        await turn(sidecar, body, stream_interval=1)
        assert only(sidecar).text == "first" + "".join(f"{n}," for n in range(100))


async def test_without_an_interval_each_delta_goes_when_it_is_written() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                for n in range(5):
                    await out.write(f"{n}")
                    await eventually(lambda: sidecar.streams and only(sidecar).text == out.text)

        await turn(sidecar, body, stream_interval=0)
        assert len(only(sidecar).appends) == 5


async def test_writes_without_await_queue_and_the_exit_waits_for_them() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                for n in range(1000):
                    out.write(f"{n} ")  # type: ignore[unused-awaitable]  # what is tested

        await turn(sidecar, body)
        assert only(sidecar).text == "".join(f"{n} " for n in range(1000))


async def test_a_block_that_writes_nothing_leaves_nothing() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("")
            assert await session.stream_reply_from([None, ""]) == ""

        outcome = await turn(sidecar, body)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert sidecar.line.commands() == []


async def test_when_the_block_raises_the_text_stays_and_the_error_goes_on() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("half")
                raise LookupError("the model went away")

        outcome = await turn(sidecar, body)
        assert (outcome.status, outcome.error_type) == (pb.OUTCOME_STATUS_FAILED, "LookupError")
        assert only(sidecar).text == "half"
        assert only(sidecar).interrupted


async def test_a_stop_in_the_middle_keeps_all_that_was_written() -> None:
    async with FakeSidecar() as sidecar:
        written = asyncio.Event()

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("a")
                await eventually(lambda: sidecar.streams and only(sidecar).text)
                await out.write("b" * 3000)
                written.set()
                await asyncio.Event().wait()

        async with serving(sidecar, body, stream_interval=1):
            invocation = sidecar.invoke()
            await written.wait()
            sidecar.cancel(invocation, pb.CANCEL_REASON_STOPPED)
            outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_CANCELLED
        assert only(sidecar).text == "a" + "b" * 3000
        assert only(sidecar).interrupted
        assert sidecar.line.kinds()[-3:] == ["close_stream", "outcome", "drain"]


async def test_a_stream_that_is_never_left_costs_no_window() -> None:
    async with FakeSidecar() as sidecar:
        sidecar.limits.max_commands_in_flight = 10

        async def body(session: capsule.Session) -> None:
            out = session.stream_reply()
            await out.__aenter__()
            if len(sidecar.streams) % 2:
                await out.write("lost")

        async with serving(sidecar, body):
            for _ in range(20):
                await sidecar.outcome(sidecar.invoke())


async def test_several_streams_may_be_open() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as one, session.stream_reply() as two:
                for n in range(50):
                    await one.write(f"a{n}")
                    await two.write(f"b{n}")

        await turn(sidecar, body)
        assert sorted(stream.text for stream in sidecar.streams.values()) == [
            "".join(f"a{n}" for n in range(50)),
            "".join(f"b{n}" for n in range(50)),
        ]


async def test_streams_share_their_ticks_and_so_their_batches() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with contextlib.AsyncExitStack() as stack:
                outs = [await stack.enter_async_context(session.stream_reply()) for _ in range(40)]
                for out in outs:
                    await out.write("x")
                    await asyncio.sleep(0)
                await eventually(lambda: [s.text for s in sidecar.streams.values()] == ["x"] * 40)
                before, begun = len(sidecar.line.batches), ticks(1)
                for out in outs:
                    await out.write("y")
                    await asyncio.sleep(0)
                await eventually(lambda: all(s.text == "xy" for s in sidecar.streams.values()))
                # One with each tick that has passed, and a beat.
                assert len(sidecar.line.batches) - before <= ticks(1) - begun + 1

        outcome = await turn(sidecar, body, stream_interval=1)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED


@pytest.mark.parametrize("durable", [True, False])
async def test_after_a_loss_of_the_line_a_stream_goes_on_where_it_was(durable: bool) -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("kept ")
                await eventually(lambda: sidecar.streams and only(sidecar).text)
                sidecar.checkpoint = durable
                await out.write("in doubt 😀 ")
                await eventually(lambda: only(sidecar).text.endswith("😀 "))
                first = sidecar.line
                first.cut()
                await eventually(lambda: not first.open)
                out.write("written meanwhile ")  # type: ignore[unused-awaitable]  # it queues
                await sidecar.attached(2)
                await out.write("after")

        await turn(sidecar, body)
        assert only(sidecar).text == "kept in doubt 😀 written meanwhile after"
        assert only(sidecar).opened == 2
        second = sidecar.lines[1]
        assert second.kinds()[0] == "open_stream"
        repeated = second.commands("append_stream")[0].append_stream
        assert repeated.position == (len("kept in doubt 😀 ") if durable else len("kept "))


async def test_losses_of_the_line_leave_the_window_as_it_was() -> None:
    async with FakeSidecar() as sidecar:
        sidecar.limits.max_bytes_in_flight = 20_000
        sidecar.checkpoint = False

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("x" * 6000)
                for count in range(2, 8):
                    await eventually(lambda: sidecar.line.commands("append_stream"))
                    sidecar.line.cut()
                    await sidecar.attached(count)
                await out.write("y" * 6000)

        outcome = await turn(sidecar, body)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert only(sidecar).text == "x" * 6000 + "y" * 6000


@pytest.mark.parametrize("when", range(6))
async def test_a_restart_of_the_sidecar_loses_nothing_of_a_stream(when: int) -> None:
    async with FakeSidecar() as sidecar:
        sidecar.checkpoint = False

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                for n in range(6):
                    await out.write(f"{n}" * 700)
                    if n == 3:
                        await eventually(lambda: sidecar.streams and only(sidecar).text)
                        sidecar.checkpoint = when % 2 == 0
                    if n == when:
                        await sidecar.stop()
                        asyncio.get_running_loop().call_later(0.05, restart)

        def restart() -> None:
            restarting.append(asyncio.ensure_future(sidecar.start()))

        restarting: list[asyncio.Future[None]] = []
        outcome = await turn(sidecar, body, stream_interval=0.01)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert only(sidecar).text == "".join(f"{n}" * 700 for n in range(6))


async def test_a_close_whose_answer_was_lost_is_answered_again() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("whole")
                await eventually(lambda: sidecar.streams and only(sidecar).text)
                sidecar.line.muted = True

        async with serving(sidecar, body):
            invocation = sidecar.invoke()
            await eventually(lambda: sidecar.lines[0].commands("close_stream"))
            sidecar.lines[0].cut()
            outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        closes = [one for line in sidecar.lines for one in line.commands("close_stream")]
        assert len(closes) == 2
        assert len({one.close_stream.request_id for one in closes}) == 1
        assert only(sidecar).text == "whole"


async def test_an_opening_that_is_unavailable_is_repeated_before_its_text() -> None:
    async with FakeSidecar() as sidecar:
        refusals = [2]

        def refuse(command: pb.Command) -> Any:
            if command.HasField("open_stream") and refusals[0]:
                refusals[0] -= 1
                return status("UNAVAILABLE", "STORAGE_UNAVAILABLE")
            return None

        sidecar.refuse = refuse

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("text ")
                await out.write("more")

        outcome = await turn(sidecar, body)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert only(sidecar).text == "text more"
        assert not only(sidecar).interrupted


async def test_a_refused_delta_ends_the_stream_for_the_handler() -> None:
    async with FakeSidecar() as sidecar:
        errors: list[Exception] = []

        async def body(session: capsule.Session) -> None:
            try:
                async with session.stream_reply() as out:
                    await out.write("text")
                    await eventually(lambda: sidecar.streams)
                    sidecar.refuse = lambda command: (
                        status("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
                        if command.HasField("append_stream")
                        else None
                    )
                    while True:
                        await out.write("more")
                        await asyncio.sleep(0.01)
            except capsule.LimitExceeded as error:
                errors.append(error)

        outcome = await turn(sidecar, body, stream_interval=0)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert len(errors) == 1


async def test_text_beyond_the_limit_is_cut_there_and_refused() -> None:
    async with FakeSidecar() as sidecar:
        sidecar.limits.max_text_bytes = 10

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("123456")
                await out.write("ääää")

        outcome = await turn(sidecar, body)
        assert outcome.error_type.endswith("LimitExceeded")
        assert only(sidecar).text == "123456ää"
        assert only(sidecar).interrupted


async def test_an_awaited_write_waits_while_the_window_of_the_stream_is_full() -> None:
    async with FakeSidecar() as sidecar:
        sidecar.limits.stream_window_bytes = 20_000
        sidecar.limits.max_text_bytes = 10_000_000
        sidecar.checkpoint = False
        written = [0]

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                for _ in range(200):
                    await out.write("x" * 1000)
                    written[0] += 1

        async with serving(sidecar, body):
            invocation = sidecar.invoke()
            await eventually(lambda: sidecar.streams and len(only(sidecar).text) > 10_000)
            in_flight: list[int] = []
            while not sidecar.outcomes:
                before = -1
                while before != written[0]:  # until nothing moves any more
                    before = written[0]
                    await asyncio.sleep(0.02)
                stream, (stream_id,) = only(sidecar), sidecar.streams
                in_flight.append(len(stream.text) - len(stream.durable[1]))
                assert written[0] * 1000 - len(stream.durable[1]) < 50_000
                stream.durable = (0, stream.text)
                ack = pb.StreamAck(stream_id=stream_id, position=len(stream.text))
                sidecar.line.send(pb.SidecarFrame(stream_ack=ack))
            await sidecar.outcome(invocation)
        assert only(sidecar).text == "x" * 200_000
        assert max(in_flight) <= 20_000


async def test_many_streams_share_the_window_of_bytes() -> None:
    async with FakeSidecar() as sidecar:
        sidecar.limits.max_bytes_in_flight = 60_000
        most = [0]

        async def body(session: capsule.Session) -> None:
            async def one(letter: str) -> None:
                async with session.stream_reply() as out:
                    for _ in range(30):
                        await out.write(letter * 1000)

            await asyncio.gather(*map(one, "abcdefgh"))

        async def watch() -> None:
            while True:
                flying = {i: s for i, s in sidecar.streams.items() if s.completed is None}
                size = sum(len(s.text) - len(s.durable[1]) for s in flying.values())
                most[0] = max(most[0], size)
                for stream_id, stream in flying.items():
                    stream.durable = (0, stream.text)
                    ack = pb.StreamAck(stream_id=stream_id, position=len(stream.text))
                    sidecar.line.send(pb.SidecarFrame(stream_ack=ack))
                await asyncio.sleep(0.01)

        sidecar.checkpoint = False
        async with serving(sidecar, body):
            watching = asyncio.create_task(watch())
            await sidecar.outcome(sidecar.invoke())
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert sorted(s.text for s in sidecar.streams.values()) == [c * 30_000 for c in "abcdefgh"]
        assert 0 < most[0] <= 60_000


async def test_a_stream_that_an_earlier_attempt_finished_takes_no_more() -> None:
    async with FakeSidecar() as sidecar:
        results: list[str] = []

        async def body(session: capsule.Session) -> None:
            async with session.stream_reply() as out:
                await out.write("first")
            stream = only(sidecar)
            real = sidecar._open
            sidecar._open = lambda request: _complete(real(request), stream.text)  # type: ignore[method-assign]  # what is tested
            results.append(await session.stream_reply_from(_slowly(["other", " words"])))

        outcome = await turn(sidecar, body)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert results == ["first"]


async def test_a_refusal_may_come_before_the_answer_that_the_stream_is_complete() -> None:
    async with FakeSidecar() as sidecar:
        results: list[str] = []

        async def body(session: capsule.Session) -> None:
            results.append(await session.stream_reply_from(_slowly(["again", " and more"])))

        sidecar.answer_commands = False
        sidecar.refuse = lambda command: status("FAILED_PRECONDITION", "STREAM_CLOSED")
        async with serving(sidecar, body, stream_interval=0):
            invocation = sidecar.invoke()
            await eventually(lambda: len(sidecar.line.commands("append_stream")) == 2)
            (opening,) = sidecar.line.commands("open_stream")
            answer = pb.CommandResult(tag=opening.tag)
            sidecar.line.send(pb.SidecarFrame(command_result=_complete(answer, "first")))
            outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert results == ["first"]


@pytest.mark.parametrize("with_the_close", [False, True])
async def test_text_that_was_refused_before_its_opening_was_answered_goes_again(
    with_the_close: bool,
) -> None:
    async with FakeSidecar() as sidecar:
        held: list[pb.Command] = []

        def refuse(command: pb.Command) -> Any:
            if command.HasField("append_stream") and not sidecar.answer_commands:
                return status("FAILED_PRECONDITION", "STREAM_CLOSED")
            return None

        go_on = asyncio.Event()

        async def text() -> AsyncIterator[str]:
            yield "a"
            await go_on.wait()
            async for rest in _slowly(["b", "c"]):
                yield rest

        async def body(session: capsule.Session) -> None:
            await session.stream_reply_from(text())

        sidecar.answer_commands = False
        sidecar.refuse = refuse
        if with_the_close:
            go_on.set()
        async with serving(sidecar, body, stream_interval=0):
            invocation = sidecar.invoke()
            last = "close_stream" if with_the_close else "append_stream"
            await eventually(lambda: sidecar.line.commands(last))
            held.extend(sidecar.line.commands("open_stream"))
            held.extend(sidecar.line.commands("close_stream"))
            sidecar.answer_commands = True
            for command in held:
                sidecar._command(sidecar.line, command)
            # A delta that was on its way by now would be one more refusal, of a gap.
            await eventually(lambda: only(sidecar).text)
            go_on.set()
            outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert only(sidecar).text == "abc"


def _complete(result: pb.CommandResult, text: str) -> pb.CommandResult:
    result.open_stream.message.text = text
    return result


async def _slowly(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item
        await asyncio.sleep(0.05)


async def test_a_models_stream_is_piped_async_or_plain_and_its_text_returned() -> None:
    async with FakeSidecar() as sidecar:
        texts: list[str] = []

        def chunk(text: str | None) -> Thing:
            return Thing(choices=[Thing(delta=Thing(content=text))])

        async def chunks() -> AsyncIterator[Any]:
            for one in (chunk("a"), chunk(None), None, "b", Thing(choices=[])):
                yield one

        async def body(session: capsule.Session) -> None:
            texts.append(await session.stream_reply_from(chunks()))
            texts.append(await session.stream_reply_from(iter(["c", chunk("d")])))
            texts.append(await session.stream_reply_from(("e", "f")))
            texts.append(await session.stream(iter(["g", "h"])))
            texts.append(await session.stream(_slowly(["i", "j"])))

        outcome = await turn(sidecar, body)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert texts == ["ab", "cd", "ef", "gh", "ij"]
        assert [stream.text for stream in sidecar.streams.values()] == texts


async def test_a_plain_iterable_may_block_without_blocking_the_loop() -> None:
    async with FakeSidecar() as sidecar:
        go = threading.Event()
        session_seen: list[Any] = []

        def blocking() -> Iterator[str]:
            session_seen.append(capsule.current_session())
            yield "a"
            assert go.wait(10)
            yield "b"

        async def body(session: capsule.Session) -> None:
            piping = asyncio.create_task(session.stream_reply_from(blocking()))
            await eventually(lambda: sidecar.streams and only(sidecar).text == "a")
            go.set()
            assert await piping == "ab"
            assert session_seen == [session]

        outcome = await turn(sidecar, body)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED


async def test_what_the_iterable_raises_goes_on_and_the_text_stays() -> None:
    async with FakeSidecar() as sidecar:
        closed: list[bool] = []

        def failing() -> Iterator[str]:
            try:
                yield "half"
                raise ConnectionError("model")
            finally:
                closed.append(True)

        async def body(session: capsule.Session) -> None:
            await session.stream_reply_from(failing())

        outcome = await turn(sidecar, body)
        assert outcome.error_type == "ConnectionError"
        assert only(sidecar).text == "half"
        assert only(sidecar).interrupted
        assert closed == [True]


@pytest.mark.parametrize(
    "stream", ["one string", 5, None, [b"bytes"], [object()], [{"choices": []}]]
)
async def test_what_is_no_stream_of_text_is_a_type_error(stream: Any) -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            await session.stream_reply_from(stream)

        outcome = await turn(sidecar, body)
        assert outcome.error_type == "TypeError"


async def test_stream_takes_strings_only() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            chunks: list[Any] = [None]
            await session.stream(chunks)

        assert (await turn(sidecar, body)).error_type == "TypeError"


@pytest.mark.parametrize("interval", [0, 0.02])
async def test_snapshots_add_to_what_is_shown_or_replace_it(interval: float) -> None:
    async with FakeSidecar() as sidecar:
        snapshots = ["He", "Hello", None, "Hello wörld", "Help 😀", "Help 😀 me", "Help", "Help!"]

        async def body(session: capsule.Session) -> None:
            assert await session.stream_reply_from(_slowly(snapshots), cumulative=True) == "Help!"

        outcome = await turn(sidecar, body, stream_interval=interval)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert only(sidecar).text == "Help!"
        assert only(sidecar).revision == 2


async def test_a_replacement_survives_a_restart_that_had_only_what_it_replaced() -> None:
    async with FakeSidecar() as sidecar:
        restarting: list[asyncio.Future[None]] = []

        async def snapshots() -> AsyncIterator[str]:
            yield "one two three"
            await eventually(lambda: sidecar.streams and only(sidecar).durable[1])
            sidecar.checkpoint = False
            yield "one 2"
            await eventually(lambda: only(sidecar).text == "one 2")
            yield "one 2 three"
            await eventually(lambda: only(sidecar).text == "one 2 three")
            await sidecar.stop()
            assert only(sidecar).text == "one two three"
            restarting.append(asyncio.ensure_future(sidecar.start()))
            yield "one 2 three four"

        async def body(session: capsule.Session) -> None:
            await session.stream_reply_from(snapshots(), cumulative=True)

        outcome = await turn(sidecar, body, stream_interval=0)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert only(sidecar).text == "one 2 three four"


async def test_a_stream_is_written_inside_of_its_block_only() -> None:
    async with FakeSidecar() as sidecar:

        async def body(session: capsule.Session) -> None:
            out = session.stream_reply()
            with pytest.raises(RuntimeError, match="inside"):
                await out.write("early")
            async with out:
                wrong: Any = b"bytes"
                with pytest.raises(TypeError, match="bytes"):
                    await out.write(wrong)
                with pytest.raises(capsule.InvalidArgument, match="Unicode"):
                    await out.write("\ud83d")
            with pytest.raises(RuntimeError, match="inside"):
                await out.write("late")

        outcome = await turn(sidecar, body)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
