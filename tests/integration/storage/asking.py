"""Prompts and files as a test asks for them of storage."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from capsule_protocol.v1 import types_pb2
from capsule_sidecar.model.ids import digest, new_id
from capsule_sidecar.model.types import (
    Answer,
    ApprovalQuestion,
    ChoiceQuestion,
    FileQuestion,
    Lease,
    Question,
)
from capsule_sidecar.runtime.prompting import OpenPrompts
from capsule_sidecar.storage import asking, files, schema, unfinished
from capsule_sidecar.storage.people import Person, find_user
from capsule_sidecar.storage.requests import Method, Request
from capsule_sidecar.storage.unit import Unit
from tests.integration.storage.store import Sidecar, request_key

OPEN, ANSWERED = types_pb2.PROMPT_STATUS_OPEN, types_pb2.PROMPT_STATUS_ANSWERED
EXPIRED, WITHDRAWN = types_pb2.PROMPT_STATUS_EXPIRED, types_pb2.PROMPT_STATUS_WITHDRAWN
APPROVAL = ApprovalQuestion("Yes", "No")
MINUTE_MS = 60_000
_METHODS = {
    ApprovalQuestion: Method.PROMPT_APPROVAL,
    ChoiceQuestion: Method.PROMPT_CHOICE,
    FileQuestion: Method.PROMPT_FILE,
}


async def turn(sidecar: Sidecar) -> tuple[str, Lease]:
    """Returns a session and the lease of a turn that runs in it."""
    await sidecar.attach()
    session = await sidecar.open()
    sent = await sidecar.say(session, "hello")
    return session, Lease(sent.ids[1], 1)


def asks(
    sidecar: Sidecar,
    lease: Lease,
    message: str = "Really?",
    *,
    question: Question = APPROVAL,
    timeout_ms: int = MINUTE_MS,
    key: bytes | None = None,
    maximum: int = 100,
) -> partial[bytes]:
    """Returns the operation that asks a person something."""
    content = digest(lease.invocation_id, message, str(timeout_ms), repr(question))
    request = Request(_METHODS[type(question)], key or request_key(), content, content)
    return partial(
        asking.ask, app=sidecar.app, lease=lease, request=request, message=message,
        question=question, timeout_ms=timeout_ms, maximum=maximum,
    )  # fmt: skip


def submit(
    sidecar: Sidecar, lease: Lease, message: str = "Really?", **fields: Any
) -> asyncio.Future[bytes]:
    """Asks a person something; what is asked is on its way when this returns."""
    return sidecar.do(asks(sidecar, lease, message, **fields))


async def ask(
    sidecar: Sidecar, lease: Lease, message: str = "Really?", **fields: Any
) -> types_pb2.Prompt:
    """Asks a person something; returns the prompt."""
    return types_pb2.Prompt.FromString(await submit(sidecar, lease, message, **fields))


def answers(
    sidecar: Sidecar,
    prompt: types_pb2.Prompt,
    given: Answer | None = None,
    *,
    key: bytes | None = None,
    person: Person | None = None,
) -> partial[tuple[bytes, bool]]:
    """Returns the operation that answers a prompt, with yes unless told otherwise."""
    given = given or Answer(approved=True)
    request = Request(
        Method.ANSWER_PROMPT, key or request_key(), digest(prompt.prompt_id, repr(given))
    )
    return partial(
        asking.answer_prompt, person=person or sidecar.ada, request=request,
        key=prompt.prompt_id, answer=given,
    )  # fmt: skip


async def answer(
    sidecar: Sidecar, prompt: types_pb2.Prompt, given: Answer | None = None, **fields: Any
) -> tuple[types_pb2.Prompt, bool]:
    """Answers a prompt; returns how it has ended, and whether this ended it."""
    encoded, accepted = await sidecar.do(answers(sidecar, prompt, given, **fields))
    return types_pb2.Prompt.FromString(encoded), accepted


def acknowledge(sidecar: Sidecar, prompt: types_pb2.Prompt) -> asyncio.Future[None]:
    """Notes that a process has taken how a prompt ended."""
    return sidecar.do(asking.acknowledge, keys=[prompt.prompt_id])


async def upload(sidecar: Sidecar, name: str = "a.txt") -> str:
    """Lets the person have uploaded a file; returns its id. Its bytes are another's matter."""
    key = new_id("fil")

    def insert(unit: Unit) -> None:
        unit.execute(
            schema.files.insert().values(
                key=key, app=sidecar.app, user=find_user(unit, sidecar.ada), session=None,
                state=files.COMPLETE, name=name, content_type="text/plain", size=3,
                sha256=bytes(32), create_ms=unit.now_ms, expire_ms=unit.now_ms + MINUTE_MS,
            )
        )  # fmt: skip

    await sidecar.do(insert)
    return key


def told(sidecar: Sidecar, prompt: types_pb2.Prompt) -> list[tuple[int, types_pb2.Prompt]]:
    """Returns whom the journal told of a prompt's end, by attempt, and what."""
    resolved = [
        (notice.attempt, types_pb2.Prompt.FromString(notice.resolved))
        for notice in sidecar.told.notices
        if notice.resolved
    ]
    return [(attempt, end) for attempt, end in resolved if end.prompt_id == prompt.prompt_id]


async def shown(sidecar: Sidecar, session: str) -> list[types_pb2.Prompt]:
    """Returns the prompts of a session's timeline."""
    items, _ = await sidecar.items(session)
    return [
        getattr(item, kind).prompt
        for item in items
        if (kind := str(item.WhichOneof("kind"))) in ("prompt_opened", "prompt_ended")
    ]


async def statuses(sidecar: Sidecar, session: str) -> list[types_pb2.PromptStatus.ValueType]:
    """Returns how each prompt of a session's timeline stands."""
    return [prompt.status for prompt in await shown(sidecar, session)]


async def open_prompts(sidecar: Sidecar) -> list[types_pb2.Prompt]:
    """Returns what a sidecar that starts now shows as open."""
    restored = OpenPrompts()
    for question in await sidecar.read(unfinished.open_questions):
        restored.restore(question)
    found = list(restored.shown(user=1))
    assert restored.total == len(found)
    return [entry.prompt for entry in found]


async def folded(sidecar: Sidecar) -> bool:
    """Whether a sidecar that followed the log shows the same as one that starts now."""
    followed, restored = OpenPrompts(), OpenPrompts()
    for entry in sidecar.told.appended:
        followed.publish(entry)
    for question in await sidecar.read(unfinished.open_questions):
        restored.restore(question)
    return list(followed.shown(user=1)) == list(restored.shown(user=1))


def free(sidecar: Sidecar, process: int) -> int:
    """Returns how many places of a process are free, negative where it runs more than it has."""
    return sidecar.slots._holders[process].free


async def states(sidecar: Sidecar) -> dict[str, tuple[int, int]]:
    """Returns state and attempt of each prompt's row."""

    def rows(connection: Connection) -> dict[str, tuple[int, int]]:
        columns = schema.prompts.c
        found = connection.execute(select(columns.key, columns.state, columns.attempt))
        return {key: (state, attempt) for key, state, attempt in found}

    return await sidecar.journal.read(rows)


async def session_of_file(sidecar: Sidecar, key: str) -> str:
    """Returns the session that a file is of."""
    return (await sidecar.journal.read(partial(files.find, key=key))).file.session_id
