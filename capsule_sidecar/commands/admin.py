"""What `capsule-sidecar apps`, `sessions` and `work` do. Each returns the exit code."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from capsule_protocol.v1 import admin_service_pb2 as pb
from capsule_protocol.v1 import types_pb2
from capsule_sidecar.commands import admin_words as words
from capsule_sidecar.commands.admin_link import MOST_PAGES, AdminError, AdminLink, NoAnswer
from capsule_sidecar.commands.admin_show import (
    show_fields,
    show_json,
    show_json_list,
    show_table,
    show_text,
)
from capsule_sidecar.commands.chat_link import ChatError, find_access
from capsule_sidecar.commands.chat_words import safe
from capsule_sidecar.commands.output import OutputError, check, flush, give_up, tell
from capsule_sidecar.commands.processes import called, quoted
from capsule_sidecar.web.json_form import to_json

_FAILED = (types_pb2.INVOCATION_STATUS_FAILED, types_pb2.INVOCATION_STATUS_TIMED_OUT)
# Kinds that can be done again.
_REPEATABLE = (
    types_pb2.INVOCATION_KIND_MESSAGE,
    types_pb2.INVOCATION_KIND_ACTION,
    types_pb2.INVOCATION_KIND_TASK,
)
# Invocations that one `work retry --failed` does again.
_MOST_RETRIED = 10_000

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Form:
    """Where to ask, and how to answer.

    Attributes:
        address: Where the sidecar is; None: as the environment says.
        json: One JSON document rather than rows.
    """

    address: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Wanted:
    """Which invocations are listed; 0 and empty: any.

    Attributes:
        status: Only with this one.
        kind: Only of this one.
        session_id: Only of this one.
        reference: Only what failed with this reference.
        retried: Of what failed, also what was done again.
        most: How many are shown.
    """

    status: int = 0
    kind: int = 0
    session_id: str = ""
    reference: str = ""
    retried: bool = False
    most: int = 50


def ask(form: Form, work: Callable[[AdminLink], Awaitable[int]]) -> int:
    """Runs a command against the sidecar; returns the exit code.

    It is 1 where the sidecar refuses, and where what it answers cannot be written.
    """
    return _told(lambda: asyncio.run(_linked(form, work)))


def _told(run: Callable[[], int]) -> int:
    """Runs what asks the sidecar; says on standard error why it failed, if it did."""
    try:
        check()
        try:
            code = run()
        except (AdminError, ChatError) as error:
            tell(str(error))
            code = 1
        flush()
    except OutputError as error:
        return give_up(error)
    return code


async def _linked(form: Form, work: Callable[[AdminLink], Awaitable[_Found]]) -> _Found:
    async with AdminLink(find_access(form.address)) as link:
        return await work(link)


# -- apps ----------------------------------------------------------------------------------------


async def list_apps(link: AdminLink, form: Form) -> int:
    """Shows the apps, their processes and what each handles."""
    found = [app async for app in link.apps()]
    if form.json:
        show_json_list("apps", found, more=False)
    elif not found:
        show_text("No app was ever attached here.")
    for app in [] if form.json else found:
        show_text("\n".join(words.app_rows(app)))
    return 0


# -- sessions ------------------------------------------------------------------------------------


async def list_sessions(link: AdminLink, form: Form, app: str, user: str, most: int) -> int:
    """Shows an app's sessions, the newest first."""
    found, more = await link.sessions(app, user).first(most)
    if form.json:
        show_json_list("sessions", found, more=more)
        return 0
    if found:
        show_table(words.SESSION_TITLES, map(words.session_row, found))
    else:
        tell(f"No session of {safe(user)} in {app}." if user else f"{app} has no session.")
    _tell_more(more, len(found))
    return 0


async def show_session(link: AdminLink, form: Form, app: str, key: str, events: int) -> int:
    """Shows a session, its data and the end of its log."""
    answer = await link.call(
        link.stub.GetAppSession, pb.GetAppSessionRequest(app=app, session_id=key, events=events)
    )
    if form.json:
        show_json(to_json(answer))
        return 0
    show_fields(words.session_fields(answer))
    show_text("log:")
    for event in answer.events:
        show_text(words.event_row(event))
    return 0


# -- work ----------------------------------------------------------------------------------------


async def list_work(link: AdminLink, form: Form, app: str, wanted: Wanted) -> int:
    """Shows an app's invocations, the newest first."""
    if wanted.reference:
        return await _find(link, form, app, wanted)
    pages = link.invocations(app, wanted.status, wanted.kind, wanted.session_id)
    to_do = wanted.status in _FAILED and not wanted.retried
    found, more = await pages.first(wanted.most, _is_left if to_do else None)
    if form.json:
        show_json_list("invocations", found, more=more)
        return 0
    if found:
        show_table(words.INVOCATION_TITLES, map(words.invocation_row, found))
    else:
        also = " --retried shows also what was done again." if to_do else ""
        tell(f"{app} has no such invocation.{also}")
    _tell_more(more, len(found))
    return 0


def _is_left(one: pb.InvocationInfo) -> bool:
    """Whether it was not done again."""
    return not one.retried_as


