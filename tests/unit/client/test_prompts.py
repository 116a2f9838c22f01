"""Questions to a person, against a sidecar that a test holds in its hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import capsule_client as capsule
from capsule_protocol.v1 import handler_service_pb2 as pb
from capsule_protocol.v1 import types_pb2
from tests.support.eventually import eventually
from tests.support.fake_sidecar import TOKEN, FakeSidecar, status

Ask = Callable[[capsule.Session], Awaitable[Any]]

DISMISSED = types_pb2.PROMPT_STATUS_DISMISSED
EXPIRED = types_pb2.PROMPT_STATUS_EXPIRED


class Asker:
    """An app whose handler asks; keeps what came of it."""

    def __init__(self, sidecar: FakeSidecar, ask: Ask, **options: Any) -> None:
        self.app = capsule.App("demo", address=sidecar.address, token=TOKEN, **options)
        self.results: list[Any] = []

        @self.app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            try:
                self.results.append(await ask(session))
            except BaseException as error:
                self.results.append(error)
                raise


def approve(session: capsule.Session) -> Awaitable[bool]:
    return session.prompt_approval("Send it?")


async def test_an_approval_is_asked_for_with_its_words_and_answered() -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(
            sidecar,
            lambda session: session.prompt_approval(
                "Send it?", approve_label="Send", reject_label="Keep", timeout=1.5
            ),
        )
        async with asker.app.attached():
            for answer in (True, False):
                invocation = sidecar.invoke()
                sidecar.end_prompt(await sidecar.prompt(1 + (not answer)), answer)
                await sidecar.outcome(invocation)
            await eventually(lambda: len(sidecar.line.acks()) == 2)
        (first, second) = sidecar.line.commands("prompt_approval")
        request = first.prompt_approval
        assert (request.message, request.approve_label) == ("Send it?", "Send")
        assert request.reject_label == "Keep"
        assert request.timeout.ToTimedelta() == timedelta(seconds=1.5)
        assert request.request_id != second.prompt_approval.request_id
        assert asker.results == [True, False]
        assert sidecar.line.acks() == list(sidecar.prompts)


async def test_a_choice_gives_the_option_picked() -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, lambda session: session.prompt_choice("Which?", ["red", "blue"]))
        async with asker.app.attached():
            invocation = sidecar.invoke()
            prompt = await sidecar.prompt()
            assert list(prompt.choice.options) == ["red", "blue"]
            sidecar.end_prompt(prompt, 1)
            await sidecar.outcome(invocation)
        assert asker.results == ["blue"]
        request = sidecar.line.commands("prompt_choice")[0].prompt_choice
        assert request.timeout.ToTimedelta() == timedelta(minutes=5)


async def test_a_file_is_given_out_readable_and_written_where_it_was_wanted(
    tmp_path: Path,
) -> None:
    async with FakeSidecar() as sidecar:

        async def ask(session: capsule.Session) -> Any:
            loose = await session.prompt_file(accept=".pdf")
            saved = await session.prompt_file(message="again", path=tmp_path)
            return loose, await loose.read(), saved

        asker = Asker(sidecar, ask)
        attachment = sidecar.files.put(b"content", "report.pdf", "application/pdf")
        async with asker.app.attached():
            invocation = sidecar.invoke()
            for count in (1, 2):
                sidecar.end_prompt(await sidecar.prompt(count), attachment)
            await sidecar.outcome(invocation)
        request = sidecar.line.commands("prompt_file")[0].prompt_file
        assert (request.message, request.accept) == ("Please upload a file", ".pdf")
        loose, data, saved = asker.results[0]
        expected = ("report.pdf", "application/pdf", "http://fake/file", 7, attachment.file_id)
        assert loose == capsule.FileUpload(*expected, path=None)
        assert saved == capsule.FileUpload(*expected, path=str(tmp_path / "report.pdf"))
        assert data == (tmp_path / "report.pdf").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (approve, capsule.ApprovalTimeout),
        (lambda session: session.prompt_choice("Which?", ["a"]), capsule.ChoiceTimeout),
        (lambda session: session.prompt_file(), capsule.FileUploadTimeout),
    ],
)
@pytest.mark.parametrize("ending", [DISMISSED, EXPIRED])
async def test_a_prompt_that_nobody_answers_raises_its_own_timeout(
    ask: Ask, kind: type[capsule.CapsuleError], ending: types_pb2.PromptStatus.ValueType
) -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, ask)
        async with asker.app.attached():
            invocation = sidecar.invoke()
            sidecar.end_prompt(await sidecar.prompt(), status=ending)
            outcome = await sidecar.outcome(invocation)
        (error,) = asker.results
        assert type(error) is kind
        assert isinstance(error, TimeoutError)
        assert error.reason == ("DISMISSED" if ending == DISMISSED else "EXPIRED")
        assert outcome.status == pb.OUTCOME_STATUS_FAILED


async def test_a_prompt_that_ended_before_it_was_asked_again_is_answered_at_once() -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, approve)
        async with asker.app.attached():
            first = sidecar.invoke()
            prompt = await sidecar.prompt()
            second = sidecar.invoke(invocation_id=first.invocation_id, attempt=2)
            await eventually(lambda: len(sidecar.line.commands("prompt_approval")) == 2)
            assert len(sidecar.prompts) == 1  # joined, and open
            third = sidecar.invoke(invocation_id=first.invocation_id, attempt=3)
            sidecar.end_prompt(prompt, True, tell=False)
            outcome = await sidecar.outcome(third)
            assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert asker.results[-1] is True
        assert (second.invocation_id, 2) not in sidecar.outcomes


async def test_an_end_that_overtakes_the_answer_to_the_question_is_kept() -> None:
    async with FakeSidecar() as sidecar:
        early: list[Any] = []

        async def ask(session: capsule.Session) -> bool:
            try:
                return await session.prompt_approval("Send it?")
            finally:
                early.append(dict(session._calls.prompts._early))

        asker = Asker(sidecar, ask)
        async with asker.app.attached():
            sidecar.answer_commands = False
            invocation = sidecar.invoke()
            await eventually(lambda: sidecar.line.commands("prompt_approval"))
            stray = types_pb2.Prompt(prompt_id="prm_stray")
            resolved = pb.PromptResolved(
                invocation_id=invocation.invocation_id, attempt=1, prompt=stray
            )
            sidecar.line.send(pb.SidecarFrame(prompt_resolved=resolved))
            (command,) = sidecar.line.commands("prompt_approval")
            prompt = sidecar._prompt("prompt_approval", command)
            asked = pb.CommandResult(tag=command.tag)
            asked.prompt_approval.prompt.CopyFrom(prompt)  # open still
            end = sidecar.end_prompt(prompt, True, tell=False)
            sidecar.line.send(end, end, pb.SidecarFrame(command_result=asked), end)
            await sidecar.outcome(invocation)
            await eventually(lambda: sidecar.line.acks())
        assert asker.results == [True]
        assert early == [{}]  # nothing is kept that nobody comes for


async def test_an_end_that_nobody_waits_for_is_acknowledged() -> None:
    async with FakeSidecar() as sidecar:
        app = capsule.App("demo", address=sidecar.address, token=TOKEN)

        @app.message()
        async def handle(session: capsule.Session, msg: capsule.Message) -> None:
            asking = asyncio.ensure_future(session.prompt_approval("Send it?"))
            await sidecar.prompt()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await session.reply("not waiting")
            assert await session.prompt_approval("And now?")

        async with app.attached():
            line = sidecar.line
            for invocation_id, prompt_id in (("i-gone", "prm_gone"), ("i-1", "prm_unknown")):
                prompt = types_pb2.Prompt(prompt_id=prompt_id)
                resolved = pb.PromptResolved(invocation_id=invocation_id, attempt=1, prompt=prompt)
                line.send(pb.SidecarFrame(prompt_resolved=resolved))
            invocation = sidecar.invoke()
            await eventually(lambda: sidecar.replies)
            given_up = await sidecar.prompt()
            sidecar.end_prompt(given_up, True)
            second = await sidecar.prompt(2)
            sidecar.end_prompt(second, True)
            outcome = await sidecar.outcome(invocation)
            await eventually(lambda: second.prompt_id in line.acks())
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        expected = ["prm_gone", "prm_unknown", given_up.prompt_id, second.prompt_id]
        assert line.acks() == expected


async def test_several_prompts_wait_at_once_and_are_answered_in_any_order() -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(
            sidecar,
            lambda session: asyncio.gather(
                session.prompt_approval("one"),
                session.prompt_choice("two", ["a", "b"]),
                session.prompt_approval("three"),
            ),
        )
        async with asker.app.attached():
            invocation = sidecar.invoke()
            await sidecar.prompt(3)
            one, two, three = sidecar.prompts.values()
            for prompt, answer in ((three, False), (one, True), (two, 0)):
                sidecar.end_prompt(prompt, answer)
            await sidecar.outcome(invocation)
        assert asker.results == [[True, "a", False]]


async def test_an_answer_given_while_the_line_was_lost_comes_with_the_next_one() -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, approve)
        async with asker.app.attached():
            invocation = sidecar.invoke()
            prompt = await sidecar.prompt()
            await sidecar.stop()
            sidecar.end_prompt(prompt, True, tell=False)
            await sidecar.start()
            outcome = await sidecar.outcome(invocation)
            await eventually(lambda: not sidecar.unacknowledged)
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED
        assert asker.results == [True]
        assert len(sidecar.lines) == 2
        assert [one.invocation_id for one in sidecar.line.hello.leases] == [
            invocation.invocation_id
        ]


async def test_a_question_unanswered_when_the_line_is_lost_is_asked_again_under_one_id() -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, approve)
        async with asker.app.attached():
            sidecar.answer_commands = False
            invocation = sidecar.invoke()
            await eventually(lambda: sidecar.line.commands("prompt_approval"))
            sidecar.line.cut()
            sidecar.answer_commands = True
            sidecar.end_prompt(await sidecar.prompt(), True)
            await sidecar.outcome(invocation)
        (first,) = sidecar.lines[0].commands("prompt_approval")
        (second,) = sidecar.lines[1].commands("prompt_approval")
        assert first == second
        assert asker.results == [True]


async def test_stop_takes_the_handler_out_of_its_wait_and_nothing_new_is_asked() -> None:
    async with FakeSidecar() as sidecar:
        seen: list[Any] = []

        async def ask(session: capsule.Session) -> None:
            try:
                await session.prompt_approval("Send it?")
            except asyncio.CancelledError as error:
                seen.append(error.args[0])
                for again in (
                    session.prompt_approval("Really?"),
                    session.prompt_choice("Which?", ["a"]),
                    session.prompt_file(),
                ):
                    with pytest.raises(capsule.Stopped) as refused:
                        await again
                    seen.append(refused.value.reason)
                await session.reply("stopped")
                raise

        asker = Asker(sidecar, ask)
        async with asker.app.attached():
            invocation = sidecar.invoke()
            await sidecar.prompt()
            sidecar.cancel(invocation, pb.CANCEL_REASON_STOPPED)
            outcome = await sidecar.outcome(invocation)
        assert outcome.status == pb.OUTCOME_STATUS_CANCELLED
        assert isinstance(seen[0], capsule.Stopped)
        assert seen[1:] == ["STOPPED"] * 3
        assert sidecar.replies == ["stopped"]
        assert len(sidecar.prompts) == 1


async def test_a_withdrawn_prompt_is_told_of_as_a_stop() -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, approve)
        async with asker.app.attached():
            invocation = sidecar.invoke()
            prompt = await sidecar.prompt()
            sidecar.end_prompt(prompt, status=types_pb2.PROMPT_STATUS_WITHDRAWN)
            await sidecar.outcome(invocation)
        assert isinstance(asker.results[0], capsule.Stopped)


async def test_a_lost_lease_takes_the_handler_out_of_its_wait() -> None:
    async with FakeSidecar(beat_interval=0.2, lease_term=3) as sidecar:
        asker = Asker(sidecar, approve)
        async with asker.app.attached():
            sidecar.invoke()
            await sidecar.prompt()
            sidecar.answer_hello = sidecar.answer_beats = False
            sidecar.line.cut()
            await eventually(lambda: asker.results)
            assert isinstance(asker.results[0].args[0], capsule.Superseded)
            sidecar.answer_hello = sidecar.answer_beats = True


async def test_a_refused_question_raises_our_error() -> None:
    async with FakeSidecar() as sidecar:
        sidecar.refuse = lambda _: status("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "too many")
        asker = Asker(sidecar, approve)
        async with asker.app.attached():
            await sidecar.outcome(sidecar.invoke())
        assert isinstance(asker.results[0], capsule.LimitExceeded)


async def test_on_the_way_out_a_turn_that_waits_for_a_person_is_given_back_at_once() -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, approve, drain_timeout=3600)
        async with asker.app.attached():
            invocation = sidecar.invoke()
            await sidecar.prompt()  # its answer may come before or behind the drain
        outcome = sidecar.outcomes[invocation.invocation_id, 1]
        assert outcome.status == pb.OUTCOME_STATUS_RELEASED
        assert isinstance(asker.results[0], asyncio.CancelledError)


async def test_on_the_way_out_a_turn_that_works_goes_on_until_it_waits() -> None:
    async with FakeSidecar() as sidecar:
        begun: list[int] = []
        go_on = asyncio.Event()

        async def ask(session: capsule.Session) -> None:
            begun.append(session.attempt)
            await go_on.wait()
            await session.reply("worked")
            if session.attempt == 1:
                await session.prompt_approval("Send it?")

        asker = Asker(sidecar, ask, drain_timeout=3600)
        async with asker.app.attached():
            asks, works = sidecar.invoke(), sidecar.invoke(attempt=2)
            await eventually(lambda: len(begun) == 2)
            line = sidecar.line
            drained = asyncio.create_task(eventually(lambda: "drain" in line.kinds()))
            drained.add_done_callback(lambda _: go_on.set())
        assert sidecar.outcomes[asks.invocation_id, 1].status == pb.OUTCOME_STATUS_RELEASED
        assert sidecar.outcomes[works.invocation_id, 2].status == pb.OUTCOME_STATUS_COMPLETED
        assert sidecar.replies == ["worked", "worked"]


async def test_a_turn_whose_answer_has_come_is_not_given_back() -> None:
    async with FakeSidecar() as sidecar:
        go_on = asyncio.Event()

        async def ask(session: capsule.Session) -> None:
            assert await session.prompt_approval("Send it?")
            await go_on.wait()

        asker = Asker(sidecar, ask)
        async with asker.app.attached():
            line = sidecar.line
            invocation = sidecar.invoke()
            sidecar.end_prompt(await sidecar.prompt(), True)
            await eventually(lambda: line.acks())
            drained = asyncio.create_task(eventually(lambda: "drain" in line.kinds()))
            drained.add_done_callback(lambda _: go_on.set())
        outcome = sidecar.outcomes[invocation.invocation_id, 1]
        assert outcome.status == pb.OUTCOME_STATUS_COMPLETED


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (0.0001, ValueError),
        (10**400, ValueError),
        (timedelta(0), ValueError),
        (True, TypeError),
        ("5", ValueError),
        ("0s", ValueError),
        ([5], TypeError),
        (None, TypeError),
    ],
)
async def test_a_timeout_is_a_finite_time_of_at_least_one_millisecond(
    timeout: Any, error: type[Exception]
) -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, lambda session: session.prompt_approval("?", timeout=timeout))
        async with asker.app.attached():
            await sidecar.outcome(sidecar.invoke())
        assert type(asker.results[0]) is error
        assert "timeout" in str(asker.results[0])
        assert not sidecar.line.commands()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ([], ValueError, "at least one option"),
        (["a", "b", "a"], ValueError, "'a' is offered twice"),
        (["a", " "], ValueError, r"options\[1\] is empty"),
        ("abc", TypeError, "not one string"),
        (["a", 1], TypeError, r"options\[1\] is a string"),
        (["a", "\ud800"], capsule.InvalidArgument, r"options\[1\]: not valid Unicode"),
    ],
)
async def test_options_are_different_strings(
    options: Any, error: type[Exception], words: str
) -> None:
    async with FakeSidecar() as sidecar:
        asker = Asker(sidecar, lambda session: session.prompt_choice("?", options))
        async with asker.app.attached():
            await sidecar.outcome(sidecar.invoke())
        with pytest.raises(error, match=words):
            raise asker.results[0]
        assert not sidecar.line.commands()


async def test_words_that_are_no_strings_are_named() -> None:
    async with FakeSidecar() as sidecar:
        asks: list[Ask] = [
            lambda session: session.prompt_approval(3),  # type: ignore[arg-type]  # what is tested
            lambda session: session.prompt_approval("x", reject_label=1),  # type: ignore[arg-type]  # what is tested
            lambda session: session.prompt_choice(1, ["a"]),  # type: ignore[arg-type]  # what is tested
            lambda session: session.prompt_file(accept=[".pdf"]),  # type: ignore[arg-type]  # what is tested
            lambda session: session.prompt_file(path=3),  # type: ignore[arg-type]  # what is tested
        ]
        asker = Asker(sidecar, lambda session: asks.pop(0)(session))
        async with asker.app.attached():
            for name in ("message", "reject_label", "message", "accept", "int"):
                await sidecar.outcome(sidecar.invoke())
                with pytest.raises(TypeError, match=name):
                    raise asker.results[-1]
