"""Questions of the Python client to a person, on a real sidecar, and what they outlive."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import capsule_client as capsule
from capsule_client.testing.plugin import RunKit
from capsule_protocol.v1 import file_service_pb2, file_service_pb2_grpc, types_pb2
from tests.integration.test_docs import loaded
from tests.support.eventually import eventually
from tests.support.programs import CLIENT, running
from tests.support.sidecar import (
    FAST,
    PATIENT,
    Person,
    Running,
    SidecarProcess,
    request_id,
    running_sidecar,
)
from tests.support.work import ended, invocations

Ask = Callable[[capsule.Session], Awaitable[Any]]

_OPEN = types_pb2.PROMPT_STATUS_OPEN
_WITHDRAWN = types_pb2.PROMPT_STATUS_WITHDRAWN

# A process of its own, which asks and then says what it was told.
ASKER = """
import capsule_client as capsule

app = capsule.App("support")


@app.message()
async def handle(session: capsule.Session, msg: capsule.Message) -> None:
    color = await session.prompt_choice("Which color?", ["red", "blue"], timeout=600)
    await session.reply(f"VERSION: {color} in attempt {session.attempt}")
"""


def app_of(running: Running, **options: Any) -> capsule.App:
    """Returns an app that attaches to this sidecar."""
    return capsule.App("support", address=running.address, token=running.token, **options)


def asking(app: capsule.App, ask: Ask) -> list[Any]:
    """Has the app ask on every message; returns the list of what comes of it."""
    results: list[Any] = []

    @app.message()
    async def handle(session: capsule.Session, msg: capsule.Message) -> None:
        try:
            results.append(await ask(session))
        except BaseException as error:
            results.append(error)
            raise

    return results


async def prompts(person: Person, session: str) -> list[types_pb2.Prompt]:
    """Returns the prompts that a session shows."""
    items = await person.timeline(session)
    return [item.prompt for item in items if item.WhichOneof("item") == "prompt"]


async def asked(person: Person, session: str, count: int = 1) -> types_pb2.Prompt:
    """Waits for the prompt number `count` of a session."""

    async def found() -> list[types_pb2.Prompt]:
        shown = await prompts(person, session)
        return shown if len(shown) >= count else []

    return (await eventually(found, timeout=20, message=f"prompt {count}"))[count - 1]


async def uploaded(person: Person, data: bytes, name: str, content_type: str = "") -> str:
    """Uploads a file as a person does; returns its id."""
    stub: Any = file_service_pb2_grpc.FileServiceStub(person.channel)
    header = file_service_pb2.UploadHeader(
        caller=file_service_pb2.FileCaller(identity=person.identity),
        request_id=request_id(),
        name=name,
        content_type=content_type,
    )
    parts = [
        file_service_pb2.UploadFileRequest(header=header),
        file_service_pb2.UploadFileRequest(data=data),
    ]
    answer = await stub.UploadFile(iter(parts), metadata=person.metadata, timeout=20)
    return str(answer.file.file_id)


async def answer(person: Person, prompt: types_pb2.Prompt, **given: Any) -> None:
    """Answers a prompt, first."""
    answered = await person.call("AnswerPrompt", prompt_id=prompt.prompt_id, **given)
    assert answered.accepted


async def test_each_kind_of_question_is_answered(tmp_path: Path) -> None:
    async with (
        running_sidecar(tmp_path / "home", timing=PATIENT) as sidecar,
        Person(sidecar) as ada,
    ):
        app = app_of(sidecar)

        async def ask(session: capsule.Session) -> Any:
            sure = await session.prompt_approval("Sure?", approve_label="Yes", reject_label="No")
            color = await session.prompt_choice("Which color?", ["red", "blue"])
            report = await session.prompt_file(
                message="The report, please", accept=".pdf", path=tmp_path / "in" / "report.pdf"
            )
            return sure, color, report, await report.read()

        results = asking(app, ask)
        async with app.attached():
            session = await ada.open()
            await ada.say(session, "go")
            prompt = await asked(ada, session)
            assert (prompt.status, prompt.message) == (_OPEN, "Sure?")
            assert prompt.approval.approve_label == "Yes"
            await answer(ada, prompt, approved=False)
            await answer(ada, await asked(ada, session, 2), option=1)
            prompt = await asked(ada, session, 3)
            assert prompt.file.accept == ".pdf"
            file_id = await uploaded(ada, b"%PDF-1.7", "../r.pdf", "application/pdf")
            await answer(ada, prompt, file_id=file_id)
            await eventually(lambda: results)
        sure, color, report, data = results[0]
        assert (sure, color) == (False, "blue")
        assert isinstance(report, capsule.FileUpload)
        assert (report.name, report.content_type, report.size) == ("r.pdf", "application/pdf", 8)
        assert report.id == file_id
        assert report.path == str(tmp_path / "in" / "report.pdf")
        assert report.url.startswith("http")
        assert data == (tmp_path / "in" / "report.pdf").read_bytes() == b"%PDF-1.7"
        statuses = {one.status for one in await prompts(ada, session)}
        assert statuses == {types_pb2.PROMPT_STATUS_ANSWERED}


@pytest.mark.parametrize("dismissed", [True, False])
async def test_a_prompt_that_nobody_answers_is_a_timeout(tmp_path: Path, dismissed: bool) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app = app_of(sidecar)
        kinds = [capsule.ApprovalTimeout, capsule.ChoiceTimeout, capsule.FileUploadTimeout]
        timeout = 60 if dismissed else 0.3

        async def ask(session: capsule.Session) -> list[str]:
            ends = await asyncio.gather(
                session.prompt_approval("one", timeout=timeout),
                session.prompt_choice("two", ["a"], timeout=timeout),
                session.prompt_file(message="three", timeout=timeout),
                return_exceptions=True,
            )
            assert [type(end) for end in ends] == kinds
            return [getattr(end, "reason", "") for end in ends]

        results = asking(app, ask)
        async with app.attached():
            session = await ada.open()
            await ada.say(session, "go")
            await asked(ada, session, 3)
            if dismissed:
                for prompt in await prompts(ada, session):
                    await answer(ada, prompt, dismissed=True)
            await eventually(lambda: results)
        assert results == [["DISMISSED" if dismissed else "EXPIRED"] * 3]


async def test_several_questions_at_once_are_answered_in_any_order(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app = app_of(sidecar)
        results = asking(
            app,
            lambda session: asyncio.gather(
                *(session.prompt_choice("the same words", ["a", "b", "c"]) for _ in range(3))
            ),
        )
        async with app.attached():
            session = await ada.open()
            await ada.say(session, "go")
            await asked(ada, session, 3)
            waiting = await prompts(ada, session)
            for prompt, option in zip(reversed(waiting), (2, 0, 1), strict=True):
                await answer(ada, prompt, option=option)
            await eventually(lambda: results)
        assert sorted(results[0]) == ["a", "b", "c"]


async def test_what_the_sidecar_refuses_is_named(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app = app_of(sidecar)

        async def ask(session: capsule.Session) -> Any:
            return await asyncio.gather(
                session.prompt_approval("  "),
                session.prompt_approval("x" * 4001),
                session.prompt_choice("?", ["x" * 201]),
                session.prompt_file(accept="not a type"),
                return_exceptions=True,
            )

        results = asking(app, ask)
        async with app.attached():
            await ada.say(await ada.open(), "go")
            await eventually(lambda: results)
        for error, field in zip(
            results[0], ("message", "message", "options", "accept"), strict=True
        ):
            assert isinstance(error, capsule.InvalidArgument | capsule.LimitExceeded), error
            assert field in f"{error} {error.metadata}"


async def test_stop_withdraws_the_prompt_and_lets_the_handler_say_a_last_word(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app = app_of(sidecar)
        seen: list[Any] = []

        async def ask(session: capsule.Session) -> None:
            try:
                await session.prompt_approval("Sure?")
            except asyncio.CancelledError as error:
                seen.append(error.args[0])
                with pytest.raises(capsule.Stopped):
                    await session.prompt_approval("Really?")
                await session.reply("as you like")
                raise

        asking(app, ask)
        async with app.attached():
            session = await ada.open()
            async with await ada.follow(session) as follow:
                sent = await ada.say(session, "go")
                await asked(ada, session)
                await ada.call(
                    "StopInvocation", session_id=session, invocation_id=sent.invocation_id
                )
                end = await ended(follow, sent.invocation_id)
        assert end.status == types_pb2.INVOCATION_STATUS_STOPPED
        assert isinstance(seen[0], capsule.Stopped)
        assert [one.status for one in await prompts(ada, session)] == [_WITHDRAWN]
        assert await ada.texts(session) == ["go", "as you like"]


async def test_a_turn_that_waits_takes_no_place_of_the_process(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app = app_of(sidecar, concurrency=1)
        results = asking(app, lambda session: session.prompt_approval("Sure?"))
        async with app.attached():
            sessions = [await ada.open() for _ in range(5)]
            for session in sessions:
                await ada.say(session, "go")
            for session in sessions:
                await answer(ada, await asked(ada, session), approved=True)
            await eventually(lambda: len(results) == 5)
        assert results == [True] * 5


@pytest.mark.deadline(120)
async def test_a_question_outlives_a_kill_of_the_sidecar(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "60"
        process.environment["CAPSULE_TIMING__FRESH_BEAT"] = "6"
        sidecar = await process.start()
        app = app_of(sidecar)
        results = asking(app, lambda session: session.prompt_approval("Sure?", timeout=600))
        async with app.attached():
            async with Person(sidecar) as ada:
                session = await ada.open()
                sent = await ada.say(session, "go")
                prompt = await asked(ada, session)
            await process.kill()
            await process.start()
            async with Person(sidecar) as ada, await ada.follow(session) as follow:
                await answer(ada, prompt, approved=True)
                await eventually(lambda: results, timeout=30)
                end = await ended(follow, sent.invocation_id, timeout=30)
        assert results == [True]
        assert (end.status, end.attempts) == (types_pb2.INVOCATION_STATUS_COMPLETED, 1)


@pytest.mark.deadline(120)
async def test_an_answer_whose_arrival_a_kill_prevents_arrives_after_it(tmp_path: Path) -> None:
    async with SidecarProcess(tmp_path) as process:
        process.environment["CAPSULE_TIMING__LEASE_TERM"] = "60"
        process.environment["CAPSULE_TIMING__FRESH_BEAT"] = "6"
        sidecar = await process.start()
        app = app_of(sidecar)
        results = asking(app, lambda session: session.prompt_approval("Sure?", timeout=600))
        async with app.attached(), Person(sidecar) as ada:
            session = await ada.open()
            await ada.say(session, "go")
            prompt = await asked(ada, session)
            call = asyncio.create_task(answer(ada, prompt, approved=True))
            await asyncio.wait({call})  # committed; whether it was told is chance
            await process.kill()
            await process.start()
            await eventually(lambda: results, timeout=30)
        assert results == [True]


async def test_an_answer_given_while_the_app_is_away_is_there_when_it_asks_again(
    tmp_path: Path,
) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        first, second = app_of(sidecar), app_of(sidecar)
        session = await ada.open()
        cut_off = asking(first, lambda session: session.prompt_approval("Sure?"))
        async with first.attached():
            sent = await ada.say(session, "go")
            prompt = await asked(ada, session)
        assert isinstance(cut_off[0], asyncio.CancelledError)
        await answer(ada, prompt, approved=True)
        results = asking(second, lambda session: session.prompt_approval("Sure?"))
        async with second.attached(), await ada.follow(session) as follow:
            end = await ended(follow, sent.invocation_id)
        assert results == [True]
        assert end.status == types_pb2.INVOCATION_STATUS_COMPLETED
        assert len(await prompts(ada, session)) == 1


@pytest.mark.deadline(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_new_process_joins_the_question_of_the_one_before(
    tmp_path: Path, number: int
) -> None:
    (tmp_path / "app.py").write_text(ASKER)
    home = tmp_path / "home"
    # Its lease ends where it was killed, and does not where it is only slow.
    timing = FAST | {"lease_term": 4.0, "fresh_beat": 2.5}
    async with running_sidecar(home, timing=timing) as sidecar, Person(sidecar) as ada:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        command = [CLIENT, "run", "app.py:app"]
        session = await ada.open()
        async with running(command, environment, cwd=tmp_path) as before:
            await ada.say(session, "go")
            prompt = await asked(ada, session)
            before.signal(number)
            # Without waiting for the person, whose answer a drain would wait 30 s for.
            code = await before.ends(timeout=15)
            assert code == (0 if number == signal.SIGTERM else -number)
        async with running(command, environment, cwd=tmp_path) as after:
            await after.shows("attached to")

            async def delivered() -> bool:
                return any(one.attempt == 2 for one in await invocations(ada, page_size=10))

            await eventually(delivered, timeout=30, message="the second attempt")
            assert [one.status for one in await prompts(ada, session)] == [_OPEN]
            await answer(ada, prompt, option=1)
            await ada.hears(session, "VERSION: blue in attempt 2")
        assert len(await prompts(ada, session)) == 1


@pytest.mark.deadline(120)
async def test_a_changed_file_is_served_anew_while_its_handler_waits(tmp_path: Path) -> None:
    source = tmp_path / "app.py"
    source.write_text(ASKER)
    home = tmp_path / "home"
    async with running_sidecar(home, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        command = [CLIENT, "run", "--reload", "app.py:app"]
        async with running(command, environment, cwd=tmp_path, parent=True) as program:
            session = await ada.open()
            await ada.say(session, "go")
            prompt = await asked(ada, session)
            source.write_text(ASKER.replace("VERSION", "the new one"))
            at = await program.shows("starting anew")
            await program.shows("which waits for an answer", after=at)
            await answer(ada, prompt, option=0)
            await ada.hears(session, "the new one: red in attempt 2", timeout=40)
        assert len(await prompts(ada, session)) == 1


async def test_a_question_to_a_person_who_is_gone_ends_with_the_session(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app = app_of(sidecar)
        results = asking(app, lambda session: session.prompt_approval("Sure?"))
        async with app.attached():
            session = await ada.open()
            await ada.say(session, "go")
            await asked(ada, session)
            await ada.call("DeleteSession", session_id=session)
            await eventually(lambda: results)
            assert isinstance(results[0].args[0], capsule.NotFound)


async def test_a_file_that_is_not_accepted_leaves_the_question_open(tmp_path: Path) -> None:
    async with running_sidecar(tmp_path, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        app = app_of(sidecar)
        results = asking(app, lambda session: session.prompt_file(accept=".pdf"))
        async with app.attached():
            session = await ada.open()
            await ada.say(session, "go")
            prompt = await asked(ada, session)
            wrong = await uploaded(ada, b"text", "notes.txt", "text/plain")
            with pytest.raises(grpc.aio.AioRpcError):
                await answer(ada, prompt, file_id=wrong)
            assert not results
            right = await uploaded(ada, b"%PDF", "notes.PDF", "application/pdf")
            await answer(ada, prompt, file_id=right)
            await eventually(lambda: results)
        assert results[0].id == right


def files_of(folder: Path) -> dict[str, bytes]:
    """Returns the files below a folder by their names."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_the_prompts_page_does_what_it_says(
    capsule_kit: RunKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the page's handler puts receipts
    async with capsule_kit(loaded("docs/prompts.md", "expenses")) as kit:
        ann = kit.user("ann")
        await ann.say("a receipt")
        assert (await ann.prompt()).message == "Please upload the receipt"
        await ann.upload("taxi.pdf", b"%PDF-1.7")
        await ann.choose(0)
        assert (await ann.prompt()).message == "Book taxi.pdf under Travel?"
        await ann.approve()
        assert await ann.reply() == "Booked 8 bytes under Travel."
        assert files_of(tmp_path / "receipts") == {"taxi.pdf": b"%PDF-1.7"}
        await ann.say("another")
        await ann.dismiss()
        assert await ann.reply() == "No receipt, no money."
        for end, said in (
            (ann.reject, "Nothing is booked. Write again to start over."),
            (ann.dismiss, "Nothing is booked. Write again when you have time."),
        ):
            await ann.say("one more")
            await ann.upload("taxi.pdf", b"%PDF-1.7")
            await ann.choose(1)
            await end()
            assert await ann.reply() == said
        await ann.say("and one")
        await ann.upload("taxi.pdf", b"%PDF-1.7")
        await ann.dismiss()  # the choice
        assert await ann.reply() == "Nothing is booked. Write again when you have time."


