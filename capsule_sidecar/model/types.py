"""What conversations and work are made of.

Enumerations have the numbers of `capsule_protocol.v1` and of the database: they never change.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from capsule_sidecar.model.web_calls import Endpoint, WebResponse


class SessionState(enum.IntEnum):
    """What a session accepts."""

    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class Sender(enum.IntEnum):
    """Who wrote a message."""

    USER = 1
    APP = 2


class InvocationKind(enum.IntEnum):
    """What an invocation is for."""

    MESSAGE = 1
    ACTION = 2
    ENTER = 3
    EXIT = 4
    # Asked of a handler by HTTP: in memory alone, never in the log or the queue.
    DATA = 5
    ENDPOINT = 6
    # Beside the lane.
    TASK = 7
    SCHEDULE = 8


class WorkState(enum.IntEnum):
    """Where an invocation is in the work queue."""

    WAITING = 0  # behind another invocation of its lane
    READY = 1  # at the head of its lane: may be leased
    RUNNING = 2  # leased
    ENDED = 3


class InvocationStatus(enum.IntEnum):
    """How far an invocation is, or how it ended."""

    QUEUED = 1
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    STOPPED = 5
    UNHANDLED = 6
    CANCELLED = 7
    TIMED_OUT = 8


class CancelReason(enum.IntEnum):
    """Why a handler is told to end its work."""

    STOPPED = 1
    DEADLINE = 2
    SUPERSEDED = 3
    SESSION_DELETED = 4
    CALLER_GONE = 5
    TASK_CANCELLED = 6


class OutcomeStatus(enum.IntEnum):
    """How a handler says that it ended."""

    COMPLETED = 1
    FAILED = 2
    CANCELLED = 3
    RELEASED = 4


class ItemKind(enum.IntEnum):
    """What an item of the timeline is."""

    MESSAGE = 1
    STREAM = 2
    BLOCK = 3
    ENDED = 4
    PROMPT = 5


class PromptStatus(enum.IntEnum):
    """How far a prompt is, or how it ended."""

    OPEN = 1
    ANSWERED = 2
    DISMISSED = 3
    EXPIRED = 4
    WITHDRAWN = 5


class Lease(NamedTuple):
    """One piece of work held by one process."""

    invocation_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CollectionIndexes:
    """What a process looks for often in a collection: dotted paths. `scope`: whose it is."""

    name: str
    scope: int
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A handler that is asked at certain times: a cron line in a time zone."""

    name: str
    cron: str
    timezone: str


class TaskStatus(enum.IntEnum):
    """How far a task is, or how it ended."""

    SCHEDULED = 1
    PENDING = 2
    RUNNING = 3
    RETRYING = 4
    COMPLETED = 5
    FAILED = 6
    CANCELLED = 7
    TIMED_OUT = 8


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task as it is submitted. Times are milliseconds.

    Attributes:
        name: What handles it.
        args_json: What it is given: a UTF-8 JSON object.
        in_session: It runs in the session of who submits it.
        start_ms: The Unix time at which it begins at the earliest; 0: at once.
        delay_ms: How long after now, instead.
        retries: How many failed tries are tried again.
        timeout_ms: How long one try may take; 0: without bound.
        lock: What it holds until it ends; empty: nothing.
        redeliver: It is delivered again where its process is lost.
    """

    name: str
    args_json: bytes
    in_session: bool = False
    start_ms: int = 0
    delay_ms: int = 0
    retries: int = 0
    timeout_ms: int = 0
    lock: str = ""
    redeliver: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is now. Times are Unix epoch milliseconds, 0 for none."""

    task_id: str
    name: str
    status: TaskStatus
    session_id: str
    args_json: bytes
    result_json: bytes
    progress: float | None
    progress_message: str
    create_ms: int
    start_ms: int
    end_ms: int
    attempt: int
    failures: int
    retries: int
    reason: str
    reference_id: str
    error_type: str
    lock: str


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks; those for which all that is set holds."""

    name: str = ""
    statuses: frozenset[TaskStatus] = frozenset()
    session_id: str = ""
    task_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Declarations:
    """Which invocations a process takes."""

    message: bool = False
    enter: bool = False
    exit: bool = False
    actions: frozenset[str] = frozenset()
    # Whether each data handler, by name, wants who is signed in.
    data: Mapping[str, bool] = field(default_factory=dict)
    # By their routes.
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    collections: tuple[CollectionIndexes, ...] = ()
    tasks: frozenset[str] = frozenset()
    schedules: tuple[Schedule, ...] = ()

    def queued(self) -> list[InvocationKind]:
        """Return the kinds that are queued and of which something is declared, people's first."""
        declared = {
            InvocationKind.EXIT: self.exit,
            InvocationKind.MESSAGE: self.message,
            InvocationKind.ENTER: self.enter,
            InvocationKind.ACTION: self.actions,
            InvocationKind.SCHEDULE: self.schedules,
            InvocationKind.TASK: self.tasks,
        }
        return [kind for kind, what in declared.items() if what]

    def names(self, kind: InvocationKind) -> tuple[str, ...]:
        """Return what is declared of a kind whose handlers have names."""
        if kind == InvocationKind.ACTION:
            return tuple(self.actions)
        if kind == InvocationKind.TASK:
            return tuple(self.tasks)
        return tuple(schedule.name for schedule in self.schedules)

    def takes(self, kind: InvocationKind, name: str) -> bool:
        """Tell whether an invocation of this kind and name is declared."""
        match kind:
            case InvocationKind.MESSAGE:
                return self.message
            case InvocationKind.ENTER:
                return self.enter
            case InvocationKind.EXIT:
                return self.exit
            case InvocationKind.ACTION:
                return name in self.actions
            case InvocationKind.DATA:
                return name in self.data
            case InvocationKind.ENDPOINT:
                return name in self.endpoints
            case InvocationKind.TASK:
                return name in self.tasks
            case InvocationKind.SCHEDULE:
                return any(schedule.name == name for schedule in self.schedules)

    def guards(self, kind: InvocationKind, name: str) -> bool:
        """Tell whether a data or endpoint handler wants who is signed in."""
        if kind == InvocationKind.DATA:
            return self.data.get(name, False)
        endpoint = self.endpoints.get(name)
        return endpoint is not None and endpoint.authenticated


