"""Prompts: questions to a person, which are records of the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import capsule_client as capsule
from capsule_client import testing
from capsule_protocol.v1 import types_pb2
from tests.integration.walk.stage import (
    WAIT,
    Do,
    Serving,
    app_of,
    doing,
    kit_of,
    stage,
    talking,
    walks,
)
from tests.support.eventually import eventually
from tests.support.proxy import FaultProxy
from tests.support.sidecar import Person, Running, SidecarProcess

ANSWERED = types_pb2.PROMPT_STATUS_ANSWERED


@asynccontextmanager
async def told(sidecar: Serving, do: Do) -> AsyncIterator[tuple[testing.User, asyncio.Queue[Any]]]:
    """Has a simulated user begin a turn that does this; gives them, and what comes of it."""
    app = app_of(sidecar)
    results = doing(app, do)
    async with kit_of(sidecar, app) as kit:
        ann = kit.user("ann")
        await ann.say("go")
        yield ann, results


async def _approval(session: capsule.Session, msg: capsule.Message) -> bool:
    return await session.prompt_approval("Sure?")


@walks("Session.prompt_approval")
@pytest.mark.parametrize("approved", [True, False])
async def test_an_approval_is_true_or_false(sidecar: Serving, approved: bool) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> bool:
        return await session.prompt_approval("Sure?", approve_label="Go", reject_label="Stay")

    async with told(sidecar, do) as (ann, results):
        prompt = await ann.prompt()
        assert (prompt.message, prompt.options) == ("Sure?", ("Go", "Stay"))
        await (ann.approve() if approved else ann.reject())
        assert await results.get() is approved


@walks("Session.prompt_choice")
async def test_a_choice_is_the_option_picked(sidecar: Serving) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> str:
        return await session.prompt_choice("Which color?", ["red", "blue"])

    async with told(sidecar, do) as (ann, results):
        assert (await ann.prompt()).options == ("red", "blue")
        await ann.choose("blue")
        assert await results.get() == "blue"


@walks("Session.prompt_file", "FileUpload")
async def test_a_file_prompt_blocks_until_the_user_uploads(sidecar: Serving) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        upload = await session.prompt_file(message="The report, please", accept=".pdf")
        return upload, await upload.read()

    async with told(sidecar, do) as (ann, results):
        prompt = await ann.prompt()
        assert (prompt.message, prompt.accept) == ("The report, please", ".pdf")
        assert results.empty()
        await ann.upload("report.pdf", b"%PDF-1.7")
        upload, data = await results.get()
        assert isinstance(upload, capsule.FileUpload)
        assert (upload.name, upload.path, data) == ("report.pdf", None, b"%PDF-1.7")


@walks("Session.prompt_file")
async def test_a_file_prompt_asks_for_any_file_unless_told_otherwise(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return await session.prompt_file()

    async with stage(sidecar, do) as step:
        turn_id = await step.says()
        prompt = await step.asked()
        assert (prompt.message, prompt.file.accept) == ("Please upload a file", "")
        lasts = prompt.expire_time.ToDatetime() - prompt.create_time.ToDatetime()
        assert lasts.total_seconds() == pytest.approx(300, abs=1)
        await step.stop(turn_id)


@walks("Session.prompt_file", "FileUpload.path")
@pytest.mark.parametrize("directory", [True, False], ids=["a directory", "a file"])
async def test_a_file_prompt_with_a_path_writes_the_file_there(
    sidecar: Running, tmp_path: Path, directory: bool
) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" if directory else tmp_path / "new" / "parents" / "mine.txt"
    expected = tmp_path / "there" / "notes.txt" if directory else target

    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return await session.prompt_file(path=target)

    async with stage(sidecar, do) as step:
        await step.says()
        prompt = await step.asked()
        await step.answers(prompt, file_id=await step.uploads(b"words", "../../notes.txt"))
        upload = await step.result()
    assert upload.path == str(expected)
    assert expected.read_bytes() == b"words"


ASKING: dict[type[Exception], Do] = {
    capsule.FileUploadTimeout: lambda session, msg: session.prompt_file(timeout=_time(msg)),
    capsule.ApprovalTimeout: lambda session, msg: session.prompt_approval("?", timeout=_time(msg)),
    capsule.ChoiceTimeout: lambda session, msg: session.prompt_choice(
        "?", ["a", "b"], timeout=_time(msg)
    ),
}


def _time(msg: capsule.Message) -> float:
    return 0.05 if msg.text == "expire" else 300.0


@walks(
    "Session.prompt_file", "Session.prompt_approval", "Session.prompt_choice",
    "FileUploadTimeout", "ApprovalTimeout", "ChoiceTimeout",
)  # fmt: skip
@pytest.mark.parametrize("how", ["expire", "dismiss"])
@pytest.mark.parametrize(
    "kind", [capsule.FileUploadTimeout, capsule.ApprovalTimeout, capsule.ChoiceTimeout]
)
async def test_a_prompt_without_an_answer_is_its_own_timeout(
    sidecar: Running, kind: type[Exception], how: str
) -> None:
    """Of prompt_file, prompt_approval and prompt_choice alike: when the time is over, or no."""
    async with stage(sidecar, ASKING[kind]) as step:
        await step.says(how)
        if how == "dismiss":
            await step.answers(await step.asked(), dismissed=True)
        with pytest.raises(kind) as caught:
            await step.result()
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, capsule.CapsuleError)


@walks("a prompt outlives a reload")
async def test_a_prompt_is_there_after_a_reload_of_the_page_and_in_a_second_tab(
    sidecar: Running,
) -> None:
    async with stage(sidecar, _approval) as step:
        await step.says()
        prompt = await step.asked()
        async with await step.follow() as tab, await step.follow() as other:
            for page in (tab, other):
                (shown,) = (await page.live()).prompts
                assert shown.prompt.prompt_id == prompt.prompt_id
            # The first answer counts, and both show the outcome.
            assert await step.answers(prompt, approved=True)
            assert not await step.answers(prompt, approved=False)
            for page in (tab, other):
                ended = (await page.sees("prompt_ended")).prompt_ended.prompt
                assert (ended.status, ended.approval.answer) == (ANSWERED, True)
        assert await step.result() is True


@walks("a prompt outlives a restart of the sidecar")
async def test_a_prompt_outlives_a_restart_of_the_sidecar(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "60"
        process.environment["CAPSULE_TIMING__FRESH_BEAT"] = "6"
        process.environment["CAPSULE_TIMING__DRAIN_GRACE"] = "0.1"
        app = app_of(await process.start())
        results = doing(app, _approval)
        async with app.attached():
            running = Running(f"127.0.0.1:{process.port}", tmp_path, _token(tmp_path))
            async with talking(running, app, results) as step:
                await step.says()
                prompt = await step.asked()
            await process.end()
            await process.start()
            async with Person(running, app=app.name) as ada:
                answered = await ada.call("AnswerPrompt", prompt_id=prompt.prompt_id, approved=True)
                assert answered.accepted
            assert await step.result() is True


def _token(home: Path) -> str:
    return (home / "token").read_text().strip()


@walks("a prompt outlives a dropped handler connection")
async def test_a_prompt_outlives_a_dropped_handler_connection(sidecar: Running) -> None:
    host, port = sidecar.address.rsplit(":", 1)
    async with FaultProxy(host, int(port)) as proxy:
        through = Running(proxy.address, sidecar.home, sidecar.token)
        app = app_of(through)
        results = doing(app, _approval)
        async with app.attached(), talking(sidecar, app, results) as step:
            await step.says()
            prompt = await step.asked()
            before = proxy.accepted
            proxy.cut()
            await step.answers(prompt, approved=True)
            assert await step.result() is True
            assert proxy.accepted > before


@walks("a prompt outlives a re-delivery")
async def test_the_same_question_of_a_turn_delivered_again_is_joined(sidecar: Running) -> None:
    first = app_of(sidecar, drain_timeout=0.05)
    second = app_of(sidecar, first.name)
    doing(first, _approval)
    results = doing(second, _approval)
    async with talking(sidecar, first, results) as step:
        async with first.attached():
            await step.says()
            prompt = await step.asked()
        async with second.attached():
            await step.answers(prompt, approved=True)
            assert await step.result() is True
        assert len(await step.prompts()) == 1


@walks("a prompt outlives a re-delivery")
async def test_the_same_question_is_answered_already_where_the_answer_came_meanwhile(
    sidecar: Running,
) -> None:
    first = app_of(sidecar, drain_timeout=0.05)
    second = app_of(sidecar, first.name)
    doing(first, _approval)
    results = doing(second, _approval)
    async with talking(sidecar, first, results) as step:
        async with first.attached():
            await step.says()
            prompt = await step.asked()
        await step.answers(prompt, approved=False)
        async with second.attached():
            assert await step.result() is False
        assert len(await step.prompts()) == 1


@walks("a prompt blocks only its own lane")
async def test_a_pending_prompt_blocks_only_its_own_lane_and_costs_no_capacity(
    sidecar: Running,
) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        return await session.prompt_approval("Sure?") if msg.text == "ask" else msg.text

    async with stage(sidecar, do, concurrency=1) as step:
        await step.says("ask")
        prompt = await step.asked()
        await step.says("behind it")
        other = await step.person.open()
        await step.person.say(other, "another session")
        assert await step.result() == "another session"
        assert step.results.empty()
        await step.answers(prompt, approved=True)
        assert [await step.result(), await step.result()] == [True, "behind it"]


@walks("a prompt is withdrawn by Stop", "Stopped")
async def test_stop_withdraws_a_prompt_and_lets_none_begin(sidecar: Running) -> None:
    async def do(session: capsule.Session, msg: capsule.Message) -> Any:
        try:
            await session.prompt_approval("Sure?")
        except asyncio.CancelledError:
            with pytest.raises(capsule.Stopped):
                await session.prompt_approval("Are you sure?")
            raise

    async with stage(sidecar, do) as step:
        turn_id = await step.says()
        await step.asked()
        await step.stop(turn_id)
        with pytest.raises(asyncio.CancelledError):
            await step.result()

        async def withdrawn() -> bool:
            (prompt,) = await step.prompts()
            return prompt.status == types_pb2.PROMPT_STATUS_WITHDRAWN

        await eventually(withdrawn, timeout=WAIT)