@pytest.mark.parametrize("wide", [False, True])
async def test_how_much_and_how_long_is_asked_is_the_sidecars_to_say(
    tmp_path: Path, wide: bool
) -> None:
    options = [str(number) for number in range(150)]
    settings: dict[str, Any] = {
        "limits": {"max_options": 200},
        "timing": PATIENT | {"max_prompt_timeout": 40 * 86_400.0},
    }
    async with (
        running_sidecar(tmp_path, **(settings if wide else {"timing": PATIENT})) as sidecar,
        Person(sidecar) as ada,
    ):

        async def ask(session: capsule.Session) -> list[Any]:
            asks = (
                session.prompt_choice("Which?", options),
                session.prompt_approval("Really?", timeout=35 * 86_400.0),
            )
            return list(await asyncio.gather(*asks, return_exceptions=True))

        app = app_of(sidecar)
        results = asking(app, ask)
        async with app.attached():
            session = await ada.open()
            await ada.say(session, "go")
            if wide:
                await asked(ada, session, 2)
                for prompt in await prompts(ada, session):
                    choice = prompt.WhichOneof("kind") == "choice"
                    await answer(ada, prompt, **({"option": 149} if choice else {"approved": True}))
            (found,) = await eventually(lambda: results)
            if wide:
                assert found == ["149", True]
            else:
                assert [type(error) for error in found] == [capsule.InvalidArgument] * 2
                assert "1 to 100" in str(found[0])
                assert "30 days" in str(found[1])