async def _find(link: AdminLink, form: Form, app: str, wanted: Wanted) -> int:
    """Shows what failed with a reference: an exit code of 1 says that nothing did."""
    cut = False
    for status in [wanted.status] if wanted.status else _FAILED:
        pages = link.invocations(app, status, wanted.kind, wanted.session_id)
        async for one in pages:
            if one.reference_id == wanted.reference:
                if form.json:
                    show_json_list("invocations", [one], more=False)
                    return 0
                return await show_work(link, form, app, one.invocation_id)
        cut = cut or pages.cut
    if form.json:
        show_json_list("invocations", [], more=cut)
    far = f"; only the newest were looked at ({MOST_PAGES} pages)" if cut else ""
    tell(f"Nothing of {app} failed with the reference {safe(wanted.reference)}{far}.")
    return 1


async def show_work(link: AdminLink, form: Form, app: str, key: str) -> int:
    """Shows an invocation, with its task where it is one."""
    answer = await link.call(
        link.stub.GetInvocation, pb.GetInvocationRequest(app=app, invocation_id=key)
    )
    if form.json:
        show_json(to_json(answer))
        return 0
    show_fields(words.invocation_fields(answer))
    one = answer.invocation
    hints = []
    if one.session_id:
        hints.append(("its session", ["sessions", "show", app, one.session_id]))
    if one.retried_as:
        hints.append(("what does it again", ["work", "show", app, one.retried_as]))
    elif one.status in _FAILED and one.kind in _REPEATABLE:
        hints.append(("do it again", ["work", "retry", app, one.invocation_id]))
    for name, command in hints:
        tell(f"{name}: {quoted([called(), *command])}")
    return 0


async def retry_work(link: AdminLink, form: Form, app: str, keys: Sequence[str]) -> int:
    """Does invocations again in the order named; returns 1 where one of them was refused."""
    done: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for key in dict.fromkeys(keys):
        try:
            answer = await link.call(
                link.stub.RetryInvocation,
                pb.RetryInvocationRequest(app=app, invocation_id=key, request_id=str(uuid.uuid4())),
            )
            status = await _status(link, app, answer.invocation_id)
        except NoAnswer:
            raise
        except AdminError as error:
            refused.append({"invocation_id": key, "reason": error.reason, "message": str(error)})
            if not form.json:
                tell(f"{safe(key)}: {error}")
            continue
        done.append({"invocation_id": key, "by": answer.invocation_id, "status": status})
        if not form.json:
            again = key if answer.invocation_id == key else f"{key} -> {answer.invocation_id}"
            show_text(f"{safe(again)}  {status}")
    if form.json:
        show_json({"retried": done, "refused": refused})
    return 1 if refused else 0


async def _status(link: AdminLink, app: str, key: str) -> str:
    """Returns how far what does it again is: of one that was done again before, how it ended."""
    found = await link.call(
        link.stub.GetInvocation, pb.GetInvocationRequest(app=app, invocation_id=key)
    )
    return words.status_name(found.invocation.status)


def retry_failed(form: Form, app: str, kind: int, *, sure: bool) -> int:
    """Does all again that failed, the oldest first, once the operator is sure.

    So what a person wrote is asked again in the order in which it was written.
    """
    return _told(lambda: _retry_failed(form, app, kind, sure=sure))


def _retry_failed(form: Form, app: str, kind: int, *, sure: bool) -> int:
    wanted = asyncio.run(_linked(form, lambda link: _failed(link, app, kind)))
    if not wanted:
        tell(f"Nothing of {app} has failed that could be done again.")
        if form.json:
            show_json({"retried": [], "refused": []})
        return 0
    kinds = Counter(words.kind_name(one.kind) for one in wanted)
    counted = ", ".join(f"{count} of kind {name}" for name, count in sorted(kinds.items()))
    # Asked between two loops: within one, Ctrl-C would wait for the answer.
    if not sure and not _confirmed(f"Do {len(wanted)} again ({counted})?"):
        tell("Nothing was done.")
        return 1
    keys = [one.invocation_id for one in wanted]
    return ask(form, lambda link: retry_work(link, form, app, keys))


async def _failed(link: AdminLink, app: str, kind: int) -> list[pb.InvocationInfo]:
    """Returns what has failed, can be done again and was not, the oldest first."""
    found: list[pb.InvocationInfo] = []
    cut = False
    for status in _FAILED:
        entries, more = await link.invocations(app, status, kind).first(_MOST_RETRIED, _is_left)
        found += entries
        cut = cut or more
    wanted = [one for one in found if one.kind in _REPEATABLE]
    if left := len(found) - len(wanted):
        tell(f"{left} others belong to their time and cannot be done again.")
    if cut:
        tell("There may be more that failed before these.")
    return sorted(
        wanted, key=lambda one: (one.create_time.seconds, one.create_time.nanos, one.invocation_id)
    )


def _confirmed(question: str) -> bool:
    tell(f"{question} [y/N] ", end="")
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # nobody is there to answer
        tell("")
    return answer.strip().lower() in ("y", "yes")


def _tell_more(more: bool, shown: int) -> None:
    if more:
        tell(f"There may be more than these {shown}: --limit shows more.")
