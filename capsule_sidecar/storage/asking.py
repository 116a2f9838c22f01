"""What handlers ask people, and what people answer: prompts, as writing operations.

Each function runs on the writer thread, inside a unit of work.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update

from capsule_protocol.v1 import types_pb2
from capsule_sidecar.model import accept
from capsule_sidecar.model.errors import (
    DomainError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Stopped,
)
from capsule_sidecar.model.ids import new_id
from capsule_sidecar.model.types import Answer as PersonsAnswer
from capsule_sidecar.model.types import File, Lease, PromptStatus, Question, WorkState
from capsule_sidecar.storage import attempts, encoding, files, offers, prompts, schema, streams
from capsule_sidecar.storage.people import Person, find_user
from capsule_sidecar.storage.prompts import ENDED, OPEN, SETTLED, PromptRow
from capsule_sidecar.storage.requests import (
    Answer,
    Request,
    handler_scope,
    once,
    remember,
    repeated,
    user_scope,
)
from capsule_sidecar.storage.rows import InvocationRow, SessionRow
from capsule_sidecar.storage.unit import Unit


def ask(
    unit: Unit,
    app: int,
    lease: Lease,
    request: Request,
    message: str,
    question: Question,
    timeout_ms: int,
    maximum: int,
) -> bytes:
    """Open a prompt, or join the one that an earlier attempt opened. Answers it, encoded.

    Args:
        unit: The group's unit.
        app: The app.
        lease: Who asks.
        request: The request.
        message: What is asked.
        question: What kind of answer is wanted.
        timeout_ms: How long it waits.
        maximum: Prompts of one invocation that may be open at once.

    Raises:
        Stopped: The invocation was told to end.
        LimitExceeded: Too many of its prompts are open.
    """

    def work_() -> tuple[Answer, InvocationRow]:
        invocation, session = attempts.fence(unit, app, lease)
        if invocation.cancel:
            raise Stopped("this work was told to end and may ask nothing more")
        # One that waits asks no more than this; a later attempt joins what an earlier one opened.
        if invocation.prompts >= maximum:
            raise LimitExceeded(
                "open_prompts", maximum, f"an invocation has at most {maximum} open prompts"
            )
        found = repeated(unit, invocation, request)
        if found is not None:
            return found, invocation
        streams.withdraw_earlier(unit, session, invocation)
        expire_ms = unit.now_ms + timeout_ms
        prompt = encoding.prompt(new_id("prm"), message, question, unit.now_ms, expire_ms)
        assert request.match is not None
        row = prompts.ask(
            unit, session, invocation, prompt, expire_ms, (int(request.method), request.match)
        )
        answer = Answer(row.offset, (row.key,))
        remember(invocation, request, answer)
        _wait(unit, invocation)
        return answer, invocation

    answer = once(unit, handler_scope(app, request.method), request, work_)
    row = prompts.find(unit, answer.ids[0])
    if row is None:
        raise NotFound("the session was deleted")
    # Behind the request id: a later attempt may ask under the very id of an earlier one.
    asker = unit.invocation(lease.invocation_id, app)
    running = asker.state == WorkState.RUNNING and asker.attempt == lease.attempt
    if running and row.attempt != asker.attempt:
        _join(unit, asker, row)
    return prompts.present(unit, row).SerializeToString()


def _join(unit: Unit, invocation: InvocationRow, row: PromptRow) -> None:
    row.attempt = invocation.attempt
    if row.state == ENDED:
        row.state = SETTLED  # this very answer tells how it ended
    prompts.save(unit, row)
    if row.state == OPEN:
        _wait(unit, invocation)


def _wait(unit: Unit, invocation: InvocationRow) -> None:
    if prompts.wait(unit, invocation):
        offers.release(unit, invocation.process, invocation.app)


def acknowledge(unit: Unit, keys: Sequence[str]) -> None:
    """Note that a process has taken how prompts ended that it was told of."""
    unit.execute(
        update(schema.prompts)
        .where(schema.prompts.c.key.in_(keys), schema.prompts.c.state == ENDED)
        .values(state=SETTLED)
    )


def answer_prompt(
    unit: Unit, person: Person, request: Request, key: str, answer: PersonsAnswer
) -> tuple[bytes, bool]:
    """Answer or dismiss a prompt. Answers the prompt as it has ended, and whether this ended it.

    Raises:
        NotFound: There is no such prompt of this person, or no such file.
        InvalidArgument: The answer is of another kind than the prompt.
    """
    user = find_user(unit, person)
    row = _own_prompt(unit, person, user, key)

    def work_() -> tuple[Answer, None]:
        if row.state != OPEN:
            return Answer(0), None
        invocation = unit.invocation_by_id(row.invocation)
        session = unit.session_by_id(row.session)
        if row.expire_ms <= unit.now_ms:
            prompts.end(unit, session, invocation, row, PromptStatus.EXPIRED)
            return Answer(0), None
        prompt = prompts.present(unit, row)
        _fill(unit, session, prompt, answer)
        dismissed = answer == PersonsAnswer()
        status = PromptStatus.DISMISSED if dismissed else PromptStatus.ANSWERED
        prompts.end(unit, session, invocation, row, status, prompt)
        return Answer(1), None

    accepted = once(unit, user_scope(user, request.method), request, work_).offset == 1
    now = _own_prompt(unit, person, user, key)
    return prompts.present(unit, now).SerializeToString(), accepted


def _own_prompt(unit: Unit, person: Person, user: int, key: str) -> PromptRow:
    row = prompts.find(unit, key)
    if row is not None:
        session = unit.session_by_id(row.session)
        if session.app == person.app and session.user == user:
            return row
    raise NotFound(f"prompt {key!r} does not exist", prompt_id=key)


def _fill(unit: Unit, session: SessionRow, prompt: types_pb2.Prompt, answer: PersonsAnswer) -> None:
    """Put an answer into its prompt; of a file, it is the session's from then on.

    Raises:
        DomainError: It does not fit; nothing has changed.
    """
    kind = prompt.WhichOneof("kind")
    given = _kind_of(answer)
    if given and given != kind:
        raise InvalidArgument(_FIELDS[given], f"this prompt asks for {_WANTED[str(kind)]}")
    if answer.approved is not None:
        prompt.approval.answer = answer.approved
    elif answer.option is not None:
        if not 0 <= answer.option < len(prompt.choice.options):
            raise InvalidArgument(
                "option", f"must be 0 to {len(prompt.choice.options) - 1}, an option's index"
            )
        prompt.choice.answer = answer.option
    elif answer.file_id is not None:
        wanted = prompt.file.accept

        def check(file: File) -> DomainError | None:
            if accept.accepts(wanted, file.name, file.content_type):
                return None
            return InvalidArgument("file_id", f"{file.name!r} is not of what is taken: {wanted}")

        (file,) = files.use(unit, session, [answer.file_id], "file_id", check)
        prompt.file.answer.CopyFrom(encoding.attachment(file))


_FIELDS = {"file": "file_id", "approval": "approved", "choice": "option"}
_WANTED = {
    "file": "a file: give file_id",
    "approval": "yes or no: give approved",
    "choice": "one of its options: give option",
    "integration": "a connection",
}


def _kind_of(answer: PersonsAnswer) -> str:
    if answer.file_id is not None:
        return "file"
    if answer.approved is not None:
        return "approval"
    return "choice" if answer.option is not None else ""


def expire(unit: Unit, limit: int) -> bool:
    """End prompts that nobody answered in time.

    Args:
        unit: The group's unit.
        limit: How many at the most.

    Returns:
        Whether more may be due.
    """
    due = prompts.due(unit, limit)
    for row in due:
        try:
            invocation = unit.invocation_by_id(row.invocation)
            session = unit.session_by_id(row.session)
        except NotFound:
            continue
        prompts.end(unit, session, invocation, row, PromptStatus.EXPIRED)
    return len(due) == limit
