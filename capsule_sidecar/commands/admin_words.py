"""What an operator reads of apps, invocations, sessions and their logs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from capsule_protocol.v1 import admin_service_pb2 as pb
from capsule_protocol.v1 import events_pb2, state_service_pb2, task_service_pb2, types_pb2
from capsule_protocol.v1 import handler_service_pb2 as handler_pb
from capsule_sidecar.commands.chat_prompts import outcome, text_of
from capsule_sidecar.commands.chat_words import one_line, safe, size_words

# Of a text in a row of a log, of what a block carries there, and of a title in a list.
_TEXT_CHARS = 300
_PAYLOAD_CHARS = 120
_TITLE_CHARS = 40

INVOCATION_TITLES = ("INVOCATION", "KIND", "NAME", "STATUS", "CREATED", "REASON", "REFERENCE",
                     "SESSION", "RETRIED AS")  # fmt: skip
SESSION_TITLES = ("SESSION", "USER", "STATE", "OPENED", "EVENTS", "UNENDED", "TITLE")


def status_name(status: int) -> str:
    """Returns an invocation's status as the command line has it: `timed_out`."""
    return _short(types_pb2.InvocationStatus, status)


def kind_name(kind: int) -> str:
    """Returns an invocation's kind as the command line has it: `message`."""
    return _short(types_pb2.InvocationKind, kind)


def _short(enum: Any, number: int) -> str:
    """Returns the name of a value without that of its enumeration; of an unknown one the number."""
    values = enum.DESCRIPTOR.values_by_number
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    value = values.get(number)
    return str(number) if value is None else str(value.name.removeprefix(prefix).lower())


