"""`capsule-sidecar apps`, `sessions` and `work`, as an operator and a script run them."""

from __future__ import annotations

import asyncio
import json
import os
import re
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from capsule_protocol.v1 import (
    handler_service_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    types_pb2,
)
from capsule_sidecar.commands import admin, admin_words
from capsule_sidecar.commands.admin_link import AdminLink
from capsule_sidecar.commands.chat_link import Access
from capsule_sidecar.commands.operator import Kind, Status
from tests.integration.test_docs import snippet
from tests.support.files import Mover
from tests.support.programs import CLIENT, SIDECAR, running
from tests.support.sidecar import PATIENT, BareHandler, Person, Running, request_id, running_sidecar
from tests.support.work import acknowledged

RAISED = handler_service_pb2.OUTCOME_STATUS_FAILED
# A handler with a mistake in it, which is mended by writing another one in its place.
HANDLER = """
import capsule_client as capsule

app = capsule.App("support")


@app.message()
async def message(session: capsule.Session, msg: capsule.Message) -> None:
    await session.reply(f"You said {BAD}")
"""


@dataclass
class Ran:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that it wrote."""
        [line] = self.out.splitlines()
        return json.loads(line)


@dataclass
class Shop:
    """A sidecar with a person and a handler, and the commands against it."""

    running: Running
    ada: Person
    handler: BareHandler
    works: int = 0

    async def run(self, *arguments: str, typed: str = "", **environment: str) -> Ran:
        """Runs `capsule-sidecar` with arguments."""
        return await self._run([SIDECAR, *arguments], typed, environment)

    async def shell(self, lines: str, **environment: str) -> Ran:
        """Runs lines of a shell, to which `capsule-sidecar` is known."""
        path = f"{Path(SIDECAR).parent}{os.pathsep}{os.environ['PATH']}"
        return await self._run(["sh", "-euc", lines], "", {"PATH": path} | environment)

    async def _run(self, command: list[str], typed: str, environment: dict[str, str]) -> Ran:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_")}
        variables |= {"CAPSULE_ADDRESS": self.running.address}
        variables |= {"CAPSULE_HOME": str(self.running.home), "TERM": "dumb"} | environment
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=variables
        )
        out, err = await asyncio.wait_for(process.communicate(typed.encode()), 60)
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Ran(process.returncode, out.decode(), err.decode())

    async def next(self) -> handler_service_pb2.Invocation:
        """Waits for the next invocation."""
        self.works += 1
        return await self.handler.work(self.works)

    async def ends(self, work: handler_service_pb2.Invocation, **fields: Any) -> None:
        """Ends an invocation, as FAILED where an error is named."""
        status = RAISED if "error_type" in fields else handler_service_pb2.OUTCOME_STATUS_COMPLETED
        await self.handler.finish(work, status, **fields)
        await acknowledged(self.handler, work)

    async def fails(self, session: str, text: str, reference: str) -> str:
        """Lets a turn fail; returns its invocation."""
        await self.ada.say(session, text)
        work = await self.next()
        await self.ends(work, error_type="KeyError", reference_id=reference)
        return work.invocation_id

    async def submits_task(self, **fields: Any) -> str:
        """Submits a task without a session; returns its id."""
        stub: Any = task_service_pb2_grpc.TaskServiceStub(self.handler.channel)
        request = task_service_pb2.SubmitTaskRequest(
            request_id=request_id(), name="sync", args_json=b'{"box":[1,2.50]}', **fields
        )
        answer = await stub.SubmitTask(request, metadata=self.handler.metadata, timeout=20)
        return str(answer.task_id)

    async def fails_task(self, reference: str, **fields: Any) -> str:
        """Lets a task without a session fail; returns its id."""
        task = await self.submits_task(**fields)
        await self.ends(await self.next(), error_type="TimeoutError", reference_id=reference)
        return task


@asynccontextmanager
async def shop(home: Path) -> AsyncIterator[Shop]:
    declared = handler_service_pb2.Declarations(message=True, actions=["pick"], tasks=["sync"])
    async with running_sidecar(home, timing=PATIENT) as sidecar, Person(sidecar) as ada:
        async with BareHandler(sidecar) as handler:
            await handler.attach(declarations=declared)
            yield Shop(sidecar, ada, handler)


def test_the_words_of_the_command_line_are_those_of_the_protocol() -> None:
    statuses = {s.value: s.number for s in Status}
    kinds = {k.value: k.number for k in Kind}
    assert statuses == {
        admin_words.status_name(number): number
        for number in types_pb2.InvocationStatus.values()
        if number
    }
    assert kinds == {
        admin_words.kind_name(number): number
        for number in types_pb2.InvocationKind.values()
        if number not in (0, types_pb2.INVOCATION_KIND_DATA, types_pb2.INVOCATION_KIND_ENDPOINT)
    }


async def test_the_apps_are_listed_with_their_processes(tmp_path: Path) -> None:
    async with shop(tmp_path) as desk:
        await desk.ada.open()
        ran = await desk.run("apps")
        assert ran.code == 0, ran.err
        assert ran.out.splitlines()[0] == "support"
        for words in ("bare 0  runs 0 of 8", "handles  message", "actions  pick", "tasks    sync"):
            assert words in ran.out, ran.out
        [app] = (await desk.run("apps", "--json")).json["apps"]
        assert app["app"] == "support"
        declared = {"message": True, "actions": ["pick"], "tasks": ["sync"]}
        assert app["processes"][0]["declarations"] == declared


async def test_the_line_of_a_schedule_that_is_in_force_is_shown_with_its_next_time(
    tmp_path: Path,
) -> None:
    async with shop(tmp_path) as desk, BareHandler(desk.running) as newer:
        line = handler_service_pb2.ScheduleDeclaration(
            name="nightly", cron="0 3 29 2 *", timezone="Europe/Berlin"
        )
        await newer.attach(declarations=handler_service_pb2.Declarations(schedules=[line]))
        ran = await desk.run("apps", TZ="Europe/Berlin")
        [shown] = [row for row in ran.out.splitlines() if row.startswith("  schedule")]
        assert re.fullmatch(
            r"  schedule  nightly: 0 3 29 2 \* \(Europe/Berlin\)  next 20\d\d-02-29 03:00:00", shown
        ), ran.out
        [app] = (await desk.run("apps", "--json")).json["apps"]
        [found] = app["schedules"]
        next_time = found.pop("next_time")
        assert found == {"name": "nightly", "cron": "0 3 29 2 *", "timezone": "Europe/Berlin"}
        assert re.fullmatch(r"20\d\d-02-29T02:00:00Z", next_time)


async def test_the_sessions_of_an_app_are_listed_and_shown(tmp_path: Path) -> None:
    async with shop(tmp_path) as desk, Person(desk.running, "terminal:eve") as eve:
        session = await desk.ada.open("Tea")
        await eve.open()
        file = await Mover(desk.ada).up(b"abc", "list.txt")
        await desk.ada.say(session, "buy\ntea\x1b[2J", attachments=[file.file_id])
        work = await desk.next()
        patch = types_pb2.DataPatch(set_json={"n": b"12345678901234567890123"})
        await desk.ends(work, data=patch, error_type="KeyError", reference_id="ref_x")
        listed = await desk.run("sessions", "list", "support", "--user", "terminal:ada")
        rows = listed.out.splitlines()
        assert len(rows) == 2, listed
        assert rows[1].split()[:3] == [session, "terminal:ada", "open"]
        assert "\x1b" not in listed.out
        document = (await desk.run("sessions", "list", "support", "--json")).json
        assert [one["identity"] for one in document["sessions"]] == ["terminal:eve", "terminal:ada"]
        assert document["more"] is False
        datetime.fromisoformat(document["sessions"][0]["session"]["create_time"])
        first = (await desk.run("sessions", "list", "support", "--limit", "1", "--json")).json
        assert (len(first["sessions"]), first["more"]) == (1, True)

        shown = await desk.run("sessions", "show", "support", session)
        assert "user:  " in shown.out
        assert '"n": 12345678901234567890123' in shown.out
        said = f"user: buy tea\ufffd[2J [list.txt (3 bytes)] -> {work.invocation_id}"
        assert said in shown.out, shown.out
        assert shown.out.splitlines()[-1].endswith(
            f"{work.invocation_id} message failed: HANDLER_ERROR, ref_x"
        )
        assert "\x1b" not in shown.out
        last = await desk.run("sessions", "show", "support", session, "--events", "1", "--json")
        # As it is in the database, whatever a program's numbers hold.
        assert '"data":{"n":12345678901234567890123}' in last.out
        [event] = last.json["events"]
        assert event["invocation_ended"]["reference_id"] == "ref_x"


async def test_work_is_listed_found_by_its_reference_and_shown(tmp_path: Path) -> None:
    async with shop(tmp_path) as desk:
        session = await desk.ada.open()
        turn = await desk.fails(session, "hello", "ref_turn")
        task = await desk.fails_task("ref_task")
        listed = await desk.run("work", "list", "support", "--status", "failed")
        assert [row.split()[:2] for row in listed.out.splitlines()[1:]] == [
            [task, "task"], [turn, "message"],
        ]  # fmt: skip
        tasks = (await desk.run("work", "list", "support", "--kind", "task", "--json")).json
        assert [one["invocation_id"] for one in tasks["invocations"]] == [task]
        assert "session_id" not in tasks["invocations"][0]
        of = (await desk.run("work", "list", "support", "--session", session, "--json")).json
        assert [one["kind"] for one in of["invocations"]] == [
            "INVOCATION_KIND_MESSAGE", "INVOCATION_KIND_ENTER",
        ]  # fmt: skip

        found = await desk.run("work", "list", "support", "--reference", "ref_turn")
        assert found.code == 0
        assert found.out.splitlines()[0].split() == ["invocation:", turn]
        assert re.search(r"^error: +KeyError$", found.out, re.MULTILINE), found.out
        assert f"sessions show support {session}" in found.err
        found = await desk.run("work", "list", "support", "--reference", "ref_task", "--json")
        assert [one["invocation_id"] for one in found.json["invocations"]] == [task]
        lost = await desk.run("work", "list", "support", "--reference", "ref_none")
        assert (lost.code, lost.out) == (1, "")
        assert "ref_none" in lost.err

        shown = await desk.run("work", "show", "support", task)
        for words in ("sync", "failed", "ref_task", "TimeoutError", '"box": [', "work retry"):
            assert words in shown.out + shown.err, words
        document = (await desk.run("work", "show", "support", task, "--json")).json
        assert document["task"]["args"] == {"box": [1, 2.5]}
        assert document["invocation"]["error_type"] == "TimeoutError"
        datetime.fromisoformat(document["task"]["create_time"])


async def test_what_failed_is_done_again_by_its_ids(tmp_path: Path) -> None:
    async with shop(tmp_path) as desk:
        session = await desk.ada.open()
        turn = await desk.fails(session, "hello", "ref_turn")
        task = await desk.fails_task("ref_task")
        ran = await desk.run("work", "retry", "support", turn, task)
        assert ran.code == 0, ran.err
        [first, second] = ran.out.splitlines()
        assert re.fullmatch(rf"{turn} -> inv_\w+  running", first)
        assert second == f"{task}  running"
        again = await desk.next()
        assert again.turn.message.text == "hello"
        await desk.ends(again)
        await desk.ends(await desk.next())
        # A second time: the turn was done again, the task has not failed since.
        ran = await desk.run("work", "retry", "support", turn, task, "inv_none", "--json")
        assert ran.code == 1
        assert ran.json["retried"] == [
            {"invocation_id": turn, "by": again.invocation_id, "status": "completed"}
        ]
        refused = [(one["invocation_id"], one["reason"]) for one in ran.json["refused"]]
        assert refused == [(task, "NOT_FAILED"), ("inv_none", "NOT_FOUND")]
        assert await desk.ada.texts(session) == ["hello", "hello"]


async def test_a_failed_task_is_not_done_again_while_another_one_has_its_lock(
    tmp_path: Path,
) -> None:
    async with shop(tmp_path) as desk:
        failed = await desk.fails_task("ref_task", lock="sync:ada")
        holder = await desk.submits_task(lock="sync:ada")
        running = await desk.next()
        assert (holder != failed, running.invocation_id) == (True, holder)
        ran = await desk.run("work", "retry", "support", failed)
        assert (ran.code, ran.out) == (1, "")
        said = f"Task '{failed}' is not done again while task '{holder}' has its lock 'sync:ada'"
        assert said in ran.err
        ran = await desk.run("work", "retry", "support", "--failed", "--yes", "--json")
        assert ran.json == {
            "retried": [],
            "refused": [{"invocation_id": failed, "reason": "NOT_REPEATABLE", "message": said}],
        }
        await desk.ends(running)
        ran = await desk.run("work", "retry", "support", failed)
        assert (ran.code, ran.out) == (0, f"{failed}  running\n")
        again = await desk.next()
        assert (again.invocation_id, again.attempt) == (failed, 2)
        assert await desk.submits_task(lock="sync:ada") == failed, "it has its lock again"


async def test_what_was_done_again_is_no_longer_listed_as_failed_unless_it_is_asked_for(
    tmp_path: Path,
) -> None:
    async with shop(tmp_path) as desk:
        session = await desk.ada.open()
        turn = await desk.fails(session, "hello", "ref_turn")
        other = await desk.fails(session, "other", "ref_other")
        failed = ["work", "list", "support", "--status", "failed"]
        assert (await desk.run("work", "retry", "support", turn)).code == 0
        again = await desk.next()
        await desk.ends(again)

        async def rows(*options: str) -> list[list[str]]:
            ran = await desk.run(*failed, *options)
            assert ran.code == 0, ran.err
            return [row.split() for row in ran.out.splitlines()]

        async def listed(*options: str) -> Any:
            return (await desk.run(*failed, *options, "--json")).json

        [titles, left] = await rows()
        assert titles[-2:] == ["RETRIED", "AS"]
        assert (left[0], left[-1]) == (other, session)
        [_, first, second] = await rows("--retried")
        assert (first[0], second[0], second[-1]) == (other, turn, again.invocation_id)
        assert [one["invocation_id"] for one in (await listed())["invocations"]] == [other]
        [one, two] = (await listed("--retried"))["invocations"]
        assert (one.get("retried_as"), two["retried_as"]) == (None, again.invocation_id)
        # What is left out is not counted towards the limit.
        assert (await listed("--limit", "1"))["more"] is False
        assert (await listed("--limit", "1", "--retried"))["more"] is True

        # A person may still quote its reference.
        found = await desk.run("work", "list", "support", "--reference", "ref_turn")
        assert re.search(rf"^retried as: +{again.invocation_id}$", found.out, re.MULTILINE)
        assert f"work show support {again.invocation_id}" in found.err
        assert "work retry" not in found.err
        # And all that is left is all that is done again.
        ran = await desk.run("work", "retry", "support", "--failed", "--yes", "--json")
        assert [one["invocation_id"] for one in ran.json["retried"]] == [other]
        nothing = await desk.run(*failed)
        assert "--retried shows also what was done again." in nothing.err


async def test_a_retry_whose_answer_is_lost_is_asked_for_again_and_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with shop(tmp_path) as desk:
        task = await desk.fails_task("ref_task")
        async with AdminLink(Access(desk.running.address, desk.running.token, "a test")) as link:
            sent = []

            async def losing(request: Any, **how: Any) -> Any:
                sent.append(request)
                answer = await retry(request, **how)
                if len(sent) == 1:
                    none = grpc.aio.Metadata()
                    raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none)
                return answer

            retry = link.stub.RetryInvocation
            monkeypatch.setattr(link.stub, "RetryInvocation", losing)
            assert await admin.retry_work(link, admin.Form(), "support", [task]) == 0
        assert len(sent) == 2
        assert capsys.readouterr().out == f"{task}  running\n"
        assert (await desk.next()).attempt == 2


async def test_all_that_failed_is_done_again_in_its_order_once_the_operator_is_sure(
    tmp_path: Path,
) -> None:
    async with shop(tmp_path) as desk:
        session = await desk.ada.open()
        for text in ("one", "two"):
            await desk.fails(session, text, f"ref_{text}")
        task = await desk.fails_task("ref_task")
        for typed in ("n\n", ""):
            ran = await desk.run("work", "retry", "support", "--failed", typed=typed)
            assert (ran.code, ran.out) == (1, "")
            assert "Do 3 again (2 of kind message, 1 of kind task)?" in ran.err
        ran = await desk.run("work", "retry", "support", "--failed", "--kind", "task", typed="y\n")
        assert (ran.code, ran.out) == (0, f"{task}  running\n")
        await desk.ends(await desk.next())
        ran = await desk.run("work", "retry", "support", "--failed", "--yes", "--json")
        assert len(ran.json["retried"]) == 2
        for text in ("one", "two"):
            work = await desk.next()
            assert work.turn.message.text == text
            await desk.ends(work)
        ran = await desk.run("work", "retry", "support", "--failed", "--kind", "task", "--yes")
        assert (ran.code, ran.out) == (0, "")
        assert "Nothing of support has failed that could be done again." in ran.err


async def test_a_mended_handler_answers_what_the_broken_one_did_not(tmp_path: Path) -> None:
    home, code = tmp_path / "home", tmp_path / "app.py"
    code.write_text(HANDLER)
    async with running_sidecar(home) as sidecar, Person(sidecar) as ada:
        environment = {"CAPSULE_ADDRESS": sidecar.address, "CAPSULE_HOME": str(home)}
        session = await ada.open()
        command = [CLIENT, "run", "app.py:app"]
        async with BareHandler(sidecar) as nobody:
            desk = Shop(sidecar, ada, nobody)
            async with running(command, environment, cwd=tmp_path) as app:
                await app.shows("attached to")
                async with await ada.follow(session) as follow:
                    await ada.say(session, "hello")
                    end = await follow.sees("invocation_ended", 2)
            reference = end.invocation_ended.reference_id
            found = await desk.run("work", "list", "support", "--reference", reference)
            assert "NameError" in found.out, found
            code.write_text(HANDLER.replace("{BAD}", "{msg.text}"))
            async with running(command, environment, cwd=tmp_path) as app:
                await app.shows("attached to")
                ran = await desk.run("work", "retry", "support", end.invocation_id)
                assert ran.code == 0, ran.err
                await ada.hears(session, "You said hello")


async def test_the_lines_of_the_operating_page_find_and_repair_what_failed(tmp_path: Path) -> None:
    async with shop(tmp_path) as desk:
        session = await desk.ada.open()
        turn = await desk.fails(session, "hello", "ref_turn")
        task = await desk.fails_task("ref_task")
        counted = await desk.shell(snippet("docs/operating.md", "script"))
        assert counted.out == "1 TimeoutError\n1 KeyError\n", counted
        ran = await desk.shell(snippet("docs/operating.md", "repair"), REFERENCE="ref_turn")
        assert ran.code == 0, ran.err
        assert ran.out.startswith(f"invocation: {turn}\n"), ran.out
        assert f"{turn} -> inv_" in ran.out
        assert ran.out.endswith(f"{task}  running\n"), ran.out
        assert (await desk.next()).turn.message.text == "hello"


async def test_without_a_command_they_say_what_there_is(tmp_path: Path) -> None:
    async with shop(tmp_path) as desk:
        for name, commands in (("sessions", ["list", "show"]), ("work", ["list", "show", "retry"])):
            ran = await desk.run(name)
            assert ran.code == 0
            for command in commands:
                assert f" {command} " in ran.out


@pytest.mark.parametrize(
    "command",
    [
        ["apps"],
        ["sessions", "list", "support"],
        ["work", "retry", "support", "inv_1"],
        ["work", "retry", "support", "--failed"],
    ],
    ids=" ".join,
)
async def test_who_cannot_be_asked_is_named(tmp_path: Path, command: list[str]) -> None:
    async with shop(tmp_path / "home") as desk:
        down = await desk.run(*command, CAPSULE_ADDRESS="127.0.0.1:9")
        assert (down.code, down.out) == (1, "")
        assert "No sidecar answers at 127.0.0.1:9." in down.err
        wrong = await desk.run(*command, CAPSULE_TOKEN="guess")
        assert (wrong.code, wrong.out) == (1, "")
        assert f"The sidecar at {desk.running.address} refuses this token" in wrong.err
        assert "CAPSULE_TOKEN" in wrong.err
        missing = await desk.run(*command, CAPSULE_HOME=str(tmp_path / "none"))
        assert (missing.code, missing.out) == (1, "")
        assert str(tmp_path / "none") in missing.err


@pytest.mark.deadline(300)  # for many processes
@pytest.mark.parametrize(
    ("where", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "it is closed")],
)
async def test_output_that_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, where: str, why: str
) -> None:
    async with shop(tmp_path) as desk:
        session = await desk.ada.open()
        failed = await desk.fails(session, "hello", "ref-1")
        await desk.fails(session, "once more", "ref-2")  # is left when the first is done again
        for command in (
            "apps",
            "apps --json",
            "sessions list support",
            f"sessions show support {session}",
            "work list support",
            "work list support --json",
            "work list support --reference ref-1 --json",
            f"work show support {failed} --json",
            f"work retry support {failed}",
            "work retry support --failed --json --yes",
        ):
            ran = await desk.shell(f"capsule-sidecar {command} {where}")
            assert ran.code == 1, (command, ran)
            assert ran.err == f"Standard output cannot be written: {why}.\n", (command, ran)


async def test_nobody_complains_where_the_output_is_not_read(tmp_path: Path) -> None:
    async with shop(tmp_path / "home") as desk:
        # The reader has gone before the command begins.
        ran = await desk.shell(
            f"cd {tmp_path}; mkfifo gone; true <gone & exec 3>gone; wait $!;"
            " capsule-sidecar apps >&3 || echo $? >&2"
        )
        assert (ran.out, ran.err) == ("", "1\n")


@pytest.mark.deadline(300)  # for many processes
async def test_what_is_not_there_and_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    async with shop(tmp_path) as desk:
        await desk.ada.open()
        for command, said in (
            (["sessions", "list", "nobody"], "App 'nobody' was never seen"),
            (["work", "list", "nobody"], "App 'nobody' was never seen"),
            (["sessions", "show", "support", "ses_1"], "Session 'ses_1' does not exist"),
            (["work", "list", "support", "--session", "ses_1"], "Session 'ses_1' does not exist"),
            (["work", "show", "support", "inv_1"], "Invocation 'inv_1' does not exist"),
        ):
            ran = await desk.run(*command)
            assert (ran.code, ran.out, ran.err) == (1, "", said + "\n")
        for command, said in (
            (["work", "retry", "support"], "give the ids of what failed, or --failed"),
            (["work", "retry", "support", "inv_1", "--failed"], "or --failed"),
            (["work", "retry", "support", "inv_1", "--kind", "task"], "goes with --failed"),
            (["work", "list", "support", "--status", "lost"], "timed_out"),
            (["work", "list", "support", "--limit", "0"], "--limit"),
            (["work", "list", "support", "--retried"], "goes with --status failed"),
            (["work", "list", "support", "--status", "queued", "--retried"], "goes with --status"),
            (["sessions", "show", "support", "ses_1", "--events", "201"], "--events"),
            (["sessions", "show", "support"], "SESSION"),
        ):
            ran = await desk.run(*command)
            assert (ran.code, ran.out) == (2, ""), ran
            assert said in re.sub(r"[\s│]+", " ", ran.err), ran.err
        nothing = await desk.run("work", "list", "support", "--status", "failed")
        assert (nothing.code, nothing.out) == (0, "")
        assert "support has no such invocation." in nothing.err
