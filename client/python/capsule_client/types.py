"""What handlers read and build: plain values without any tie to the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from os import PathLike

    from capsule_client._files import TurnFiles


class _Remote:
    """What leads from an attachment to its bytes; no field, so values stay plain and comparable."""

    __slots__ = ("_files",)

    _files: TurnFiles


@dataclass(frozen=True, slots=True)
class Attachment(_Remote):
    """A file that a message carries.

    What a session gave out can be read as long as its turn runs; the bytes of one that was made by
    hand, copied or pickled cannot.

    Attributes:
        name: A file name without directories.
        content_type: A media type, as `image/png`.
        url: A signed address, valid for 7 days.
        size: Bytes.
        id: The file's id.
    """

    name: str
    content_type: str
    url: str
    size: int
    id: str

    async def download(self, path: str | PathLike[str]) -> str:
        """Writes the file to disk and returns where it is.

        It is written under a temporary name in the same directory and takes its own name when it is
        complete and has the size and SHA-256 that it was uploaded with. A line that is lost
        meanwhile goes on where it was.

        Args:
            path: A directory that exists, or that ends in a slash, gets the file under its own name
                without anything that could lead elsewhere; else it is the target itself. A
                file of that name is replaced; missing parents are made.

        Raises:
            RuntimeError: for an attachment that no session gave out.
            NotFound: for a file that was deleted.
            Superseded: when its turn has ended or was delivered again.
            Unavailable: when retries did not help.
            CapsuleError: with reason `DIGEST_MISMATCH` for bytes that are not those of the file.
            OSError: for what the disk refuses.
        """
        return await self._reach().download(self, path)

    async def read(self) -> bytes:
        """Returns the file's bytes, all at once in memory; otherwise as `download`."""
        return await self._reach().read(self)

    def _reach(self) -> TurnFiles:
        files: TurnFiles | None = getattr(self, "_files", None)
        if files is None:
            raise RuntimeError(
                f"attachment {self.name!r} leads to no bytes: it was made by hand or copied; "
                "read the one that the session gave you"
            )
        return files


@dataclass(frozen=True, slots=True)
class FileUpload(Attachment):
    """A file that answered `Session.prompt_file`: an `Attachment`, and where it was written.

    Attributes:
        path: Where `prompt_file(path=...)` wrote it; None where it was not asked to.
    """

    path: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One complete text of a conversation.

    Attributes:
        text: Its words; may be empty where there are attachments, and in an interrupted reply.
        sender: `"user"` or `"app"`.
        channel_type: The channel it was written on, as `chat`.
        timestamp: When it was accepted, Unix epoch seconds.
        attachments: The files it carries.
        id: Its id.
        interrupted: True where a streamed reply ended early.
    """

    text: str
    sender: Literal["user", "app"] = "user"
    channel_type: str = ""
    timestamp: float = 0.0
    attachments: Sequence[Attachment] = ()
    id: str = ""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of structured UI.

    Attributes:
        type: How a client renders it: 1 to 64 characters of `[a-z0-9_.-]`.
        payload: JSON, at most 64 KiB.
        id: Showing a block again with the same id changes it in place. Empty: a new one.
    """

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A click on a block.

    Attributes:
        name: The action's name.
        block_id: The block that was clicked; empty where there is none.
        payload: The JSON value that came with it.
    """

    name: str
    block_id: str
    payload: Any


@dataclass(frozen=True, slots=True)
class UserInfo:
    """An app-scoped person: the same e-mail address in two apps is two users.

    Attributes:
        id: Never empty.
        email: Empty where it is not known or not verified.
        org_id: Empty where the user is no member of an organisation.
    """

    id: str
    email: str = ""
    org_id: str = ""

    @property
    def owner_id(self) -> str:
        """`org:<org_id>` for a member of an organisation, else `id`."""
        return f"org:{self.org_id}" if self.org_id else self.id


@dataclass(frozen=True, slots=True)
class SessionChannel:
    """The network that a session lives on.

    Attributes:
        type: `chat`, `api`, `telegram`, `terminal`, or an adapter's own name.
    """

    type: str


TaskStatus = Literal[
    "scheduled", "pending", "running", "retrying", "completed", "failed", "cancelled", "timed_out"
]


_ENDED = frozenset({"completed", "failed", "cancelled", "timed_out"})


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as it was when it was asked for.

    Attributes:
        id: Its id.
        name: What handles it.
        status: `scheduled` (its time has not come), `pending` (waits for a process), `running`,
            `retrying` (failed, and waits for its next try), or how it ended: `completed`, `failed`,
            `cancelled`, `timed_out`.
        session_id: Its session; empty where it has none.
        progress: How far it said it is, 0 to 1; None where it has not said.
        progress_message: What it said about it.
        create_time: When it was submitted.
        start_time: When it begins, or begins again, at the earliest.
        end_time: When it ended; None where it has not.
        attempt: The attempt that runs or ran last; 0 where none has begun.
        failures: Tries that failed.
        retries: How many failed tries are tried again.
        reason: Why it did not complete, as `HANDLER_ERROR`; else empty.
        reference_id: What the handler's process logged a failure under; else empty.
        error_type: The class of the handler's error; else empty.
        lock: The lock that it holds until it ends; empty where it has none.
        args: What it was given; None in lists.
        result: What it returned; None before, and in lists.
    """

    id: str
    name: str
    status: TaskStatus
    session_id: str = ""
    progress: float | None = None
    progress_message: str = ""
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    attempt: int = 0
    failures: int = 0
    retries: int = 0
    reason: str = ""
    reference_id: str = ""
    error_type: str = ""
    lock: str = ""
    args: Mapping[str, Any] | None = None
    result: Any = None

    @property
    def ended(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.status in _ENDED