def when(time: Timestamp) -> str:
    """Returns a time in the operator's own zone; empty for none."""
    if not (time.seconds or time.nanos):
        return ""
    return time.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def pretty(data: bytes) -> str:
    """Returns JSON on as many rows as it needs."""
    try:
        return safe(json.dumps(json.loads(data), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return safe(data.decode("utf-8", "replace"))


# -- apps ----------------------------------------------------------------------------------------


def app_rows(app: pb.App) -> list[str]:
    """Returns the rows of an app: its schedules, its processes, and what each handles."""
    rows = [safe(app.app), *map(_in_force, app.schedules)]
    if not app.processes:
        rows.append("  no process is attached")
    for process in app.processes:
        busy = f"runs {process.running} of {process.concurrency}"
        rows.append(
            f"  {safe(process.process_id)}  {one_line(process.client_name)}"
            f" {one_line(process.client_version)}  {busy}"
            + ("  takes no new work" if process.draining else "")
        )
        declared = _declared(process.declarations)
        width = max((len(name) for name, _ in declared), default=0)
        rows += [f"    {name:<{width}}  {what}" for name, what in declared]
    return rows


def _in_force(one: pb.ScheduleInfo) -> str:
    line = one_line(f"{one.name}: {one.cron} ({one.timezone or 'UTC'})")
    return f"  schedule  {line}  next {when(one.next_time)}"


def _declared(declared: handler_pb.Declarations) -> list[tuple[str, str]]:
    handled = [name for name in ("message", "enter", "exit") if getattr(declared, name)]
    rows = [("handles", ", ".join(handled))]
    rows.append(("actions", _listed(declared.actions)))
    rows.append(("tasks", _listed(declared.tasks)))
    rows += [
        ("schedule", one_line(f"{one.name}: {one.cron} ({one.timezone or 'UTC'})"))
        for one in declared.schedules
    ]
    rows.append(("data", _listed(_guarded(one.name, one.authenticated) for one in declared.data)))
    rows += [
        ("endpoint", _guarded(one_line(f"{one.method} {one.path}"), one.authenticated))
        for one in declared.endpoints
    ]
    rows += [("collection", _collection(one)) for one in declared.collections]
    return [(name, what) for name, what in rows if what]


def _collection(one: handler_pb.CollectionDeclaration) -> str:
    scope = _short(state_service_pb2.Scope, one.collection.scope)
    paths = "; ".join(one.indexes)
    named = f"{one.collection.name} ({scope})"
    return one_line(f"{named}, indexes: {paths}" if paths else named)


def _guarded(name: str, authenticated: bool) -> str:
    return f"{name} (signed in)" if authenticated else name


def _listed(names: Iterable[str]) -> str:
    return one_line(", ".join(names))


# -- invocations ---------------------------------------------------------------------------------


def invocation_row(one: pb.InvocationInfo) -> Sequence[str]:
    """Returns an invocation's cells, in the order of `INVOCATION_TITLES`."""
    return (
        safe(one.invocation_id), kind_name(one.kind), one_line(one.name), status_name(one.status),
        when(one.create_time), safe(one.reason), safe(one.reference_id), safe(one.session_id),
        safe(one.retried_as),
    )  # fmt: skip


def invocation_fields(answer: pb.GetInvocationResponse) -> list[tuple[str, str]]:
    """Returns what is known of an invocation, and of its task."""
    one = answer.invocation
    fields = [
        ("invocation", one.invocation_id),
        ("kind", kind_name(one.kind)),
        ("name", one_line(one.name)),
        ("status", status_name(one.status)),
        ("session", one.session_id),
        ("created", when(one.create_time)),
        ("ended", when(one.end_time)),
        ("attempt", str(one.attempt)),
        ("process", one.process_id),
        ("reason", one.reason),
        ("error", one_line(one.error_type)),
        ("reference", one.reference_id),
        ("retried as", one.retried_as),
    ]
    if answer.HasField("task"):
        fields += _task_fields(answer.task)
    return [(name, safe(value)) for name, value in fields]


def _task_fields(task: task_service_pb2.Task) -> list[tuple[str, str]]:
    said = f"{task.progress:.0%} {one_line(task.progress_message)}".strip()
    return [
        ("task", _short(task_service_pb2.TaskStatus, task.status)),
        ("failed tries", f"{task.failures}; up to {task.retries} are tried again"),
        ("begins", when(task.start_time)),
        ("progress", said if task.HasField("progress") else ""),
        ("lock", one_line(task.lock)),
        ("arguments", pretty(task.args_json or b"{}")),
        ("result", pretty(task.result_json) if task.result_json else ""),
    ]


# -- sessions ------------------------------------------------------------------------------------


def session_row(one: pb.SessionInfo) -> Sequence[str]:
    """Returns a session's cells, in the order of `SESSION_TITLES`."""
    session = one.session
    return (
        safe(session.session_id), safe(one.identity), _short(types_pb2.SessionState, session.state),
        when(session.create_time), str(session.head_offset), str(one.unended),
        one_line(session.title, _TITLE_CHARS),
    )  # fmt: skip


def session_fields(answer: pb.GetAppSessionResponse) -> list[tuple[str, str]]:
    """Returns what is known of a session, without its log."""
    one, session = answer.session, answer.session.session
    return [
        ("session", safe(session.session_id)),
        ("user", safe(f"{one.identity} ({session.user.user_id})")),
        ("email", safe(session.user.email)),
        ("organisation", safe(session.user.org_id)),
        ("title", one_line(session.title)),
        ("state", _short(types_pb2.SessionState, session.state)),
        ("opened", when(session.create_time)),
        ("events", str(session.head_offset)),
        ("unended", str(one.unended)),
        ("data", pretty(answer.data_json or b"{}")),
    ]


def event_row(event: events_pb2.Event) -> str:
    """Returns an event of a log in one row."""
    return f"{event.offset:>6}  {when(event.create_time)}  {_event(event)}"


def _event(event: events_pb2.Event) -> str:
    of = safe(event.invocation_id)
    match event.WhichOneof("kind"):
        case "session_opened":
            return f"opened -> {of}"
        case "session_updated":
            return f"title: {one_line(event.session_updated.title, _TEXT_CHARS)}"
        case "session_closing":
            return f"closing -> {of}"
        case "session_closed":
            return "closed"
        case "message_added":
            return _message(event.message_added.message, of)
        case "stream_opened":
            return "app begins to write" + _by(of)
        case "stream_withdrawn":
            return "what an earlier attempt wrote is withdrawn" + _by(of)
        case "block_shown":
            block = event.block_shown.block
            payload = one_line(block.payload_json.decode("utf-8", "replace"), _PAYLOAD_CHARS)
            return f"app shows {safe(block.type)} {one_line(block.block_id)}: {payload}" + _by(of)
        case "action_sent":
            sent = event.action_sent
            payload = one_line(sent.payload_json.decode("utf-8", "replace"), _PAYLOAD_CHARS)
            return f"user clicks {one_line(sent.name)} {payload}".rstrip() + f" -> {of}"
        case "stop_requested":
            return f"user stops {of}"
        case "invocation_ended":
            return _ended(event.invocation_ended, of)
        case "prompt_opened":
            asked = one_line(text_of(event.prompt_opened.prompt), _TEXT_CHARS)
            return f"app asks: {asked}" + _by(of)
        case "prompt_ended":
            prompt = event.prompt_ended.prompt
            return f"question {one_line(text_of(prompt), _TITLE_CHARS)}: {outcome(prompt)}"
        case "task_submitted":
            task = event.task_submitted
            return f"{of} submits task {one_line(task.name)}: {safe(task.task_id)}"
        case _:
            return "an event that this version does not know"


def _message(message: types_pb2.Message, of: str) -> str:
    files = [f"{one_line(a.name)} ({size_words(a.size)})" for a in message.attachments]
    text = one_line(message.text, _TEXT_CHARS)
    if files:
        text = f"{text} [{', '.join(files)}]".strip()
    if message.sender == types_pb2.SENDER_USER:
        return f"user: {text} -> {of}"
    return f"app: {text}" + (" (interrupted)" if message.interrupted else "") + _by(of)


def _by(of: str) -> str:
    """Returns who wrote it; nothing where the sidecar itself did."""
    return f" ({of})" if of else ""


def _ended(ended: events_pb2.InvocationEnded, of: str) -> str:
    words = f"{of} {kind_name(ended.kind)} {status_name(ended.status)}"
    why = ", ".join(safe(part) for part in (ended.reason, ended.reference_id) if part)
    return f"{words}: {why}" if why else words