@dataclass(frozen=True, slots=True)
class UserInfo:
    """An app-scoped person."""

    user_id: str
    email: str = ""
    org_id: str = ""

    @property
    def owner_id(self) -> str:
        """Whose the user's work is: the organisation's, else the user's own."""
        return f"org:{self.org_id}" if self.org_id else self.user_id


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation as it is now. Times are Unix epoch milliseconds."""

    session_id: str
    app: str
    user: UserInfo
    channel: str
    title: str
    state: SessionState
    create_ms: int
    head: int
    activity: int


@dataclass(frozen=True, slots=True)
class DataPatch:
    """Changes of top-level keys of a session's data; values are UTF-8 JSON."""

    set_json: dict[str, bytes] = field(default_factory=dict)
    delete_keys: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set_json or self.delete_keys)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a handler ended an attempt."""

    lease: Lease
    status: OutcomeStatus
    data: DataPatch = DataPatch()
    reference_id: str = ""
    error_type: str = ""
    # Of a data or endpoint request.
    response: WebResponse | None = None
    # Of a task: a UTF-8 JSON value; and that it is not to be tried again.
    result_json: bytes = b""
    no_retry: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of structured UI; the payload is UTF-8 JSON."""

    type: str
    payload_json: bytes
    block_id: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file that is kept.

    Attributes:
        file_id: Its id, `fil_...`.
        name: As a person knows it, without directories.
        content_type: As it was told.
        size: Bytes.
        sha256: Of its bytes.
        create_ms: When it was complete.
        session_id: The session that it is deleted with; empty: none yet.
    """

    file_id: str
    name: str
    content_type: str
    size: int
    sha256: bytes
    create_ms: int
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class FileQuestion:
    """Asks for a file; `accept` is in the form of HTML's attribute."""

    accept: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalQuestion:
    """Asks for yes or no."""

    approve_label: str
    reject_label: str


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """Asks for one of several options."""

    options: tuple[str, ...]


Question = FileQuestion | ApprovalQuestion | ChoiceQuestion


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer to a prompt: one of these is set, or none where it is dismissed."""

    file_id: str | None = None
    approved: bool | None = None
    option: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """The durations and limits that storage itself keeps. Times are milliseconds.

    Attributes:
        lease_ms: How long a lease lasts after a beat.
        late_sweep_ms: A sweep later than this after the last gives every lease a new term.
        turn_deadline_ms: How long one attempt may take.
        stop_grace_ms: How long a cancelled attempt may still write.
        max_attempts: Attempts that may be lost before an invocation fails.
        max_waiting: User messages that may wait in one session.
        max_pending_tasks: Tasks of one name that may be scheduled or wait to be run.
        max_data_bytes: Bytes of a session's data, keys and values.
        request_retention_ms: How long a request id is remembered.
        session_ttl_ms: After how long without an event a session is closed; 0: never.
        task_retention_ms: How long a task without a session is kept after its end.
    """

    lease_ms: int = 15_000
    late_sweep_ms: int = 3_000
    turn_deadline_ms: int = 600_000
    stop_grace_ms: int = 10_000
    max_attempts: int = 3
    max_waiting: int = 100
    max_pending_tasks: int = 10_000
    max_data_bytes: int = 1 << 20
    request_retention_ms: int = 86_400_000
    session_ttl_ms: int = 0
    task_retention_ms: int = 30 * 86_400_000
